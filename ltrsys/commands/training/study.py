"""`ltrsys study` from end to end: run what is missing, say how far it is, show the table or draw the figure."""

from collections.abc import Sequence
from pathlib import Path

from ltrsys.errors import UsageError
from ltrsys.files import replaced
from ltrsys.registry import nearest
from ltrsys.studies.figures.base import Figure, Material, figure_of
from ltrsys.studies.formats import FORMATS
from ltrsys.studies.measuring import Measurer
from ltrsys.studies.running import submit, train_here
from ltrsys.studies.study import OpenStudy
from ltrsys.studies.table import StudyTable, make_table

PICTURES = ("png", "svg", "pdf")
NOTHING_TO_TRAIN = (
    "{path}: there are no rows, and so nothing to train. `ltrsys study show {path} --out FILE.png` draws it."
)


def run_study(
    path: Path, changes: Sequence[str], *, launcher: str, gpus: int, jobs: int, sbatch: Sequence[str]
) -> None:
    """Train what is missing, measure all rows and print the table; or submit all of that.

    Raises:
        UsageError: For a study, a config or a run folder that does not fit.
        LtrsysError: Where a training fails, or sbatch refuses a job.
    """
    study = OpenStudy.read(path, tuple(changes))
    figure_of(study)
    if not study.study.rows:
        print(NOTHING_TO_TRAIN.format(path=path))
        return
    if launcher == "slurm":
        if jobs > 1:
            raise UsageError(
                "--jobs is for --launcher local: a cluster runs as many trainings at once as it has room for."
            )
        submit(study, sbatch)
        return
    train_here(study, gpus, jobs)
    print(FORMATS["terminal"](table_of(study, Measurer.of(study), compute=True)), end="")


def show_status(path: Path, changes: Sequence[str]) -> None:
    """Print how far each training is, and how many of its rows are measured."""
    study = OpenStudy.read(path, tuple(changes))
    figure_of(study)
    if not study.study.rows:
        print(NOTHING_TO_TRAIN.format(path=path))
        return
    for training in study.trainings:
        training.check()
    measurer = Measurer.of(study)
    for training in study.trainings:
        rows = [row for row in study.study.rows if row.run == training.key]
        measured = sum(measurer.measured(row, training, compute=False) is not None for row in rows)
        state: str = training.state
        if training.state == "waiting" and training.waits_for is not None:
            state = f"waits for {training.waits_for.run.path}"
        print(f"{training.run.path}: {state}; {measured} of {len(rows)} rows measured")


def show(path: Path, changes: Sequence[str], *, form: str | None, out: Path | None) -> None:
    """Print or write the table of what is measured, or draw the figure.

    Args:
        path: The study.
        changes: Of every config.
        form: One of `FORMATS` or `PICTURES`; None for the picture that the suffix of `out` says, or else the terminal.
        out: The file; None to print.

    Raises:
        UsageError: For an unknown format, and for a study that has no table or no figure, where it is asked for.
    """
    suffix = "" if out is None else out.suffix.removeprefix(".")
    if form is None:
        form = suffix if suffix in PICTURES else "terminal"
    if form not in FORMATS and form not in PICTURES:
        raise UsageError(f"--format {form}: unknown format. {nearest(form, [*FORMATS, *PICTURES])}")
    if form in PICTURES and out is None:
        raise UsageError(f"--format {form}: a picture is not printed. Give --out FILE.{form}.")
    if form in PICTURES and suffix != form:
        raise UsageError(f"--format {form} --out {out}: the file is not called .{form}. Give one or the other.")
    study = OpenStudy.read(path, tuple(changes))
    figure = figure_of(study)
    if form in PICTURES:
        assert out is not None
        if figure is None:
            raise UsageError(
                f"--format {form}: {path} has no key `figure`, and is a table alone: {', '.join(FORMATS)}."
            )
        _draw(figure, study, out)
        return
    if not study.study.rows:
        raise UsageError(f"{path}: there are no rows, and so no table. Draw its figure: --out FILE.png.")
    text = FORMATS[form](table_of(study, Measurer.of(study), compute=False))
    if out is None:
        print(text, end="")
        return
    with replaced(out, "w") as file:
        file.write(text)


def _draw(figure: type[Figure], study: OpenStudy, out: Path) -> None:
    measurer = Measurer.of(study)
    if figure.needs_rows:
        table = table_of(study, measurer, compute=False)
    else:
        table = make_table(study.study, [[] for _ in study.study.rows])
    lacking = [line.label for line in table.lines if line.seeds < line.wanted]
    if lacking:
        others = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
        raise UsageError(
            f"{study.path}: not measured on all seeds: row `{lacking[0]}`{others}. `ltrsys study run {study.path}` "
            "measures what is missing."
        )
    figure.draw(Material(study, table, measurer), out)


def table_of(study: OpenStudy, measurer: Measurer, *, compute: bool) -> StudyTable:
    """Return the table; what is not measured yet is measured only if asked for."""
    for training in study.trainings:
        training.check()
    measured = [
        [measurer.measured(row, training, compute=compute) for training in study.trainings_of(row)]
        for row in study.study.rows
    ]
    return make_table(study.study, measured)
