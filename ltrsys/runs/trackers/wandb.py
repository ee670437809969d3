"""Weights & Biases: one run for a run folder, whatever is done in it and however often it is stopped.

Offline, every process of such a run writes a file of its own, all with the run's id. `wandb sync` sends them in the
order of their beginnings, each after the lines of those before, but with its own summary over theirs: so each file
states the whole summary. wandb's own highest value (`define_metric(summary="max")`) is that of one process, online too,
and would forget the best before a restart: best and last values are set here instead.
"""

import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, Self

from ltrsys.errors import UsageError
from ltrsys.runs.metric_names import BALANCING, METRICS, STEP, is_result
from ltrsys.runs.trackers.base import TRACKERS, AlertLevel, Artifact, TrackedJob, Tracker
from ltrsys.runs.trackers.wandb_artifacts import files_below, restore, wandb_artifact
from ltrsys.runs.trackers.wandb_file import last_step, last_summary, set_aside_empty

TITLE_LENGTH = 63
"""Longest title of an alert."""
BEST = frozenset(metric.key for metric in METRICS if metric.best)


@TRACKERS.register
class Wandb(Tracker):
    """A run of wandb, in the run folder or sent to its server."""

    name = "wandb"
    summary = "Weights & Biases: offline keeps its files in the run folder, online sends them"
    source = "https://docs.wandb.ai"
    order = 10
    setting = Literal["disabled", "offline", "online"]
    default = "offline"

    def __init__(self, run: Any, job: TrackedJob, *, sent: int, environment: str | None) -> None:
        """Log to `run`.

        Args:
            run: wandb's own.
            job: What is tracked.
            sent: The last of wandb's steps that the run has: it takes none twice.
            environment: What `files_below` returned.
        """
        self._run, self._job, self._sent, self._environment = run, job, sent, environment
        self._step = max(sent, 0)
        """wandb's step of the last points, which pictures and tables join."""
        self._best: dict[str, float] = {}
        self._exit_code = 0
        self._defined: set[str] = set()

    @classmethod
    def open(cls, job: TrackedJob, setting: Any) -> Self | None:
        """Begin a run of wandb, or go on with the one of `job.run_id`.

        A sweep's agent, and `WANDB_RUN_ID`, say which run a new one is; `WANDB_PROJECT` and `WANDB_MODE` go before the
        config.
        """
        mode = os.environ.get("WANDB_MODE", setting) if setting != "disabled" else setting
        if mode == "disabled":
            return None
        import wandb  # slow to import

        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        sweep = "WANDB_SWEEP_ID" in os.environ  # wandb then takes id and project from its agent alone
        given = os.environ.get("WANDB_RUN_ID")
        if known := given if sweep or job.run_id is None else job.run_id:
            set_aside_empty(job.folder, known)
        environment = files_below(job.folder / "wandb")
        try:
            run = wandb.init(
                project=None if sweep else os.environ.get("WANDB_PROJECT", job.project),
                id=None if sweep else job.run_id,
                resume="allow" if mode == "online" else None,
                name=job.experiment,
                group=os.environ.get("WANDB_RUN_GROUP", None if sweep else group_of(job.experiment)),
                job_type=os.environ.get("WANDB_JOB_TYPE", job.job) if job.run_id is None else None,
                tags=job.tags,
                config=job.config,
                dir=job.folder,
                mode=mode,
                settings=wandb.Settings(silent=True, console="off", disable_git=True, disable_code=True, symlink=False),
            )
        except (wandb.errors.Error, ValueError) as error:  # pydantic's, for a mode or an id that wandb does not take
            restore(environment)
            raise UsageError(
                f"tracking.wandb={mode}: {' '.join(str(error).split())} Use offline or disabled otherwise."
            ) from error
        return cls(run, job, sent=cls._begin(run, job), environment=environment)

    @staticmethod
    def _begin(run: Any, job: TrackedJob) -> int:
        """Say how the numbers are drawn, and restate the summary; return the last step that the run has."""
        for metric in METRICS:
            if metric.axis is None:
                run.define_metric(metric.key, hidden=metric is STEP)
            else:
                run.define_metric(metric.key, step_metric=metric.axis, summary="none" if metric.best else None)
        if not run.offline:
            return int(run.starting_step) - 1  # the server's last, which may lack some that the files here have
        run.summary.update(last_summary(job.folder, run.id))
        return last_step(job.folder, run.id)

    @property
    def run_id(self) -> str:
        """wandb's id of the run."""
        return str(self._run.id)

    def log(self, step: int, values: Mapping[str, float | int]) -> None:
        """Send one point of each curve, and keep best and last in the summary.

        The balancings of a run follow its last step: wandb's steps are in the order in which they are sent.
        """
        self._sum_up(values)
        self._step = step + int(values.get(BALANCING.key, 0))
        if self._step > self._sent:
            self._run.log({STEP.key: step, **values}, step=self._step)

    def _sum_up(self, values: Mapping[str, float | int]) -> None:
        for key, value in values.items():
            if key in BEST:
                self._best[key] = max(self._best.get(key, value), value)
                self._run.summary[key] = {"max": self._best[key], "last": value}
            elif is_result(key) and key not in self._defined:
                self._defined.add(key)
                self._run.define_metric(key, step_metric=BALANCING.key)

    def log_images(self, step: int, images: Mapping[str, Path]) -> None:
        """Send image files, beside the last points."""
        import wandb

        self._run.log({name: wandb.Image(str(path)) for name, path in images.items()}, step=self._step)

    def log_table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Send a table, beside the last points."""
        import wandb
        from PIL.Image import Image

        def cell(value: object) -> object:
            return wandb.Image(value, file_type="jpg") if isinstance(value, Image) else value

        table = wandb.Table(columns=list(columns), data=[[cell(value) for value in row] for row in rows])
        self._run.log({name: table}, step=self._step)

    def log_artifact(self, artifact: Artifact) -> None:
        """Keep files as an output of the run, or as an input where it has not made them."""
        if self._job.files == "none":
            return
        made = wandb_artifact(artifact, self._job, self.run_id)
        if artifact.is_input_of(self._job.folder):
            # `use_artifact` refuses to work offline, and waits for the server online; this is how it logs what is new
            self._run._log_artifact(made, is_user_created=True, use_after_commit=True)
        else:
            self._run.log_artifact(made)

    def alert(self, title: str, text: str, level: AlertLevel) -> None:
        """Have wandb send a message by mail or Slack, as its user has set."""
        self._run.alert(title[:TITLE_LENGTH], text, level.upper())

    def note_failure(self, exit_code: int) -> None:
        """Show the run as failed."""
        self._exit_code = exit_code

    def close(self) -> None:
        """End the run, and wait for wandb's own process: `finish` may come back before the run's file is written.

        A run that goes on at once would find no step in it, and send all of them again.
        """
        import wandb

        try:
            self._run.finish(self._exit_code)
            wandb.teardown(self._exit_code)
        finally:
            restore(self._environment)

    def abandon(self) -> None:
        """End wandb's run and process, or it tries once more when this one ends, with a traceback."""
        import wandb

        try:
            with suppress(Exception):  # its process may be gone
                self._run.finish(1)
            wandb.teardown(1)
        finally:
            restore(self._environment)


def group_of(experiment: str) -> str:
    """Return what runs of several seeds have in common: the name without its `-seed0`."""
    return re.sub(r"[-_.]seed[-_]?\d+$", "", experiment)
