"""`ltrsys bank`: features of a pretrained backbone, or from elsewhere, as a run that can be balanced."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from ltrsys.cli.arguments import PluginOption, places_and_overrides
from ltrsys.errors import UsageError


def bank(
    out: Annotated[Path, typer.Option(metavar="RUN", help="The run folder to make.")],
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SHARDS] [KEY.SUB=VALUE]...",
            help="The folder that `ltrsys shards` wrote, or its URL; and changes to the config.",
        ),
    ] = None,
    backbone: Annotated[
        str | None, typer.Option(metavar="NAME", help="timm/NAME, open_clip/NAME, or a network of torchvision.")
    ] = None,
    pretrained: Annotated[
        str, typer.Option(metavar="true|FILE|hf-hub:OWNER/NAME", help="Weights of the backbone.")
    ] = "true",
    by_order: Annotated[
        bool, typer.Option(help="The file has other names, but the same shapes in the same order.")
    ] = False,
    views: Annotated[
        Literal["one", "flip", "five"],
        typer.Option(help="Average features over an image and its mirror image, or over five crops of it."),
    ] = "one",
    features: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Features that you have: .npy, .npz, .parquet or .safetensors.")
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Their labels: .csv, .tsv or .parquet with a column, .txt or .npy."),
    ] = None,
    val: Annotated[
        tuple[Path, Path] | None, typer.Option(metavar="FEATURES LABELS", help="Likewise of the val split.")
    ] = None,
    test: Annotated[
        tuple[Path, Path] | None, typer.Option(metavar="FEATURES LABELS", help="Likewise of the test split.")
    ] = None,
    label_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="The column of a table that holds the labels.")
    ] = None,
    plugin: PluginOption = None,
) -> None:
    """Make a run without training: a feature bank of a pretrained backbone, or of features from elsewhere."""
    shards, overrides = places_and_overrides(arguments or [])
    if len(shards) > 1:
        raise UsageError(f"{shards[1]}: one folder of shards is enough, and {shards[0]} is another.")
    if bool(shards) == (features is not None):
        raise UsageError(
            "give shards and a backbone (`ltrsys bank SHARDS --backbone timm/NAME --out RUN`), or features and labels "
            "(`ltrsys bank --features FILE --labels FILE --out RUN`)."
        )
    # imports torch, which takes seconds that other commands save
    from ltrsys.commands.training.bank import GivenFiles, bank_of_backbone, bank_of_features

    if features is not None:
        if labels is None:
            raise UsageError("--features needs --labels: a file with the label of each image, in the same order.")
        given = {"train": (features, labels), "val": val, "test": test}
        files = {name: GivenFiles(*paths) for name, paths in given.items() if paths is not None}
        bank_of_features(files, out, column=label_column, overrides=overrides)  # type: ignore[arg-type]
        return
    if backbone is None:
        raise UsageError("--backbone is missing: timm/NAME, open_clip/NAME, or a network of torchvision.")
    bank_of_backbone(
        shards[0],
        out,
        backbone=backbone,
        pretrained=pretrained,
        by_order=by_order,
        views=views,
        overrides=overrides,
        plugins=plugin or [],
    )
