"""What every tracker is: a dashboard that gets a run's metrics beside `metrics.jsonl`."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from ltrsys.registry import Method, Registry

AlertLevel = Literal["info", "warn", "error"]


@dataclass(frozen=True)
class TrackedJob:
    """What is tracked: the training of a run, or its second stage. Both, and a second balancing, are one run."""

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
    """The tracker's own id of the run, which this job goes on with; None for a new one."""
    files: Literal["files", "references", "none"] = "files"
    """`tracking.artifacts`: what is given of the files of an artifact."""


@dataclass(frozen=True)
class Artifact:
    """Some files of a run that belong together, as a version of what goes by a name."""

    name: str
    kind: str
    """`dataset`, `model`, `classifiers`, `results` or `report`."""
    files: Mapping[str, Path]
    """By their names in the artifact."""
    made_by: Path | None
    """The run folder that they come from; None for what no run has made, such as a dataset."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    uses: Sequence[str] = ()
    """Names of the artifacts that it was made from."""

    def is_input_of(self, folder: Path) -> bool:
        """Say whether the run in `folder` takes it, and has not made it."""
        return self.made_by is None or self.made_by.absolute() != folder.absolute()


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
        """Show one point of each curve; the names are those of `ltrsys.runs.metric_names`.

        Every job is first handed all that was logged before, by it or another one. A run that resumes logs the steps
        after its checkpoint once more. Whoever minds passes over what it has.
        """

    @property
    def run_id(self) -> str | None:
        """What `TrackedJob.run_id` gives back when the run goes on; kept in the run folder and in checkpoints."""
        return None

    def log_images(self, step: int, images: Mapping[str, Path]) -> None:
        """Show image files under their names; does nothing unless overridden."""
        return

    def log_table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Show a table, whose cells may be pictures (`PIL.Image.Image`); does nothing unless overridden."""
        return

    def log_artifact(self, artifact: Artifact) -> None:
        """Keep files and what they were made from; does nothing unless overridden.

        The same artifact may come again with the same files: that is no new version of it.
        """
        return

    def alert(self, title: str, text: str, level: AlertLevel) -> None:
        """Tell whoever watches from afar; does nothing unless overridden."""
        return

    def note_failure(self, exit_code: int) -> None:
        """Take note that the job ends before its time; `close` follows. Does nothing unless overridden."""
        return

    def close(self) -> None:
        """End: what was logged is kept. Does nothing unless overridden."""
        return

    def abandon(self) -> None:
        """Leave nothing at work after a failure; does nothing unless overridden."""
        return


TRACKERS: Registry[type[Tracker]] = Registry("tracker", "ltrsys.runs.trackers")
