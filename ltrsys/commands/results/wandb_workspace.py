"""Making the dashboard on wandb's server: a saved view of a project, built by the package wandb-workspaces."""

import importlib
import logging
from collections.abc import Sequence
from typing import Any

from ltrsys.errors import LtrsysError, UsageError
from ltrsys.runs.dashboard import SECONDS, Panel, dashboard

log = logging.getLogger("ltrsys")

NAME = "ltrsys"
"""Of the view."""
WIDTH = 2
"""Panels beside one another."""


def make_workspace(
    entity: str | None, project: str, split: str, classifiers: Sequence[str], url: str | None = None
) -> str:
    """Make a saved view with the dashboard's sections; return its address.

    Args:
        entity: User or team whose project it is; None for the one that wandb takes by itself.
        project: The project; it is made where it is not there yet.
        split: The reported split.
        classifiers: Those that the bars compare.
        url: Address of a view made before, whose sections are put in order again.

    Raises:
        UsageError: Without the package or a login, or for an address that is none of a view.
        LtrsysError: Where the server refuses.
    """
    views, panels = _package("wandb_workspaces.workspaces"), _package("wandb_workspaces.reports.v2")
    import wandb

    # the two packages raise errors of many types, which have nothing but Exception in common
    try:
        api = wandb.Api()
        entity = entity or api.default_entity
    except Exception as error:
        raise UsageError(
            f"wandb has no login that its server takes ({_one_line(error)}). Run `wandb login`, or set WANDB_API_KEY; "
            "WANDB_BASE_URL names a server of one's own."
        ) from None
    if entity is None:
        raise UsageError("wandb's server knows no user for this login. Run `wandb login` again, or give --entity.")
    sections = [
        views.Section(
            name=section.name,
            panels=[_panel(panels, panel) for panel in section.panels],
            is_open=True,
            layout_settings=views.SectionLayoutSettings(columns=WIDTH, rows=-(-len(section.panels) // WIDTH)),
        )
        for section in dashboard(split, classifiers)
    ]
    try:
        view = None if url is None else views.Workspace.from_url(url)
    except Exception as error:
        raise UsageError(f"--url {url}: no saved view of wandb ({_one_line(error)})") from None
    try:
        if view is None:
            api.create_project(project, entity)  # one that is there stays as it is
            view = views.Workspace(name=NAME, entity=entity, project=project)
        view.sections = sections
        view.save()
    except Exception as error:
        raise LtrsysError(
            f"{entity}/{project}: wandb's server did not take the view ({type(error).__name__}: {_one_line(error)}). "
            "See that --entity and --project are right, and that this login may write there."
        ) from error
    return str(view.url)


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise UsageError(
            "`ltrsys wandb-workspace` needs the package wandb-workspaces: pip install 'ltrsys[wandb-workspaces]'."
        ) from None


def _panel(panels: Any, panel: Panel) -> Any:
    if panel.kind == "bars":
        return panels.BarPlot(title=panel.title, metrics=list(panel.keys))
    if panel.kind == "pictures":
        return panels.MediaBrowser(title=panel.title, media_keys=list(panel.keys))
    if panel.kind == "table":
        (name,) = panel.keys
        return panels.WeavePanelSummaryTable(table_name=name)
    over = "RelativeTime(Process)" if panel.over == SECONDS else panel.over
    if panel.pattern:
        return panels.LinePlot(title=panel.title, x=over, metric_regex=panel.pattern)
    return panels.LinePlot(title=panel.title, x=over, y=list(panel.keys))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
