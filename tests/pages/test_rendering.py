"""The page as text: what is in it, and what cannot get out of its place."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from ltrsys.errors import UsageError
from ltrsys.evaluation.balanced_run import BalancedRun
from ltrsys.pages.gathering import gather
from ltrsys.pages.model import Page, packed
from ltrsys.pages.panels.base import PANELS
from ltrsys.pages.rendering import render
from ltrsys.pages.thumbnails import Thumbnails
from ltrsys.registry import load_plugin
from tests.pages.conftest import INJECTIONS

pytestmark = pytest.mark.long


class Parsed(HTMLParser):
    """Scripts, tags and addresses of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.addresses: list[str] = []
        self.policy = ""
        self._script: dict[str, str | None] | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.addresses += [value for name, value in attrs if name in ("src", "href") and value]
        if tag == "script":
            self._script = values
        if tag == "meta" and values.get("http-equiv") == "Content-Security-Policy":
            self.policy = values["content"] or ""

    def handle_data(self, data: str) -> None:
        if self._script is not None:
            self.scripts.append((self._script, data))

    def handle_endtag(self, tag: str) -> None:
        self._script = None


@pytest.fixture(scope="module")
def page(balanced: BalancedRun) -> Page:
    return gather([balanced], Thumbnails(wanted=False))


@pytest.fixture(scope="module")
def parsed(page: Page) -> Parsed:
    return Parsed(render(page, []))


def test_every_script_is_one_that_the_policy_knows(parsed: Parsed) -> None:
    known = re.findall(r"'sha256-([^']+)'", parsed.policy)
    code = [text for attributes, text in parsed.scripts if "type" not in attributes]
    assert [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in code] == known
    assert "'unsafe-inline'" not in parsed.policy.split("script-src")[1]
    assert parsed.policy.startswith("default-src 'none'")


def test_it_asks_for_nothing(parsed: Parsed) -> None:
    assert [address for address in parsed.addresses if not address.startswith(("#", "data:"))] == []


def test_its_values_are_what_was_gathered(page: Page, parsed: Parsed, balanced: BalancedRun) -> None:
    (data,) = (json.loads(text) for attributes, text in parsed.scripts if attributes.get("id") == "page-data")
    assert Page.model_validate(data["page"] | {"runs": []}) == page.model_copy(update={"runs": []})
    assert data["page"]["classes"][0]["names"][: len(INJECTIONS)] == INJECTIONS
    assert data["page"]["classes"][0]["lineages"] == ["latin", "Fagaceae › Quercus <b>", "greek"]
    (run,) = data["page"]["runs"]
    labels = balanced.reported.split.labels
    for part, line in zip(run["classifiers"], balanced.results.results, strict=True):
        correct = np.frombuffer(base64.b64decode(part["correct"]["data"]), dtype=part["correct"]["kind"])
        assert 100 * correct.sum() / len(labels) == pytest.approx(line.all)
    tau = run["panels"]["weight_norms_and_tau"]["tau"]
    correct = np.frombuffer(base64.b64decode(tau["correct"]["data"]), dtype=tau["correct"]["kind"])
    by_tau = correct.reshape(tau["correct"]["shape"]).sum(axis=1)
    assert (100 * by_tau / len(labels)).tolist() == pytest.approx(tau["curve"]["all"])


def test_the_licence_of_the_charts_is_there(page: Page) -> None:
    text = render(page, [])
    assert "Redistribution and use in source and binary forms" in text
    assert "Bokeh Contributors" in text


@pytest.mark.parametrize(("largest", "kind"), [(255, "uint8"), (256, "uint16"), (65_536, "uint32")])
def test_whole_numbers_take_as_few_bytes_as_they_can(largest: int, kind: str) -> None:
    values = np.array([[0, 1], [2, largest]])
    part = packed(values)
    assert (part.kind, part.shape) == (kind, [2, 2])
    assert np.frombuffer(base64.b64decode(part.data), dtype=kind).tolist() == values.ravel().tolist()


PLUGIN = """
from ltrsys.pages.model import Part
from ltrsys.pages.panels.base import PANELS, Panel


@PANELS.register
class Mine(Panel):
    name, summary, title, explanation = "mine", "mine", "My own", "What I look at."

    @classmethod
    def data(cls, material):
        return Part()
"""


@pytest.mark.usefixtures("plugins_forgotten")
def test_a_panel_of_ones_own(balanced: BalancedRun, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(PLUGIN)
    load_plugin(str(tmp_path / "mine.py"))
    assert "mine" in PANELS
    with pytest.raises(UsageError, match=r"mine\.js: the script of the panel mine cannot be read"):
        render(gather([balanced], Thumbnails(wanted=False)), [])
    (tmp_path / "mine.js").write_text('ltrsys.panel("mine", (body) => body.append("<!-- here"));')
    with pytest.raises(UsageError, match="script of mine holds `<!--`"):
        render(gather([balanced], Thumbnails(wanted=False)), [])
    (tmp_path / "mine.js").write_text('ltrsys.panel("mine", (body) => body.append("here"));')
    assert "What I look at." in render(gather([balanced], Thumbnails(wanted=False)), [])
