"""`ltrsys predict`: names for photographs."""

from pathlib import Path
from typing import Annotated

import typer

from ltrsys.cli.arguments import DeviceOption, PluginOption, RunArgument


def predict(
    run: RunArgument,
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH...",
            help="Images, folders, patterns such as 'photos/**/*.jpg', lists of paths (.txt), tar files, shards; - is "
            "a list on standard input.",
        ),
    ],
    classifier: Annotated[
        str | None, typer.Option(help="The classifier that answers; cRT, or another that is fitted, if not given.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="How many classes to name for each image.")] = 5,
    out: Annotated[
        Path | None,
        typer.Option(
            help="The table to write: .csv, .jsonl or .parquet. The same command continues one that was killed."
        ),
    ] = None,
    min_precision: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE", help="How many of the answers should be right, such as 0.95: others are not sure."
        ),
    ] = None,
    coverage: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="Name as many classes as it takes for the right one to be there so often."),
    ] = None,
    adjusted: Annotated[
        bool, typer.Option("--adjusted", help="With --coverage: cover rare classes as well, by larger sets.")
    ] = False,
    rank: Annotated[
        str | None,
        typer.Option(
            metavar="RANK|auto",
            help="Name groups of this rank, such as genus, instead of classes; auto adds the finest group that is sure "
            "enough.",
        ),
    ] = None,
    novelty: Annotated[
        bool, typer.Option("--novelty", help="Tell how unlike the known images each is, which may be of no class.")
    ] = False,
    species: Annotated[
        Path | None, typer.Option(help="A list of names, a line or a row each: no other class is answered.")
    ] = None,
    prior: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|train|uniform",
            help="How frequent the classes are where the pictures come from: a table of names and frequencies, as in "
            "the training images, or all alike.",
        ),
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="The split of shards: train, val or test; all if not given.")
    ] = None,
    device: DeviceOption = "auto",
    batch_size: Annotated[int | None, typer.Option(min=1, help="Images that go through the network at once.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Write over a finished table.")] = False,
    null: Annotated[
        bool, typer.Option("--null", "-0", help="Paths on standard input end with a NUL, as find -print0 writes them.")
    ] = False,
    plugin: PluginOption = None,
) -> None:
    """Name what is in photographs: the classes of each, best first, with their probabilities."""
    from ltrsys.commands.results.predict import (
        PredictOptions,  # imports torch, which takes seconds that other commands save
    )
    from ltrsys.commands.results.predict import predict as predict_images
    from ltrsys.prediction.answers import Wanted

    options = PredictOptions(
        classifier=classifier,
        wanted=Wanted(top, min_precision, coverage, adjusted, rank, novelty),
        out=out,
        species=species,
        prior=prior,
        split=split,
        device=device,
        batch_size=batch_size,
        overwrite=overwrite,
        null=null,
        plugins=plugin or (),
    )
    predict_images(run, paths, options)
