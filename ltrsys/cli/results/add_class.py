"""`ltrsys add-class`: new classes from a few pictures each, without training."""

from pathlib import Path
from typing import Annotated

import typer

from ltrsys.cli.arguments import DeviceOption, RunArgument


def add_class(
    run: RunArgument,
    folders: Annotated[
        list[Path], typer.Argument(metavar="FOLDER...", help="Pictures of a new class each; its name is the folder's.")
    ],
    name: Annotated[str | None, typer.Option(help="The name of the class, where there is one folder.")] = None,
    device: DeviceOption = "auto",
) -> None:
    """Add classes that the run was not trained with: NCM, LDA and kNN know them from then on."""
    from ltrsys.commands.results.add_class import (
        add_classes,  # imports torch, which takes seconds that other commands save
    )

    add_classes(run, folders, name, device)
