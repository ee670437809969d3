"""The `ltrsys` command: its subcommands, and what a user sees when something is wrong."""

import logging
import sys
import traceback
from collections.abc import Callable
from typing import Annotated

import typer
from typer.exceptions import TyperException

from ltrsys import __version__
from ltrsys.cli.data.audit import audit
from ltrsys.cli.data.init import init
from ltrsys.cli.data.inspect import inspect
from ltrsys.cli.data.shards import shards
from ltrsys.cli.methods import methods
from ltrsys.cli.results.add_class import add_class
from ltrsys.cli.results.export import export
from ltrsys.cli.results.predict import predict
from ltrsys.cli.results.report import compare, report
from ltrsys.cli.results.serve import serve
from ltrsys.cli.results.wandb_workspace import wandb_workspace
from ltrsys.cli.training import study
from ltrsys.cli.training.balance import balance, evaluate
from ltrsys.cli.training.bank import bank
from ltrsys.cli.training.import_weights import import_weights
from ltrsys.cli.training.train import train
from ltrsys.errors import LtrsysError

INTERRUPTED = 130
"""What a shell reports of a process that Ctrl-C ended."""

app = typer.Typer(
    name="ltrsys",
    help="Train on thousands of classes of which most are rare, then re-balance the classifier.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(shards)
app.command()(inspect)
app.command()(init)
app.command()(train)
app.command()(bank)
app.command()(balance)
app.command()(evaluate)
app.command()(predict)
app.command()(add_class)
app.command()(report)
app.command()(compare)
app.command()(export)
app.command()(serve)
app.command()(audit)
app.command()(import_weights)
app.command()(methods)
app.command()(wandb_workspace)
app.add_typer(study.app, name="study")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"ltrsys {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option(help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    """Options of every subcommand; `main` reads `--debug` itself, since it must hold while parsing fails."""


def configure_logging() -> None:
    """Send log lines to stderr: stdout is for results."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(message)s")
    logging.getLogger("ltrsys").setLevel(logging.INFO)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit: 0, or 2 for usage and configuration, or 1 for the rest."""
    arguments = sys.argv[1:] if arguments is None else arguments
    configure_logging()
    sys.exit(run_reporting_errors(lambda: app(arguments, standalone_mode=False), debug="--debug" in arguments))


def run_reporting_errors(task: Callable[[], object], *, debug: bool) -> int:
    """Run `task`; turn what goes wrong into one line on stderr and return the exit code."""
    try:
        result = task()
        if result == INTERRUPTED:  # typer answers Ctrl-C with this number instead of an exception
            raise KeyboardInterrupt
        return result if isinstance(result, int) else 0
    except LtrsysError as error:
        if debug:
            traceback.print_exc()
        else:
            print(f"ltrsys: {error}", file=sys.stderr)
        return error.exit_code
    except TyperException as error:
        print(f"ltrsys: {error.format_message()}", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, typer.Abort):
        print("ltrsys: interrupted; what was finished is kept. The same command continues.", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        return 1
    except Exception as error:
        if debug:
            traceback.print_exc()
        else:
            print(
                f"ltrsys: unexpected {type(error).__name__}: {error}. Run again with --debug for the traceback.",
                file=sys.stderr,
            )
        return 1
