"""What every tracker is: a dashboard that gets a run's metrics beside `metrics.jsonl`."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from ltrsys.registry import Method, Registry


@dataclass(frozen=True)
class TrackedJob:
    """What is tracked: the training of a run, or its second stage."""

    folder: Path
    """The run folder: whatever a tracker writes is written below it."""
    experiment: str
    """The name of the run."""
    job: str
    """What is being done: `train`, `balance`."""
    project: str
    """`tracking.project`."""
    tags: list[str]
    """`tracking.tags`."""
    config: dict[str, Any]
    """The whole config, to be shown."""
    run_id: str | None = None
    """The tracker's own id of the job that goes on; None for a new one."""


class Tracker(Method, ABC):
    """A dashboard; only the first rank has one.

    It may raise what it likes while it works: it is then left out, with a warning, and the training goes on.
    """

    setting: ClassVar[Any] = bool
    """The type of `tracking.<name>`: `bool`, a `Literal`, or a `Section` of several keys."""
    default: ClassVar[Any] = False
    """The value of `tracking.<name>` where a config does not give it."""

    @classmethod
    @abstractmethod
    def open(cls, job: TrackedJob, setting: Any) -> Self | None:
        """Begin, or go on; return None where `setting` turns the tracker off.

        Raises:
            UsageError: Where it is turned on and cannot begin.
        """

    @abstractmethod
    def log(self, step: int, values: Mapping[str, float | int]) -> None:
        """Show one point of each curve.

        A run that resumes logs the steps after its checkpoint once more; whoever minds passes them over.
        """

    @property
    def run_id(self) -> str | None:
        """What `TrackedJob.run_id` gives back when the run goes on; kept in checkpoints."""
        return None

    def log_images(self, step: int, images: Mapping[str, Path]) -> None:
        """Show image files under their names; does nothing unless overridden."""
        return

    def log_table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Show a table; does nothing unless overridden."""
        return

    def close(self) -> None:
        """End: what was logged is kept. Does nothing unless overridden."""
        return

    def abandon(self) -> None:
        """Leave nothing at work after a failure; does nothing unless overridden."""
        return


TRACKERS: Registry[type[Tracker]] = Registry("tracker", "ltrsys.runs.trackers")
