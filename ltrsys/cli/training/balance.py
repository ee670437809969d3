"""`ltrsys balance` and `ltrsys evaluate`: the second stage, and one line of its table again."""

from typing import Annotated

import typer

from ltrsys.cli.arguments import JsonOption, OverridesArgument, PluginOption, RunArgument


def balance(
    run: RunArgument,
    overrides: OverridesArgument = None,
    classifiers: Annotated[
        str | None, typer.Option(help="Which to fit, separated by commas, or all; `ltrsys methods` lists them.")
    ] = None,
    plugin: PluginOption = None,
    json: JsonOption = False,
) -> None:
    """Re-balance the classifier of a trained run and compare: joint, NCM, cRT, tau-normalised, LWS."""
    from ltrsys.commands.training.balance import (
        balance_run,  # imports torch, which takes seconds that other commands save
    )

    balance_run(run, overrides or [], classifiers, json, plugin or [])


def evaluate(
    run: RunArgument,
    overrides: OverridesArgument = None,
    classifier: Annotated[
        str | None, typer.Option(help="ncm, crt, tau, lws or another; joint, or linear without one, if not given.")
    ] = None,
    split: Annotated[str, typer.Option(help="train, val or test.")] = "test",
    plugin: PluginOption = None,
    json: JsonOption = False,
) -> None:
    """Evaluate one fitted classifier on one split: on test, the line of results.json again."""
    from ltrsys.commands.training.balance import (
        evaluate_run,  # imports torch, which takes seconds that other commands save
    )

    evaluate_run(run, overrides or [], classifier, split, json, plugin or [])
