"""`ltrsys init`: a config to begin with."""

from pathlib import Path
from typing import Annotated

import typer


def init(
    shards: Annotated[str, typer.Argument(help="The folder that `ltrsys shards` wrote, or its URL.")],
    out: Annotated[Path, typer.Option(metavar="FILE.yaml", help="The config to write.")],
    name: Annotated[str | None, typer.Option(help="Name of the run; by default that of the file.")] = None,
    backbone: Annotated[str, typer.Option(help="The network, as in model.backbone.")] = "resnet50",
    gpus: Annotated[int, typer.Option(min=0, help="GPUs that will train; 0 for a CPU.")] = 1,
    hours: Annotated[
        float | None, typer.Option(min=0.001, help="Choose epochs for this time, by an estimate; 90 by default.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
) -> None:
    """Write a commented config for shards of one's own."""
    from ltrsys.commands.data.init import write_first_config  # imports torch, which `--help` does not need

    write_first_config(shards, out, name=name, backbone=backbone, gpus=gpus, hours=hours, force=force)
