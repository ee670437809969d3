"""`ltrsys study` from end to end: run what is missing, say how far it is, show the table."""

from collections.abc import Sequence
from pathlib import Path

from ltrsys.errors import UsageError
from ltrsys.files import replaced
from ltrsys.registry import nearest
from ltrsys.studies.formats import FORMATS
from ltrsys.studies.measuring import Measured, Measurer
from ltrsys.studies.running import submit, train_here
from ltrsys.studies.study import OpenStudy
from ltrsys.studies.table import StudyTable, make_table


def run_study(path: Path, changes: Sequence[str], *, launcher: str, gpus: int, sbatch: Sequence[str]) -> None:
    """Train what is missing, measure all rows and print the table; or submit all of that.

    Raises:
        UsageError: For a study, a config or a run folder that does not fit.
        LtrsysError: Where a training fails, or sbatch refuses a job.
    """
    study = OpenStudy.read(path, tuple(changes))
    if launcher == "slurm":
        submit(study, sbatch)
        return
    train_here(study, gpus)
    print(FORMATS["terminal"](table_of(study, compute=True)), end="")


def show_status(path: Path, changes: Sequence[str]) -> None:
    """Print how far each training is, and how many of its rows are measured."""
    study = OpenStudy.read(path, tuple(changes))
    for training in study.trainings:
        training.check()
    measurer = Measurer.of(study)
    for training in study.trainings:
        rows = [row for row in study.study.rows if row.run == training.key]
        measured = sum(measurer.measured(row, training, compute=False) is not None for row in rows)
        state: str = training.state
        if training.state == "waiting" and training.starts_from is not None:
            state = f"waits for {training.starts_from.run.path}"
        print(f"{training.run.path}: {state}; {measured} of {len(rows)} rows measured")


def show_table(path: Path, changes: Sequence[str], *, form: str, out: Path | None) -> None:
    """Print the table of what is measured, or write it.

    Raises:
        UsageError: For an unknown format.
    """
    if form not in FORMATS:
        raise UsageError(f"--format {form}: unknown format. {nearest(form, FORMATS)}")
    text = FORMATS[form](table_of(OpenStudy.read(path, tuple(changes)), compute=False))
    if out is None:
        print(text, end="")
        return
    with replaced(out, "w") as file:
        file.write(text)


def table_of(study: OpenStudy, *, compute: bool) -> StudyTable:
    """Return the table; what is not measured yet is measured only if asked for."""
    for training in study.trainings:
        training.check()
    measurer = Measurer.of(study)
    measured: dict[str, list[Measured | None]] = {}
    for row in study.study.rows:
        own = [training for training in study.trainings if training.key == row.run]
        measured[row.label] = [measurer.measured(row, training, compute=compute) for training in own]
    return make_table(study.study, measured)
