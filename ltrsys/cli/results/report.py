"""`ltrsys report` and `ltrsys compare`: runs that have been balanced, on a page and beside one another."""

from pathlib import Path
from typing import Annotated

import typer

from ltrsys.cli.arguments import JsonOption, PluginOption, RunsArgument, runs_and_overrides


def report(
    runs: RunsArgument,
    out: Annotated[Path | None, typer.Option(metavar="FILE.html", help="RUN/report.html by default.")] = None,
    pictures: Annotated[bool, typer.Option(help="Show images of the classes that are taken for one another.")] = True,
    plugin: PluginOption = None,
) -> None:
    """Write one HTML file about one or several runs that works from disk: table, charts, classes, look-alikes."""
    from ltrsys.commands.results.report import report_runs  # imports torch, which takes seconds that `--help` saves

    folders, overrides = runs_and_overrides(runs)
    report_runs(folders, overrides, out=out, pictures=pictures, plugins=plugin or [])


def compare(
    runs: RunsArgument,
    classifier: Annotated[
        str | None, typer.Option(help="Which to compare, separated by commas; all that every run has by default.")
    ] = None,
    plugin: PluginOption = None,
    json: JsonOption = False,
) -> None:
    """Compare runs on the same images: paired tests, and which classes gained and lost."""
    from ltrsys.commands.results.compare import compare_runs  # imports torch, which takes seconds that `--help` saves

    folders, overrides = runs_and_overrides(runs)
    compare_runs(folders, overrides, classifiers=classifier, as_json=json, plugins=plugin or [])
