"""Arguments and options that several subcommands have."""

from pathlib import Path
from typing import Annotated, Literal

import typer

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
DeviceOption = Annotated[Literal["auto", "cuda", "cpu"], typer.Option(help="Where to compute.")]
