"""`ltrsys serve`: a page and an API that name photographs."""

from typing import Annotated

import typer

from ltrsys.cli.arguments import DeviceOption, PluginOption, RunArgument

LIMITS = "Limits"


def serve(
    run: RunArgument,
    classifier: Annotated[
        list[str] | None,
        typer.Option(
            help="The classifier that answers; cRT, or another that is fitted, if not given. Given again, requests "
            "choose; the first answers where they do not."
        ),
    ] = None,
    host: Annotated[
        str, typer.Option(help="The address to answer on; 0.0.0.0 is all of this machine's.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 is any that is free.")] = 8000,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(help="A name of this server besides localhost, such as a proxy hands on; may be given again."),
    ] = None,
    device: DeviceOption = "auto",
    batch_size: Annotated[int | None, typer.Option(min=1, help="Images that go through the network at once.")] = None,
    access_log: Annotated[bool, typer.Option("--access-log", help="Log a line a request.")] = False,
    max_mb: Annotated[float, typer.Option(min=0.001, rich_help_panel=LIMITS, help="MiB of a request.")] = 32,
    max_files: Annotated[int, typer.Option(min=1, rich_help_panel=LIMITS, help="Images of a request.")] = 32,
    max_megapixels: Annotated[
        float, typer.Option(min=0.001, rich_help_panel=LIMITS, help="Million pixels of an image.")
    ] = 64,
    queue: Annotated[
        int, typer.Option(min=1, rich_help_panel=LIMITS, help="Images that are uploaded and not yet named.")
    ] = 256,
    connections: Annotated[int, typer.Option(min=1, rich_help_panel=LIMITS, help="Connections at a time.")] = 256,
    upload_seconds: Annotated[
        float, typer.Option(min=0.001, rich_help_panel=LIMITS, help="For the body of a request.")
    ] = 60,
    answer_seconds: Annotated[
        float, typer.Option(min=0.001, rich_help_panel=LIMITS, help="From there to the answer.")
    ] = 60,
    plugin: PluginOption = None,
) -> None:
    """Name photographs over HTTP: a page to drop them on, and POST /predict for programs."""
    from ltrsys.commands.results.serve import (
        ServeOptions,  # imports torch, which takes seconds that other commands save
    )
    from ltrsys.commands.results.serve import serve as serve_run
    from ltrsys.serving.guards.limits import Limits

    limits = Limits(
        body_bytes=int(max_mb * 2**20),
        files=max_files,
        pixels=int(max_megapixels * 1e6),
        queue=queue,
        connections=connections,
        upload_seconds=upload_seconds,
        answer_seconds=answer_seconds,
    )
    options = ServeOptions(
        limits=limits,
        host=host,
        port=port,
        classifiers=classifier or (),
        allowed_hosts=allowed_host or (),
        device=device,
        batch_size=batch_size,
        access_log=access_log,
        plugins=plugin or (),
    )
    serve_run(run, options)
