"""Starting what a study lacks: here, one training after another or some at once, or as job arrays of SLURM."""

import hashlib
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import IO

from ltrsys.errors import LtrsysError, UsageError
from ltrsys.files import replaced
from ltrsys.studies.machine import Share, shares
from ltrsys.studies.study import OpenStudy, Training
from ltrsys.training.supervision.process_group import free_port

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


def train_here(study: OpenStudy, gpus: int, jobs: int) -> None:
    """Train what is missing; each goes on where it was stopped, and begins when what it starts from has ended.

    Args:
        study: The study.
        gpus: Ranks of each training, on this machine.
        jobs: Trainings at once, each with its part of the machine. What one of several prints is told when it ends.

    Raises:
        UsageError: Where the machine is too small.
        LtrsysError: Where a training fails; no other is started then.
    """
    todo = missing(study)
    if not todo:
        return
    free, total, failed = shares(jobs, gpus), len(todo), ""
    with ThreadPoolExecutor(jobs) as waiters, _stopped_with_this() as running:
        ends: dict[Future[int], _Running] = {}
        while ends or (todo and not failed):
            ready = next((training for training in todo if training.turn == 0), None)
            if free and ready and not failed:
                todo.remove(ready)
                number = total - len(todo)
                log.info("%s: training %d of %d that are missing: %s.", study.path, number, total, ready.run.path)
                running.append(_Running.start(ready, free.pop(0), told_at_its_end=jobs > 1))
                ends[waiters.submit(running[-1].process.wait)] = running[-1]
                continue
            if not ends:
                raise LtrsysError(f"{todo[0].run.path}: what this training starts from is gone. Run the command again.")
            for end in wait(ends, return_when=FIRST_COMPLETED).done:
                ended = ends.pop(end)
                running.remove(ended)
                ended.tell()
                free.append(ended.share)
                if end.result() or not ended.training.run.model.exists():
                    failed = failed or (
                        f"{ended.training.run.path}: this training of the study ended with exit code {end.result()}; "
                        "what it said is above. The same command goes on from there."
                    )
    if failed:
        raise LtrsysError(failed)


@dataclass(frozen=True)
class _Running:
    """A training that has been started, in a session of its own: signals come from here alone, and once."""

    training: Training
    share: Share
    process: subprocess.Popen[bytes]
    printed: IO[bytes] | None
    """What it has printed, if that is told at its end."""

    @classmethod
    def start(cls, training: Training, share: Share, *, told_at_its_end: bool) -> "_Running":
        """Start one."""
        printed = tempfile.TemporaryFile() if told_at_its_end else None  # noqa: SIM115 (closed by `tell`)
        process = subprocess.Popen(
            [*share.confined, *_launcher(share), *arguments(training)],
            env=share.environment,
            stdout=printed,
            stderr=printed,
            start_new_session=True,
        )
        return cls(training, share, process, printed)

    def interrupt(self) -> None:
        """Have it save its state and end; at once, if it is asked a second time."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGINT)

    def tell(self) -> None:
        """Print what it has printed."""
        if self.printed is not None:
            with self.printed:
                self.printed.seek(0)
                sys.stderr.write(self.printed.read().decode(errors="replace"))


@contextmanager
def _stopped_with_this() -> Iterator[list[_Running]]:
    """Have trainings save their state and end where this process is to end, and wait for that.

    SIGTERM ends it as Ctrl-C does. A second Ctrl-C has the trainings end at once.
    """
    running: list[_Running] = []
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield running
    except BaseException:
        for one in running:
            one.interrupt()
        try:
            for one in running:
                one.process.wait()
        except KeyboardInterrupt:
            for one in running:
                one.interrupt()
                one.process.wait()
        for one in running:
            one.tell()
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def arguments(training: Training) -> list[str]:
    """Return what the launchers of `ltrsys train` take for a training."""
    return ["--config", str(training.config_file), *training.overrides]


def _launcher(share: Share) -> list[str]:
    if len(share.gpus) <= 1:
        return [sys.executable, "-c", "from ltrsys.cli.main import main; main()", "train"]
    script = Path("launchers") / "train.py"
    if not script.exists():
        raise UsageError(
            f"--gpus {len(share.gpus)}: there is no {script} here. Run this from the checkout, or leave out --gpus."
        )
    # It takes the GPUs of CUDA_VISIBLE_DEVICES where it is told no number, and where there is no list of hosts.
    deepspeed = str(Path(sys.executable).with_name("deepspeed"))
    return [deepspeed, "--hostfile", os.devnull, "--master_port", str(free_port()), str(script)]


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
    after: list[str] = []
    for _, turn in groupby(missing(study), key=lambda training: training.turn):
        todo = list(turn)
        lines = "".join("\t".join(arguments(training)[1:]) + "\n" for training in todo)
        logs = Path(os.environ.get("LTRSYS_LOGS", "logs"))
        tasks = logs / f"{study.path.stem}-{hashlib.sha256(lines.encode()).hexdigest()[:12]}.txt"
        with replaced(tasks, "w") as file:
            file.write(lines)
        job = _sbatch([f"--array=0-{len(todo) - 1}", *after, *options, str(SCRIPT), "train", str(tasks)])
        log.info("%s: %d trainings are job array %s.", study.path, len(todo), job)
        after = [f"--dependency=afterok:{job}"]
    job = _sbatch([*after, *options, str(SCRIPT), "measure", str(study.path), *study.changes])
    log.info("%s: job %s then measures the rows. `ltrsys study show %s` prints the table.", study.path, job, study.path)


def _sbatch(arguments: Sequence[str]) -> str:
    done = subprocess.run(["sbatch", "--parsable", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise LtrsysError(f"sbatch {' '.join(arguments)}: {' '.join(done.stderr.split())}")
    return done.stdout.strip().partition(";")[0]
