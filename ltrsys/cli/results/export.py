"""`ltrsys export`: a run's network and classifier as files that run without ltrsys."""

from pathlib import Path
from typing import Annotated

import typer

from ltrsys.cli.arguments import PluginOption, RunArgument


def export(
    run: RunArgument,
    format: Annotated[str, typer.Option(help="onnx, torch, timm or another; `ltrsys methods exporter` lists them.")],
    classifier: Annotated[
        str | None, typer.Option(help="Which fitted one; the first of crt, tau, lws, ncm, joint if not given.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="RUN/exports/CLASSIFIER-FORMAT by default.")
    ] = None,
    float16: Annotated[bool, typer.Option("--float16", help="Compute and store in float16.")] = False,
    int8: Annotated[
        bool, typer.Option("--int8", help="Quantise to int8, with ranges from images of val; accuracy is compared.")
    ] = False,
    uint8: Annotated[
        bool, typer.Option("--uint8", help="Take pixels of 0 to 255, which the model then normalises itself.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Write an int8 model even if it loses more than a point of accuracy.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an export that is there.")] = False,
    shards: Annotated[
        str | None, typer.Option(metavar="FOLDER|URL", help="Where the run's shards are now, if they have moved.")
    ] = None,
    license: Annotated[
        str, typer.Option(help="Of the model, for its card, such as cc-by-4.0; by Hugging Face's names.")
    ] = "unknown",
    plugin: PluginOption = None,
) -> None:
    """Write a classifier with its network as ONNX, for torch alone or for timm, with a model card, and try it."""
    from ltrsys.errors import UsageError

    if float16 and int8:
        raise UsageError("--float16 and --int8: give one of them.")

    from ltrsys.commands.results.export import ExportOptions, export_run  # imports torch, which takes seconds

    options = ExportOptions(
        format=format,
        classifier=classifier,
        out=out,
        precision="int8" if int8 else "float16" if float16 else "float32",
        takes_bytes=uint8,
        force=force,
        overwrite=overwrite,
        shards=shards,
        licence=license,
        plugins=plugin or [],
    )
    export_run(run, options)
