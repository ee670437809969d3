"""Arguments and options that several subcommands have."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from ltrsys.errors import UsageError

RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, such as runs/glyphs.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
OverridesArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY.SUB=VALUE]...", help="Changes to the config, such as balance.bn=eval."),
]
PluginOption = Annotated[
    list[str] | None,
    typer.Option(metavar="FILE.py|MODULE", help="Methods of your own to load; may be given again."),
]
RunsArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="RUN... [KEY.SUB=VALUE]...",
        help="Run folders that have been balanced, and changes to their configs, such as data.shards=elsewhere.",
    ),
]


def runs_and_overrides(arguments: list[str]) -> tuple[list[Path], list[str]]:
    """Tell run folders from changes to the config: a folder may have `=` in its name.

    Raises:
        UsageError: Where no run is named.
    """
    runs, overrides = places_and_overrides(arguments)
    if not runs:
        raise UsageError("no run is named. Give a run folder, such as runs/glyphs.")
    return [Path(run) for run in runs], overrides


def places_and_overrides(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Tell folders and URLs from changes to the config: what has `=` in it and is no file or folder is a change."""
    overrides = [argument for argument in arguments if "=" in argument and not Path(argument).exists()]
    return [argument for argument in arguments if argument not in overrides], overrides


DeviceOption = Annotated[Literal["auto", "cuda", "cpu"], typer.Option(help="Where to compute.")]
