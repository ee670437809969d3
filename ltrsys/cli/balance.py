"""`ltrsys balance` and `ltrsys evaluate`: the second stage, and one line of its table again."""

from pathlib import Path
from typing import Annotated

import typer

RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, such as runs/glyphs.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
OverridesArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY.SUB=VALUE]...", help="Changes to the config, such as balance.bn=eval."),
]


def balance(
    run: RunArgument,
    overrides: OverridesArgument = None,
    classifiers: Annotated[
        str | None, typer.Option(help="Which to fit, separated by commas: joint,ncm,crt,tau,lws.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Re-balance the classifier of a trained run and compare: joint, NCM, cRT, tau-normalised, LWS."""
    from ltrsys.commands.balance import balance_run  # imports torch, which takes seconds that other commands save

    balance_run(run, overrides or [], classifiers, json)


def evaluate(
    run: RunArgument,
    overrides: OverridesArgument = None,
    classifier: Annotated[str, typer.Option(help="joint, ncm, crt, tau or lws.")] = "joint",
    split: Annotated[str, typer.Option(help="train, val or test.")] = "test",
    json: JsonOption = False,
) -> None:
    """Evaluate one fitted classifier on one split: on test, the line of results.json again."""
    from ltrsys.commands.balance import evaluate_run  # imports torch, which takes seconds that other commands save

    evaluate_run(run, overrides or [], classifier, split, json)
