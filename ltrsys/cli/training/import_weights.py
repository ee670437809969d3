"""`ltrsys import-weights`: a checkpoint that somebody published, as a run that can be balanced."""

from pathlib import Path
from typing import Annotated

import typer

from ltrsys.cli.arguments import OverridesArgument


def import_weights(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="A checkpoint of the paper's code, or a state dict with torchvision's names."
        ),
    ],
    config: Annotated[Path, typer.Option(help="The experiment that it is of: its backbone, its shards, its crops.")],
    overrides: OverridesArgument = None,
    out: Annotated[
        Path | None, typer.Option(metavar="RUN", help="The run folder to make; runs/<name> of the config by default.")
    ] = None,
    apply_scales: Annotated[
        bool, typer.Option(help="Multiply LWS's factors, where the file has some, into the classifier.")
    ] = False,
) -> None:
    """Make a run folder of weights that were trained elsewhere; `ltrsys balance RUN` goes on from there."""
    from ltrsys.commands.training.import_weights import (
        import_run,  # imports torch, which takes seconds that other commands save
    )

    import_run(file, config, overrides or [], out, apply_scales=apply_scales)
