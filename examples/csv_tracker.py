"""A tracker of one's own: every number as a line of a CSV file, for a spreadsheet.

plugins: [examples/csv_tracker.py]
tracking: {csv: true}
"""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from ltrsys.runs.trackers.base import TRACKERS, TrackedJob, Tracker


@TRACKERS.register
class Csv(Tracker):
    """Lines of step, name and value."""

    name = "csv"
    summary = "every number as a line of RUN/metrics.csv"

    def __init__(self, path: Path) -> None:
        """Begin the file anew: whatever goes on with the run hands over all that it has logged."""
        self._file = open(path, "w", newline="", buffering=1)  # noqa: SIM115 closed by `close`
        self._lines = csv.writer(self._file)

    @classmethod
    def open(cls, job: TrackedJob, setting: Any) -> Self | None:
        """Open the file, if `tracking.csv` is true."""
        return cls(job.folder / "metrics.csv") if setting else None

    def log(self, step: int, values: Mapping[str, float | int]) -> None:
        """Write one line a number."""
        self._lines.writerows((step, name, value) for name, value in values.items())

    def close(self) -> None:
        """Close the file."""
        self._file.close()
