"""Balanced runs of which pages are made, and a browser to look at these."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from ltrsys.commands.training.balance import balance_run
from ltrsys.evaluation.balanced_run import BalancedRun
from ltrsys.runs.folder import RunFolder
from tests.classifiers.conftest import _one_thread
from tests.classifiers.runs import make_run
from tests.pages.browser import Browser, why_not

__all__ = ["_one_thread"]

INJECTIONS = ["</script><script>window.hurt=1</script>", "<img src=x onerror=window.hurt=1>", "{{7*7}} & \u2028 'a\""]
"""Names of the first classes."""


@pytest.fixture(scope="session")
def strange_shards(tmp_path_factory: pytest.TempPathFactory, tiny_shards: Path) -> Path:
    """The tiny dataset, with names of classes that a page must not take for HTML, and groups of some classes."""
    folder = tmp_path_factory.mktemp("strange") / "shards"
    shutil.copytree(tiny_shards, folder)
    record = json.loads((folder / "dataset.json").read_text())
    for place, name in enumerate(INJECTIONS):
        record["classes"][place]["name"] = name
    record["classes"][3]["taxonomy"] = {"family": "Fagaceae", "genus": "Quercus <b>"}
    (folder / "dataset.json").write_text(json.dumps(record))
    return folder


@pytest.fixture(scope="session")
def balanced(tmp_path_factory: pytest.TempPathFactory, strange_shards: Path) -> BalancedRun:
    """A balanced run with metrics; tests leave it as it is."""
    run = make_run(tmp_path_factory.mktemp("runs") / "strange", strange_shards)
    _write_metrics(run)
    balance_run(run.path, ["balance.tilt_grid=[]"], None, as_json=False)
    return BalancedRun.open(run.path)


@pytest.fixture(scope="session")
def another(tmp_path_factory: pytest.TempPathFactory, strange_shards: Path) -> BalancedRun:
    """Another run, on the same shards: a cosine head, fewer classifiers, no metrics."""
    run = make_run(tmp_path_factory.mktemp("runs") / "another", strange_shards, head="cosine")
    balance_run(run.path, ["balance.tilt_grid=[]"], "joint,ncm", as_json=False)
    run.metrics.unlink()  # those of `balance`
    return BalancedRun.open(run.path)


def _write_metrics(run: RunFolder) -> None:
    lines = [{"step": step, "epoch": step / 100, "loss": 5 / (1 + step), "lr": 0.1} for step in range(1, 1001)]
    lines.append({"step": 1000, "epoch": 10.0, "val_all": 41.0, "val_mean_class_accuracy": None})
    lines.append({"step": 0, "test/joint/all": 40.0})  # as `balance` logs it
    run.metrics.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 10')


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if reason := why_not():
        pytest.skip(reason)
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()
