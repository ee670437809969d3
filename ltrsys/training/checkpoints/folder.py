"""The checkpoints of a run: written while training goes on, the last few kept, damaged ones passed over."""

import logging
import os
import re
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from ltrsys.errors import DataError, LtrsysError
from ltrsys.training.checkpoints.checkpoint import Checkpoint, read_progress

log = logging.getLogger("ltrsys")

BEST = "best.safetensors"
_NAME = re.compile(r"step-(\d{9})\.safetensors")


def tracking_runs_of(path: Path) -> dict[str, str]:
    """Return the trackers' own ids that the newest checkpoint of a folder names; none where there is none to read."""
    newest = max(path.glob("step-*.safetensors"), default=None)
    try:
        return {} if newest is None else read_progress(newest).tracking_runs
    except DataError:
        return {}


class CheckpointFolder:
    """Checkpoints by step, and the best one; written by a thread of their own."""

    def __init__(self, path: Path, *, kept: int) -> None:
        """Look at the folder, which need not exist.

        Args:
            path: `RUN/checkpoints`.
            kept: How many checkpoints stay, the best one apart.
        """
        self.path, self._kept = path, kept
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing: Future[None] | None = None

    def has_any(self) -> bool:
        """Return whether there is a checkpoint, whole or damaged.

        Raises:
            LtrsysError: Where the folder is there and cannot be read.
        """
        return next(self._newest_first(), None) is not None

    def newest(self) -> tuple[Path, Checkpoint] | None:
        """Return the newest checkpoint that is whole, and its path; None where there is none at all.

        Raises:
            DataError: Where there are some, and every one is damaged.
            LtrsysError: Where the folder is there and cannot be read: whether there are some is not known.
        """
        damaged: DataError | None = None
        for path in self._newest_first():
            try:
                checkpoint = Checkpoint.load(path)
            except DataError as error:
                damaged = damaged or error
                log.warning("%s It is passed over.", error)
                continue
            if damaged:
                log.warning("%s is whole: the run goes on from there.", path)
            return path, checkpoint
        if damaged:
            raise DataError(f"{damaged} No checkpoint of this run is whole: move {self.path} away to begin it anew.")
        return None

    def save(self, checkpoint: Checkpoint, *, best: bool = False, last: bool = True) -> None:
        """Copy the checkpoint and have it written meanwhile; a second call waits for the first one's writing.

        A full disk ends neither the run nor the checkpoints that are there: it is logged, and the next is tried.

        Args:
            checkpoint: The run as it is.
            best: Whether it takes the place of the best one.
            last: Whether the run may go on from it.
        """
        self.wait()
        # The run goes on from the last one: where there is room for one of them, it is that.
        names = [f"step-{checkpoint.progress.step:09d}.safetensors"] * last + [BEST] * best
        self._writing = self._writer.submit(self._write, checkpoint.copied(), [self.path / name for name in names])

    def wait(self) -> bool:
        """Wait for what is being written; return False, and log why, where it could not be.

        Raises:
            Exception: What is not the disk's or the folder's fault.
        """
        if self._writing is None:
            return True
        writing, self._writing = self._writing, None
        try:
            writing.result()
        except LtrsysError as error:
            last = next(self._newest_first(), None)
            left = f"The last good checkpoint is {last}" if last else "There is no checkpoint yet"
            log.warning("%s %s.", error, left)
            return False
        return True

    def close(self) -> None:
        """Wait for what is being written, and end the thread."""
        self.wait()
        self._writer.shutdown()

    def _write(self, checkpoint: Checkpoint, paths: list[Path]) -> None:
        for path in paths:
            checkpoint.save(path)
            if path.name != BEST:
                # Those of later steps were damaged, or the run would have gone on from them: they take nobody's place.
                own = [one for one in self._newest_first() if one.name <= path.name]
                for old in own[self._kept :]:
                    old.unlink()

    def _newest_first(self) -> Iterator[Path]:
        # Unlike glob, listdir does not take a folder that it may not read for an empty one.
        try:
            names = os.listdir(self.path)
        except FileNotFoundError:
            names = []
        except OSError as error:
            raise LtrsysError(
                f"{self.path}: the folder of checkpoints cannot be read ({error.strerror}). Make it readable; without "
                "it, the run would begin anew."
            ) from error
        return (self.path / name for name in sorted(names, reverse=True) if _NAME.fullmatch(name))
