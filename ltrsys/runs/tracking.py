"""Where metrics go: `metrics.jsonl` always, trackers beside it on request. Only the first rank writes."""

import json
import logging
import math
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, Protocol

from ltrsys.files import explained, replaced
from ltrsys.runs.config import TrackingConfig
from ltrsys.runs.folder import RunFolder
from ltrsys.runs.metric_names import BALANCING, STEP
from ltrsys.runs.metrics_file import read_metrics
from ltrsys.runs.tracker_ids import read_tracker_ids, write_tracker_ids
from ltrsys.runs.trackers.base import TRACKERS, AlertLevel, Artifact, TrackedJob, Tracker
from ltrsys.world import World

log = logging.getLogger("ltrsys")


class Tracked(Protocol):
    """What is read of an experiment's config."""

    @property
    def name(self) -> str:
        """Name of the run."""
        ...

    @property
    def tracking(self) -> TrackingConfig:
        """Where its metrics go."""
        ...

    def dump(self) -> dict[str, Any]:
        """Return all of it, to be shown."""
        ...


class MetricsLog:
    """Appends to the run's metrics and hands them to its trackers; a no-op on ranks other than the first."""

    def __init__(
        self,
        run: RunFolder,
        config: Tracked,
        world: World,
        *,
        name: str = "train",
        run_ids: Mapping[str, str] | None = None,
        begins: bool = False,
    ) -> None:
        """Open `metrics.jsonl`, and the trackers that are turned on.

        Args:
            run: The folder that everything is written into, the trackers' files included.
            config: The experiment, which trackers show beside the curves.
            world: Only its first rank writes.
            name: What is being done: `train`, `balance`, ...
            run_ids: The trackers' own ids of the run, by the tracker's name, where its folder does not say them: older
                versions kept them in checkpoints alone.
            begins: Whether the run begins here: it is then another one for trackers than any that was here before.
        """
        self._path = run.metrics
        self._file: IO[str] | None = None
        self._trackers: list[Tracker] = []
        if not world.is_main:
            return
        with explained(run.path):
            run.path.mkdir(parents=True, exist_ok=True)
            self._file = open(run.metrics, "a", encoding="utf-8", buffering=1)  # noqa: SIM115 closed by `close`
        try:
            tracking = config.tracking
            known = {} if begins else {**(run_ids or {}), **read_tracker_ids(run)}
            new = TrackedJob(run.path, config.name, name, tracking.project, tracking.tags, config.dump())
            for kind in TRACKERS:
                job = replace(new, run_id=known.get(kind.name), files=tracking.artifacts)
                if (tracker := kind.open(job, tracking.setting_of(kind))) is not None:
                    self._trackers.append(tracker)
            write_tracker_ids(run, known | self.run_ids)
        except BaseException:
            self.close()
            raise

    @property
    def run_ids(self) -> dict[str, str]:
        """The trackers' own ids of this run, by the tracker's name."""
        ids = {tracker.name: tracker.run_id for tracker in self._trackers}
        return {name: run_id for name, run_id in ids.items() if run_id is not None}

    @property
    def tracked(self) -> bool:
        """Whether any tracker is at work: without one, what only they get need not be made."""
        return bool(self._trackers)

    def rewind(self, step: int | None = None) -> None:
        """Drop what was logged after `step`: a run that resumes there logs it again. None keeps all of it.

        Trackers get all of what is kept, for those that lack a part of it: the process of one may have been killed with
        the training, before it wrote its last lines, or it was not turned on then. Lines of older versions get the
        names of this one.
        """
        if self._file is None:
            return
        self._file.close()
        kept = [line for line in read_metrics(self._path) if step is None or line[STEP.key] <= step]
        with replaced(self._path, "w") as file:
            file.writelines(json.dumps(line, allow_nan=False) + "\n" for line in kept)
        for line in kept:
            self._send_points(line)
        self._file = open(self._path, "a", encoding="utf-8", buffering=1)  # noqa: SIM115 closed by `close`

    def log(self, step: int, values: Mapping[str, float | int | None]) -> None:
        """Write one line, and one point of each curve; null stands for what is empty or not finite."""
        if self._file is None:
            return
        finite = {name: value if value is None or math.isfinite(value) else None for name, value in values.items()}
        line = {STEP.key: step, **finite}
        with explained(self._path):
            self._file.write(json.dumps(line, allow_nan=False) + "\n")
        self._send_points(line)

    def log_results(self, values: Mapping[str, float | None]) -> int:
        """Write what a balancing of the run has measured, as one line; return the step that it stands at.

        It stands at the last step of the training, with the number of the balancing.
        """
        before = read_metrics(self._path) if self._file is not None else []
        step = max((line[STEP.key] for line in before), default=0)
        number = 1 + max((line.get(BALANCING.key, 0) for line in before), default=0)
        self.log(step, {BALANCING.key: number, **values})
        return step

    def log_images(self, step: int, images: Mapping[str, Path]) -> None:
        """Send image files to the trackers under their names."""
        self._send(lambda tracker: tracker.log_images(step, images))

    def log_table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Send one table to the trackers: per-class results belong here, not into thousands of curves."""
        self._send(lambda tracker: tracker.log_table(name, columns, rows))

    def log_artifact(self, artifact: Artifact) -> None:
        """Give files to the trackers, with what they were made from."""
        self._send(lambda tracker: tracker.log_artifact(artifact))

    def alert(self, title: str, text: str, level: AlertLevel) -> None:
        """Have trackers tell whoever watches from afar."""
        self._send(lambda tracker: tracker.alert(title, text, level))

    def note_failure(self, exit_code: int) -> None:
        """Have trackers show the run as failed once they are closed."""
        self._send(lambda tracker: tracker.note_failure(exit_code))

    def sync(self) -> None:
        """Have all lines on disk: called before a checkpoint that counts on them."""
        if self._file is not None:
            with explained(self._path):
                os.fsync(self._file.fileno())  # its buffer is a line long

    def close(self) -> None:
        """Flush and close; safe to call twice."""
        if self._file is not None:
            self._file.close()
            self._file = None
        self._send(lambda tracker: tracker.close())
        self._trackers.clear()

    def _send_points(self, line: Mapping[str, Any]) -> None:
        points = {name: value for name, value in line.items() if value is not None and name != STEP.key}
        self._send(lambda tracker: tracker.log(line[STEP.key], points))

    def _send(self, action: Callable[[Tracker], object]) -> None:
        """Let `action` use each tracker; a failure ends that dashboard, not the training."""
        for tracker in list(self._trackers):
            try:
                action(tracker)
            except Exception as error:
                self._trackers.remove(tracker)
                reason = " ".join(str(error).split())
                log.warning(
                    "%s failed (%s: %s). Nothing more is sent; %s has it all.",
                    tracker.name,
                    type(error).__name__,
                    reason,
                    self._path,
                )
                with suppress(Exception):
                    tracker.abandon()
