"""`ltrsys study`: the tables and figures of several runs."""

import shlex
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ltrsys.cli.arguments import OverridesArgument

app = typer.Typer(help="Tables and figures of several runs: run what is missing, see how far it is, show the result.")

StudyArgument = Annotated[Path, typer.Argument(metavar="STUDY.yaml", help="The study.")]


class Launcher(StrEnum):
    """Where trainings run."""

    LOCAL = "local"
    SLURM = "slurm"


@app.command("run")
def run(
    study: StudyArgument,
    overrides: OverridesArgument = None,
    launcher: Annotated[Launcher, typer.Option(help="Here, or as a SLURM job array.")] = Launcher.LOCAL,
    gpus: Annotated[int, typer.Option(min=0, help="local: GPUs of this machine for each training.")] = 1,
    jobs: Annotated[int, typer.Option(min=1, help="local: Trainings at once; they share its cores and GPUs.")] = 1,
    sbatch: Annotated[str, typer.Option(metavar="OPTIONS", help="slurm: such as '--nodes=2 --time=12:00:00'.")] = "",
) -> None:
    """Train what is missing, each run going on where it was; measure all rows and print the table."""
    from ltrsys.commands.training.study import run_study  # imports torch, which takes seconds that `--help` saves

    run_study(study, overrides or [], launcher=launcher.value, gpus=gpus, jobs=jobs, sbatch=shlex.split(sbatch))


@app.command("status")
def status(study: StudyArgument, overrides: OverridesArgument = None) -> None:
    """Say how far each training is."""
    from ltrsys.commands.training.study import show_status

    show_status(study, overrides or [])


@app.command("show")
def show(
    study: StudyArgument,
    overrides: OverridesArgument = None,
    form: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="terminal, markdown, latex, html, csv or json; for the figure png, svg or pdf, the suffix of --out.",
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write a file instead of printing.")] = None,
) -> None:
    """Print the table of what is measured, or draw the figure."""
    from ltrsys.commands.training import study as command

    command.show(study, overrides or [], form=form, out=out)
