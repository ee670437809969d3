"""Weights & Biases."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from ltrsys.errors import UsageError
from ltrsys.runs.trackers.base import TRACKERS, TrackedJob, Tracker
from ltrsys.runs.trackers.wandb_file import last_step


@TRACKERS.register
class Wandb(Tracker):
    """A run of wandb, in the run folder or sent to its server."""

    name = "wandb"
    summary = "Weights & Biases: offline keeps its files in the run folder, online sends them"
    source = "https://docs.wandb.ai"
    order = 10
    setting = Literal["disabled", "offline", "online"]
    default = "offline"

    def __init__(self, run: Any, sent: int) -> None:
        """Log to `run`, which has all steps up to `sent`: wandb takes no step twice."""
        self._run, self._sent = run, sent

    @classmethod
    def open(cls, job: TrackedJob, setting: Any) -> Self | None:
        """Begin a run of wandb, or go on with the one of `job.run_id`."""
        if setting == "disabled":
            return None
        import wandb  # slow to import

        sent = -1 if job.run_id is None else last_step(job.folder, job.run_id)
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        try:
            run = wandb.init(
                project=job.project,
                id=job.run_id,
                resume="allow" if job.run_id and setting == "online" else None,
                name=f"{job.experiment}-{job.job}",
                group=job.experiment,
                job_type=job.job,
                tags=job.tags,
                config=job.config,
                dir=job.folder,
                mode=setting,
                settings=wandb.Settings(silent=True, console="off", disable_git=True, disable_code=True),
            )
        except wandb.errors.Error as error:
            raise UsageError(
                f"tracking.wandb={setting}: {' '.join(str(error).split())} Use offline or disabled otherwise."
            ) from error
        return cls(run, sent)

    @property
    def run_id(self) -> str:
        """wandb's id of the run."""
        return str(self._run.id)

    def log(self, step: int, values: Mapping[str, float | int]) -> None:
        """Send one point of each curve."""
        if step > self._sent:
            self._run.log(dict(values), step=step)

    def log_images(self, step: int, images: Mapping[str, Path]) -> None:
        """Send image files."""
        import wandb

        self._run.log({name: wandb.Image(str(path)) for name, path in images.items()}, step=step)

    def log_table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Send a table."""
        import wandb

        self._run.log({name: wandb.Table(columns=list(columns), data=[list(row) for row in rows])})

    def close(self) -> None:
        """End the run, and wait for wandb's own process: `finish` may come back before the run's file is written.

        A run that goes on at once would find no step in it, and send all of them again.
        """
        import wandb

        self._run.finish()
        wandb.teardown()

    def abandon(self) -> None:
        """End wandb's process, or it tries once more when this one ends, with a traceback."""
        import wandb

        wandb.teardown(1)
