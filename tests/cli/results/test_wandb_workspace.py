"""`ltrsys wandb-workspace`, with a server on this machine in the place of wandb's."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ltrsys.classifiers.base import CLASSIFIERS
from ltrsys.runs.dashboard import dashboard
from ltrsys.runs.metric_names import METRICS, is_result
from tests.runs.trackers.stand_in import StandIn, stand_in_server

ROOT = Path(__file__).parents[3]
PAPERS = ["joint", "ncm", "crt", "tau", "lws"]
Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def server() -> Iterator[StandIn]:
    with stand_in_server() as state:
        yield state


@pytest.fixture
def command(server: StandIn, tmp_path: Path) -> Command:
    """Call `ltrsys wandb-workspace`, with a login unless one says otherwise."""

    def call(*arguments: str, before: str = "", **environment: str | None) -> "subprocess.CompletedProcess[str]":
        names = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
        given = {**names, **server.environment(tmp_path), "PYTHONPATH": str(ROOT), **environment}
        code = f"{before}\nfrom ltrsys.cli.main import main; main()"
        return subprocess.run(
            [sys.executable, "-c", code, "wandb-workspace", *arguments],
            env={name: value for name, value in given.items() if value is not None},
            cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip

    return call


def sections_of(view: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    sections = json.loads(view["spec"])["section"]["panelBankConfig"]["sections"]
    return {section["name"]: section["panels"] for section in sections}


@pytest.mark.long
def test_it_makes_the_sections_of_the_dashboard(server: StandIn, command: Command) -> None:
    done = command("--project", "letters")
    assert done.returncode == 0, done.stderr
    (view,) = server.views
    assert (view["entityName"], view["projectName"], view["displayName"]) == ("somebody", "letters", "ltrsys")
    assert done.stdout.startswith(f"{server.url}/somebody/letters?nw=")
    assert server.called("CreateProject") == [{"input": {"entityName": "somebody", "name": "letters"}}]
    sections = sections_of(view)
    for section in dashboard("test", PAPERS):
        panels = sections[section.name]
        assert len(panels) == len(section.panels)
        for shown, panel in zip(panels, section.panels, strict=True):
            if panel.kind in ("curves", "bars") and panel.keys:
                assert shown["config"]["metrics"] == list(panel.keys)
            elif panel.pattern:
                assert panel.pattern in json.dumps(shown["config"]).replace("\\\\", "\\")
            else:
                assert all(key in json.dumps(shown["config"]) for key in panel.keys)
    (loss, *_) = sections["Overview"]
    assert (loss["config"]["xAxis"], loss["config"]["chartTitle"]) == ("step", "Loss")


@pytest.mark.long
def test_team_split_and_classifiers_are_said(server: StandIn, command: Command) -> None:
    done = command("--entity", "team", "--split", "val", "--classifiers", "joint, mine")
    assert done.returncode == 0, done.stderr
    (view,) = server.views
    assert view["entityName"] == "team"
    bars = sections_of(view)["Balance"][0]
    assert bars["config"]["metrics"] == ["val/joint/few", "val/mine/few"]


@pytest.mark.long
def test_without_a_login_one_line_says_how_to_come_by_one(command: Command) -> None:
    done = command(WANDB_API_KEY=None)
    assert done.returncode == 2
    assert re.fullmatch(r"ltrsys: wandb has no login .* Run `wandb login`, or set WANDB_API_KEY; .*\n", done.stderr)


@pytest.mark.long
def test_a_key_that_the_server_does_not_know_is_no_login(server: StandIn, command: Command) -> None:
    server.viewer = None
    done = command()
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "wandb login" in done.stderr
    assert server.views == []


@pytest.mark.long
def test_what_the_server_refuses_is_one_line(server: StandIn, command: Command) -> None:
    server.refused = {"UpsertView2": "permission denied"}
    done = command()
    assert done.returncode == 1, done.stderr
    assert "unexpected" not in done.stderr
    assert "wandb's server did not take the view" in done.stderr
    assert "permission denied" in done.stderr


@pytest.mark.long
def test_an_address_that_is_none_of_a_view_is_one_line(command: Command) -> None:
    for url in ("nonsense", "https://wandb.ai/a/b/runs/c"):
        done = command("--url", url)
        assert done.returncode == 2, done.stderr
        assert url in done.stderr
        assert done.stderr.count("\n") == 1


def test_without_the_package_the_error_says_what_to_install(command: Command) -> None:
    done = command(before="import sys; sys.modules['wandb_workspaces'] = None")
    assert done.returncode == 2
    assert "pip install 'ltrsys[wandb-workspaces]'" in done.stderr


def test_every_key_of_the_dashboard_is_one_that_is_logged() -> None:
    known = {metric.key for metric in METRICS}
    for section in dashboard("test", CLASSIFIERS.names()):
        for panel in section.panels:
            keys = panel.keys if panel.over != "seconds" and panel.kind in ("curves", "bars") else ()
            assert all(key in known or is_result(key) for key in keys), panel
            assert panel.over in (*known, "seconds")
    shown = {key for section in dashboard("test", PAPERS) for panel in section.panels for key in panel.keys}
    axes = {"step", "epoch", "balance/number"}
    assert known - shown == axes, "what is logged is shown"
