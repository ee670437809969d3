"""The section `tracking`."""

from typing import Any

from pydantic import Field

from ltrsys.method_section import EachOf
from ltrsys.runs.trackers.base import TRACKERS, Tracker
from ltrsys.section import Section


class TrackingConfig(Section):
    """Where the metrics go besides metrics.jsonl; every tracker has a key of its name here."""

    project: str = "ltrsys"
    tags: list[str] = Field(default=[])

    def setting_of(self, tracker: type[Tracker]) -> Any:
        """Return the value of the tracker's own key."""
        return getattr(self, tracker.name, tracker.default)


TRACKING: EachOf[TrackingConfig] = EachOf(TRACKERS, TrackingConfig, lambda tracker: (tracker.setting, tracker.default))
