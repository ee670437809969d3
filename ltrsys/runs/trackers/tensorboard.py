"""TensorBoard's event files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from ltrsys.errors import UsageError
from ltrsys.runs.trackers.base import TRACKERS, AlertLevel, TrackedJob, Tracker


@TRACKERS.register
class TensorBoard(Tracker):
    """Event files in `RUN/tensorboard`, of training and balancing together."""

    name = "tensorboard"
    summary = "event files in the run folder: look at them with tensorboard --logdir RUN/tensorboard"
    source = "https://www.tensorflow.org/tensorboard"
    order = 20

    def __init__(self, folder: Path) -> None:
        """Write into `folder`."""
        from torch.utils.tensorboard import SummaryWriter

        self._folder = folder
        self._open = SummaryWriter
        self._writer: Any = None

    @classmethod
    def open(cls, job: TrackedJob, setting: Any) -> Self | None:
        """Begin a new event file; the tracker's page shows those of a folder as one run."""
        if not setting:
            return None
        try:
            return cls(job.folder / "tensorboard")
        except ImportError:
            raise UsageError(
                "tracking.tensorboard=true: tensorboard is not installed. Install it with `pip install tensorboard`, "
                "or leave this out."
            ) from None

    def log(self, step: int, values: Mapping[str, float | int]) -> None:
        """Write one point of each curve."""
        writer = self._writer_at(step)
        for name, value in values.items():
            writer.add_scalar(name, value, step)
        writer.flush()

    def log_images(self, step: int, images: Mapping[str, Path]) -> None:
        """Write images."""
        import numpy as np
        from PIL import Image

        for name, path in images.items():
            with Image.open(path) as image:
                self._writer_at(step).add_image(name, np.asarray(image.convert("RGB")), step, dataformats="HWC")

    def log_table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Write a table as text in Markdown, without the columns of pictures, which it cannot show."""
        from PIL.Image import Image

        shown = [place for place in range(len(columns)) if not any(isinstance(row[place], Image) for row in rows)]
        columns, rows = [columns[place] for place in shown], [[row[place] for place in shown] for row in rows]
        lines = [columns, ["---"] * len(columns), *rows]
        self._writer_at(0).add_text(name, "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines))

    def alert(self, title: str, text: str, level: AlertLevel) -> None:
        """Write it down as text."""
        self._writer_at(0).add_text("alerts", f"**{title}** ({level}): {text}")

    def close(self) -> None:
        """Close the file."""
        if self._writer is not None:
            self._writer.close()

    def _writer_at(self, step: int) -> Any:
        if self._writer is None:
            # what an earlier attempt wrote from this step on is passed over when the files are read
            self._writer = self._open(str(self._folder), purge_step=step)
        return self._writer
