"""`ltrsys train`: the first stage, on this process or on as many as a launcher starts."""

from pathlib import Path
from typing import Annotated

import typer

from ltrsys.cli.arguments import OverridesArgument


def train(
    config: Annotated[Path, typer.Option(metavar="FILE", help="YAML file of the experiment.")],
    overrides: OverridesArgument = None,
    local_rank: Annotated[int | None, typer.Option("--local_rank", "--local-rank", hidden=True)] = None,
) -> None:
    """Train one experiment; a run begun before is continued."""
    import signal

    from ltrsys.config.reading import load_config
    from ltrsys.errors import UsageError
    from ltrsys.world import World

    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # until there is something to save: by default it ends the process
    world = World.detect()
    try:
        loaded = load_config(config, overrides or [])
        from ltrsys.first_stage.trainer import train as train_run  # slow to import: a wrong config is told before

        train_run(loaded, world)
    except UsageError as error:
        if not world.is_main:
            raise typer.Exit(error.exit_code) from None  # every rank sees the same mistake; one report is enough
        raise
