"""The section `tracking`."""

from typing import Any, Literal

from pydantic import Field

from ltrsys.method_section import EachOf
from ltrsys.runs.trackers.base import TRACKERS, Tracker
from ltrsys.section import Section


class TrackingConfig(Section):
    """Where the metrics go besides metrics.jsonl; every tracker has a key of its name here."""

    project: str = "ltrsys"
    tags: list[str] = Field(default=[])
    artifacts: Literal["files", "references", "none"] = "files"
    """What trackers get of the dataset's record, the model, the classifiers, the results and the report: the files; of
    files of weights their place and checksum alone; or nothing."""

    def setting_of(self, tracker: type[Tracker]) -> Any:
        """Return the value of the tracker's own key."""
        return getattr(self, tracker.name, tracker.default)


TRACKING: EachOf[TrackingConfig] = EachOf(TRACKERS, TrackingConfig, lambda tracker: (tracker.setting, tracker.default))
