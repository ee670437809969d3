"""Where metrics go: `metrics.jsonl` always, wandb beside it on request. Only the first rank writes."""

import json
import logging
import math
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Protocol

from ltrsys.errors import UsageError
from ltrsys.files import explained, replaced
from ltrsys.runs.config import TrackingConfig
from ltrsys.runs.folder import RunFolder
from ltrsys.runs.wandb_file import last_step
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


class Tracker:
    """Appends to the run's metrics; a no-op on ranks other than the first."""

    def __init__(
        self, run: RunFolder, config: Tracked, world: World, *, name: str = "train", run_id: str | None = None
    ) -> None:
        """Open `metrics.jsonl`, and a wandb run unless that is disabled.

        Args:
            run: The folder that everything is written into, wandb's files included.
            config: The experiment, which wandb shows beside the curves.
            world: Only its first rank writes.
            name: What is being done: `train`, `balance`, ...
            run_id: wandb's id of the run that goes on; a new one if not given.
        """
        self._path = run.metrics
        self._file: IO[str] | None = None
        self._wandb: Any = None
        self._sent = -1
        """The last step that wandb has of earlier attempts: it takes no step twice."""
        if not world.is_main:
            return
        with explained(run.path):
            run.path.mkdir(parents=True, exist_ok=True)
            self._file = open(run.metrics, "a", encoding="utf-8", buffering=1)  # noqa: SIM115 closed by `close`
        if config.tracking.wandb != "disabled":
            if run_id is not None:
                self._sent = last_step(run.path, run_id)
            self._wandb = _start_wandb(run, config, name, run_id)

    @property
    def run_id(self) -> str | None:
        """wandb's id of the run; None where wandb is disabled, and on other ranks than the first."""
        return None if self._wandb is None else str(self._wandb.id)

    def rewind(self, step: int) -> None:
        """Drop what was logged after `step`: a run that resumes there logs it again.

        wandb gets what it has not: its process may have been killed with the training, before it wrote its last lines.
        """
        if self._file is None:
            return
        self._file.close()
        lines = self._path.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if _step_of(line) <= step]
        with replaced(self._path, "w") as file:
            file.writelines(kept)
        for values in map(json.loads, kept):
            self._send_points(values.pop("step"), values)
        self._file = open(self._path, "a", encoding="utf-8", buffering=1)  # noqa: SIM115 closed by `close`

    def log(self, step: int, values: Mapping[str, float | int | None]) -> None:
        """Write one line, and one point of each curve; null stands for what is empty or not finite."""
        if self._file is None:
            return
        finite = {name: value if value is None or math.isfinite(value) else None for name, value in values.items()}
        with explained(self._path):
            self._file.write(json.dumps({"step": step, **finite}, allow_nan=False) + "\n")
        self._send_points(step, finite)

    def log_images(self, step: int, images: Mapping[str, Path]) -> None:
        """Send image files to wandb under their names."""
        self._send(
            lambda wandb, run: run.log({name: wandb.Image(str(path)) for name, path in images.items()}, step=step)
        )

    def log_table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Send one table to wandb: per-class results belong here, not into thousands of curves."""
        self._send(
            lambda wandb, run: run.log({name: wandb.Table(columns=list(columns), data=[list(row) for row in rows])})
        )

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
        self._send(_finish)
        self._wandb = None

    def _send_points(self, step: int, values: Mapping[str, float | int | None]) -> None:
        points = {name: value for name, value in values.items() if value is not None}
        if step > self._sent:
            self._send(lambda wandb, run: run.log(points, step=step))

    def _send(self, action: Callable[[Any, Any], object]) -> None:
        """Let `action` use wandb and its run, if there is one; its failure ends the dashboard, not the training."""
        if self._wandb is None:
            return
        import wandb

        try:
            action(wandb, self._wandb)
        except Exception as error:
            self._wandb = None
            reason = " ".join(str(error).split())
            log.warning(
                "wandb failed (%s: %s). Nothing more is sent; %s has it all.", type(error).__name__, reason, self._path
            )
            with suppress(Exception):  # or it tries once more when the process ends, with a traceback
                wandb.teardown(1)


def _start_wandb(run: RunFolder, config: Tracked, name: str, run_id: str | None) -> Any:
    import wandb  # slow to import, and not needed where tracking is disabled

    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    try:
        return _init_wandb(wandb, run, config, name, run_id)
    except wandb.errors.Error as error:
        raise UsageError(
            f"tracking.wandb={config.tracking.wandb}: {' '.join(str(error).split())} Use offline or disabled otherwise."
        ) from error


def _init_wandb(wandb: Any, run: RunFolder, config: Tracked, name: str, run_id: str | None) -> Any:
    return wandb.init(
        project=config.tracking.project,
        id=run_id,
        resume="allow" if run_id and config.tracking.wandb == "online" else None,
        name=f"{config.name}-{name}",
        group=config.name,
        job_type=name,
        tags=config.tracking.tags,
        config=config.dump(),
        dir=run.path,
        mode=config.tracking.wandb,
        settings=wandb.Settings(silent=True, console="off", disable_git=True, disable_code=True),
    )


def _finish(wandb: Any, run: Any) -> None:
    """End the run, and wait for wandb's own process: `finish` may come back before the run's file is written.

    A run that goes on at once would find no step in it, and send all of them again.
    """
    run.finish()
    wandb.teardown()


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf  # the line that a killed process left half-written
