"""`ltrsys inspect`: what a folder of shards holds, and whether it is whole."""

from pathlib import Path
from typing import Annotated

import typer


def inspect(
    shards: Annotated[str, typer.Argument(help="The folder that `ltrsys shards` wrote, or its URL.")],
    verify: Annotated[bool, typer.Option("--verify", help="Check every checksum, offset, label and size.")] = False,
    plot: Annotated[
        Path | None, typer.Option(help="Draw the long tail as this PNG; SHARDS/long_tail.png by default, for a folder.")
    ] = None,
    sheet: Annotated[
        Path | None,
        typer.Option(metavar="FILE.png", help="Draw a few training images of frequent, middling and rare classes."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")] = False,
    many: Annotated[int, typer.Option(min=1, help="Many-shot classes have more training images.")] = 100,
    few: Annotated[int, typer.Option(min=1, help="Few-shot classes have fewer training images.")] = 20,
    smallest: Annotated[int, typer.Option(min=0, help="Name so many classes with the fewest training images.")] = 10,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes of --verify; one a core by default.")] = None,
    cache: Annotated[Path | None, typer.Option(help="Where the index, and for --verify shards, of a URL go.")] = None,
) -> None:
    """Print the classes, images, strata and shards of a dataset; draw its long tail and images; verify its bytes."""
    from ltrsys.commands.data.inspect import inspect_dataset  # imports numpy and pydantic, which `--help` does not need

    inspect_dataset(
        shards,
        verify=verify,
        plot=plot,
        sheet=sheet,
        as_json=as_json,
        many=many,
        few=few,
        smallest=smallest,
        workers=workers,
        cache=cache,
    )
