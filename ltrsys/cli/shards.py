"""`ltrsys shards`: a dataset on disk, or one that needs no download, as shards."""

import os
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ltrsys.errors import UsageError

if TYPE_CHECKING:
    from ltrsys.data.index import SplitName
    from ltrsys.data.sources.source import Source


class SourceKind(StrEnum):
    """What can be built from."""

    INATURALIST = "inaturalist"
    LISTS = "lists"
    FOLDER = "folder"
    DIGITS = "digits"
    GLYPHS = "glyphs"


class OnReject(StrEnum):
    """What becomes of an image that cannot be used."""

    REFUSE = "refuse"
    LIST = "list"


DRAWN = (SourceKind.DIGITS, SourceKind.GLYPHS)
"""Sources that are balanced by nature, and cut to a long tail unless told otherwise."""


def shards(
    source: Annotated[SourceKind, typer.Argument(help="What to build from.")],
    out: Annotated[Path, typer.Option(help="The folder to build; the same command continues a build.")],
    root: Annotated[Path | None, typer.Option(help="The folder of the images.")] = None,
    train: Annotated[Path | None, typer.Option(help="List or annotation file of the training images.")] = None,
    val: Annotated[Path | None, typer.Option(help="The same for validation.")] = None,
    test: Annotated[Path | None, typer.Option(help="The same for the test.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the dataset; by default that of its folder.")] = None,
    resize: Annotated[int | None, typer.Option(min=1, help="Reduce the short side to this many pixels.")] = None,
    num_classes: Annotated[
        int | None, typer.Option(min=1, help="lists: labels from this on are errors. glyphs: letters (200).")
    ] = None,
    long_tail: Annotated[
        str | None,
        typer.Option(
            metavar="none|pareto|exponential|COUNTS.json",
            help="Cut the training images of each class; digits and glyphs: exponential by default.",
        ),
    ] = None,
    max_count: Annotated[
        int | None, typer.Option(min=1, help="Images of the most frequent class (the most there are; glyphs: 400).")
    ] = None,
    min_count: Annotated[int, typer.Option(min=1, help="Images of the rarest class.")] = 5,
    pareto_power: Annotated[float, typer.Option(min=0.01, help="The power of the Pareto distribution.")] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="Decides every random choice.")] = 0,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; one a core by default.")] = None,
    on_reject: Annotated[
        OnReject, typer.Option(help="An image that cannot be decoded ends the build, or is listed in rejected.jsonl.")
    ] = OnReject.REFUSE,
    max_shard_bytes: Annotated[int, typer.Option(min=10_240, help="Size of a shard.")] = 128 * 2**20,
    bands_per_octave: Annotated[int, typer.Option(min=1, max=16, help="Strata a doubling of frequency.")] = 4,
) -> None:
    """Check the images of a dataset and write them as class-stratified WebDataset shards with an index."""
    # What builds shards imports numpy, Pillow and pydantic, which other commands and `--help` do not need.
    from ltrsys.data.build_folder import BuildOptions
    from ltrsys.data.long_tail import cut_to_long_tail
    from ltrsys.data.shards import build_shards

    if long_tail is None:
        long_tail = "exponential" if source in DRAWN else "none"
    given: dict[SplitName, Path | None] = {"train": train, "val": val, "test": test}
    files = {split: path for split, path in given.items() if path is not None}
    found = _read(source, root, files, num_classes=num_classes, seed=seed, max_count=max_count)
    if long_tail != "none":
        found = cut_to_long_tail(
            found, long_tail, max_count=max_count, min_count=min_count, pareto_power=pareto_power, seed=seed
        )
    if name is not None:
        found = replace(found, name=name)
    dataset = build_shards(
        found,
        out,
        BuildOptions(seed=seed, resize=resize, bands_per_octave=bands_per_octave, max_shard_bytes=max_shard_bytes),
        workers=workers or len(os.sched_getaffinity(0)),
        on_reject=on_reject.value,
    )
    images = ", ".join(f"{split} {record.samples}" for split, record in dataset.record.splits.items())
    print(f"{out}: {dataset.num_classes} classes; images: {images}. Look at it with `ltrsys inspect {out}`.")


def _read(
    kind: SourceKind,
    root: Path | None,
    files: "dict[SplitName, Path]",
    *,
    num_classes: int | None,
    seed: int,
    max_count: int | None,
) -> "Source":
    """Read the source, refusing options that it does not have."""
    from ltrsys.data.sources.digits import read_digits
    from ltrsys.data.sources.folder import read_folder
    from ltrsys.data.sources.glyphs import read_glyphs
    from ltrsys.data.sources.inaturalist import read_inaturalist
    from ltrsys.data.sources.lists import read_lists

    if kind in DRAWN and (root is not None or files):
        raise UsageError(f"{kind} needs no files: leave out --root, --train, --val and --test.")
    if kind is SourceKind.FOLDER and files:
        raise UsageError("folder finds train, val and test below --root: leave out --train, --val and --test.")
    if num_classes is not None and kind not in (SourceKind.LISTS, SourceKind.GLYPHS):
        raise UsageError(f"--num-classes is for lists and glyphs; {kind} has the classes that it has.")
    if kind is SourceKind.DIGITS:
        return read_digits(seed=seed)
    if kind is SourceKind.GLYPHS:
        return read_glyphs(num_classes=num_classes or 200, seed=seed, train_per_class=max_count or 400)
    if root is None:
        raise UsageError(f"{kind} needs --root, the folder of the images.")
    if kind is SourceKind.FOLDER:
        return read_folder(root)
    if files and "train" not in files:
        raise UsageError(f"--train is missing: it names the training images, as --{min(files)} does the others.")
    if kind is SourceKind.INATURALIST:
        return read_inaturalist(root, files)
    if not files:
        raise UsageError("lists needs --train LIST, and mostly --val LIST and --test LIST.")
    return read_lists(root, files, num_classes=num_classes)
