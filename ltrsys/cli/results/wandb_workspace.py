"""`ltrsys wandb-workspace`: the dashboard of a project on wandb's server."""

from enum import StrEnum
from typing import Annotated

import typer


class ReportedSplit(StrEnum):
    """Which split results are reported on."""

    TEST = "test"
    VAL = "val"


def wandb_workspace(
    project: Annotated[str, typer.Option(help="The project: `tracking.project` of the runs.")] = "ltrsys",
    entity: Annotated[str | None, typer.Option(help="User or team; by default the one of the login.")] = None,
    split: Annotated[ReportedSplit, typer.Option(help="What the results are of.")] = ReportedSplit.TEST,
    classifiers: Annotated[
        str, typer.Option(help="Which the bars compare, separated by commas.")
    ] = "joint,ncm,crt,tau,lws",
    url: Annotated[str | None, typer.Option(metavar="URL", help="A view made before, to put in order again.")] = None,
) -> None:
    """Make the dashboard of a project of wandb: loss and accuracies, data, speed, results, the machine."""
    from ltrsys.commands.results.wandb_workspace import make_workspace  # imports wandb, which takes a second

    names = [name.strip() for name in classifiers.split(",") if name.strip()]
    print(make_workspace(entity, project, split.value, names, url))
