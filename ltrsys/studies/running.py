"""Starting what a study lacks: here, one training after another, or as a job array of a SLURM cluster."""

import hashlib
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from ltrsys.errors import LtrsysError, UsageError
from ltrsys.files import replaced
from ltrsys.studies.study import OpenStudy, Training

log = logging.getLogger("ltrsys")

SCRIPT = Path("launchers") / "study.sbatch"


def missing(study: OpenStudy) -> list[Training]:
    """Return the trainings that have not ended, those that others start from before them.

    Raises:
        UsageError: Where a run folder is of another config.
    """
    for training in study.trainings:
        training.check()
    todo = [training for training in study.trainings if training.state != "trained"]
    return sorted(todo, key=lambda training: training.turn)


def train_here(study: OpenStudy, gpus: int) -> None:
    """Train what is missing, one after another; each goes on where it was stopped.

    Args:
        study: The study.
        gpus: Ranks of each training, on this machine.

    Raises:
        LtrsysError: Where a training fails; those after it are not started.
    """
    todo = missing(study)
    for number, training in enumerate(todo, start=1):
        log.info("%s: training %d of %d that are missing: %s.", study.path, number, len(todo), training.run.path)
        code = subprocess.run([*_launcher(gpus), *arguments(training)], check=False).returncode
        if code or not training.run.model.exists():
            raise LtrsysError(
                f"{training.run.path}: this training of the study ended with exit code {code}; what it said is above. "
                "The same command goes on from there."
            )


def arguments(training: Training) -> list[str]:
    """Return what the launchers of `ltrsys train` take for a training."""
    return ["--config", str(training.config_file), *training.overrides]


def _launcher(gpus: int) -> list[str]:
    if gpus <= 1:
        return [sys.executable, "-c", "from ltrsys.cli.main import main; main()", "train"]
    script = Path("launchers") / "train.py"
    if not script.exists():
        raise UsageError(f"--gpus {gpus}: there is no {script} here. Run this from the checkout, or leave out --gpus.")
    return [str(Path(sys.executable).with_name("deepspeed")), "--num_gpus", str(gpus), str(script)]


def submit(study: OpenStudy, options: Sequence[str]) -> None:
    """Submit what is missing as a job array, and after it a job that measures and prints the table.

    Trainings that start from others which are missing too are an array of their own, after that of the others.

    Args:
        study: The study.
        options: Of sbatch, for the trainings.

    Raises:
        UsageError: Where this is no place to submit from.
        LtrsysError: Where sbatch refuses a job.
    """
    if shutil.which("sbatch") is None:
        raise UsageError("--launcher slurm: there is no sbatch here. Run this where jobs are submitted.")
    if not SCRIPT.exists():
        raise UsageError(f"--launcher slurm: there is no {SCRIPT} here. Run this from the checkout.")
    wait: list[str] = []
    for _, turn in groupby(missing(study), key=lambda training: training.turn):
        todo = list(turn)
        lines = "".join("\t".join(arguments(training)[1:]) + "\n" for training in todo)
        logs = Path(os.environ.get("LTRSYS_LOGS", "logs"))
        tasks = logs / f"{study.path.stem}-{hashlib.sha256(lines.encode()).hexdigest()[:12]}.txt"
        with replaced(tasks, "w") as file:
            file.write(lines)
        job = _sbatch([f"--array=0-{len(todo) - 1}", *wait, *options, str(SCRIPT), "train", str(tasks)])
        log.info("%s: %d trainings are job array %s.", study.path, len(todo), job)
        wait = [f"--dependency=afterok:{job}"]
    job = _sbatch([*wait, *options, str(SCRIPT), "measure", str(study.path), *study.changes])
    log.info("%s: job %s then measures the rows. `ltrsys study show %s` prints the table.", study.path, job, study.path)


def _sbatch(arguments: Sequence[str]) -> str:
    done = subprocess.run(["sbatch", "--parsable", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise LtrsysError(f"sbatch {' '.join(arguments)}: {' '.join(done.stderr.split())}")
    return done.stdout.strip().partition(";")[0]
