"""`ltrsys shards`: a dataset on disk, or one that needs no download, as shards."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ltrsys.cli.arguments import PluginOption


class OnReject(StrEnum):
    """What becomes of an image that cannot be used."""

    REFUSE = "refuse"
    LIST = "list"


class Duplicates(StrEnum):
    """What becomes of images that are the same picture."""

    OFF = "off"
    REPORT = "report"
    TOGETHER = "together"
    DROP = "drop"


class Ambiguous(StrEnum):
    """What becomes of an image that is annotated with several classes."""

    REFUSE = "refuse"
    SKIP = "skip"


class QualityGrade(StrEnum):
    """The grades that iNaturalist gives to observations."""

    RESEARCH = "research"
    NEEDS_ID = "needs_id"
    CASUAL = "casual"
    ANY = "any"


def shards(
    source: Annotated[
        str,
        typer.Argument(help="What to build from: inaturalist, lists, table, folder, digits, glyphs, or a plug-in's."),
    ],
    out: Annotated[Path, typer.Option(help="The folder to build; the same command continues a build.")],
    root: Annotated[Path | None, typer.Option(help="The folder of the images.")] = None,
    train: Annotated[Path | None, typer.Option(help="List or annotation file of the training images.")] = None,
    val: Annotated[
        str | None,
        typer.Option(metavar="FILE|SHARE", help="The same for validation, or the share of images that becomes it."),
    ] = None,
    test: Annotated[str | None, typer.Option(metavar="FILE|SHARE", help="The same for the test.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the dataset; by default that of its folder.")] = None,
    resize: Annotated[int | None, typer.Option(min=1, help="Reduce the short side to this many pixels.")] = None,
    num_classes: Annotated[
        int | None,
        typer.Option(
            min=1, help="lists: labels from this on are errors. glyphs: letters (200). digits: those from 0 on (10)."
        ),
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
    merge_classes: Annotated[
        bool, typer.Option("--merge-classes", help="inaturalist: make categories of one name one class.")
    ] = False,
    ambiguous: Annotated[
        Ambiguous,
        typer.Option(help="inaturalist: an image annotated with several classes ends the build, or is left out."),
    ] = Ambiguous.REFUSE,
    group_by: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN|REGEX",
            help="Keep images of a group in one of the splits that are made: observation, location, camera, date, or a "
            "regular expression over the path.",
        ),
    ] = None,
    duplicates: Annotated[
        Duplicates | None,
        typer.Option(
            help="The same picture twice: list those in several splits (the default for photographs), keep them "
            "together in splits that are made, or drop those of the earlier split."
        ),
    ] = None,
    update: Annotated[
        bool, typer.Option("--update", help="Bring finished shards up to date; the ids of old classes stay.")
    ] = False,
    classes_from: Annotated[
        Path | None, typer.Option(metavar="RUN|SHARDS", help="Keep the ids of these classes; new ones follow.")
    ] = None,
    plugin: PluginOption = None,
    table: Annotated[Path | None, typer.Option(help="table: one file of all splits (CSV, TSV, Parquet).")] = None,
    columns: Annotated[
        str | None, typer.Option(metavar="ROLE=COLUMN,...", help="table: path=file_name,label=class_id, and so on.")
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="table: read those of inaturalist_open_data or darwin_core below --root.")
    ] = None,
    quality_grade: Annotated[
        QualityGrade, typer.Option(help="inaturalist_open_data: the observations that are taken.")
    ] = QualityGrade.RESEARCH,
    images: Annotated[
        Path | None, typer.Option(help="table: the folder that images behind URLs are fetched into; --root by default.")
    ] = None,
    photo_url: Annotated[
        str | None, typer.Option(help="inaturalist_open_data: what stands before `/photos/...` in the images' URLs.")
    ] = None,
    connections: Annotated[int, typer.Option(min=1, max=64, help="Requests that a server gets at a time.")] = 4,
    requests_per_second: Annotated[
        float, typer.Option(min=0.01, max=1000, help="Requests that a server gets in a second.")
    ] = 10.0,
) -> None:
    """Check the images of a dataset and write them as class-stratified WebDataset shards with an index."""
    # What builds shards imports numpy, Pillow and pydantic, which other commands and `--help` do not need.
    from ltrsys.commands.data.shards import LongTail, build, split_files_and_shares
    from ltrsys.data.shards.build_folder import BuildOptions
    from ltrsys.data.sources.source import SOURCES, SourceOptions
    from ltrsys.data.sources.tables.columns import parse_columns
    from ltrsys.errors import UsageError
    from ltrsys.registry import load_plugin

    for path in plugin or []:
        load_plugin(path)
    kind = SOURCES.get(source)
    of_tables = {"table": table, "columns": columns, "preset": preset, "images": images, "photo-url": photo_url}
    if not kind.reads_tables and (given_for_tables := [key for key, value in of_tables.items() if value is not None]):
        raise UsageError(f"--{given_for_tables[0]} is for the source table; {source} has none.")
    if duplicates is None:
        duplicates = Duplicates.OFF if kind.balanced else Duplicates.REPORT
    files, shares = split_files_and_shares(train, val, test)
    build(
        source,
        out,
        SourceOptions(
            root,
            files,
            num_classes,
            max_count,
            seed,
            keep_missing=on_reject is OnReject.LIST,
            merge_classes=merge_classes,
            ambiguous=ambiguous.value,
            table=table,
            columns=parse_columns(columns) if columns is not None else {},
            preset=preset,
            quality_grade=quality_grade.value,
            images=images,
            photo_url=photo_url,
            connections=connections,
            requests_per_second=requests_per_second,
        ),
        LongTail(long_tail, max_count, min_count, pareto_power),
        BuildOptions(
            seed=seed,
            resize=resize,
            bands_per_octave=bands_per_octave,
            max_shard_bytes=max_shard_bytes,
            group_by=group_by,
            duplicates=duplicates.value,
            **shares,
        ),
        name=name,
        classes_from=classes_from,
        update=update,
        on_reject=on_reject.value,
        workers=workers,
    )
