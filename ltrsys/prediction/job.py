"""Predictions of many images, on many ranks, that go on where they were killed.

OUT.partial/job.json            what the predictions are made with: others are refused here
OUT.partial/00001-000002.jsonl  a part, the third of rank 1: a line that names its images, and a prediction a line
OUT.record.json                 beside the finished table: what it was made with
OUT                             the table, in the order of the images; there when all is done
"""

import fcntl
import hashlib
import json
import os
import shutil
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ltrsys.errors import DataError, UsageError
from ltrsys.files import explained, read_json, replaced, write_json
from ltrsys.prediction.answers import Prediction
from ltrsys.prediction.images.collections import Images
from ltrsys.prediction.tables import Layout, writer_for

IMAGES_OF_A_PART, SECONDS_OF_A_PART = 4096, 20.0
"""A part is written when it has so many images, or so much time has passed: that much is lost where a job is killed."""
PARTS_OPEN = 64
"""Parts that are held in memory while the table is put together."""


@dataclass(frozen=True)
class Job:
    """Predictions that go to one file."""

    out: Path
    made_with: dict[str, Any]
    """All that they depend on besides the images, as JSON values."""
    images: Images

    @property
    def folder(self) -> Path:
        """Where predictions are kept until all are there."""
        return self.out.with_name(f"{self.out.name}.partial")

    @property
    def record(self) -> Path:
        """What says how the finished table was made."""
        return self.out.with_name(f"{self.out.name}.record.json")

    def is_done(self, *, overwrite: bool) -> bool:
        """Tell whether the finished table is there, and is of these images and settings.

        Raises:
            UsageError: Where there is another table at its place, and it must not be written over.
        """
        if overwrite or not self.out.exists():
            return False
        if not self.record.exists():
            raise UsageError(f"{self.out}: there is a file already. Choose another --out, or give --overwrite.")
        record = read_json(self.record, "record of predictions")
        before = record.get("made_with") if isinstance(record, dict) else None
        if difference := _difference(before, self.made_with):
            raise UsageError(
                f"{self.out}: there are predictions already, and {difference}. Choose another --out, or give "
                "--overwrite."
            )
        if record.get("images") != self._digest():
            raise UsageError(
                f"{self.out}: there are predictions already, of other images or of older versions of them. Choose "
                "another --out, or give --overwrite."
            )
        return True

    def begin(self) -> None:
        """Begin, or go on: the first rank does it, before the others look.

        Raises:
            UsageError: Where predictions were begun here that are made otherwise.
        """
        path = self.folder / "job.json"
        if not path.exists():
            write_json(path, self.made_with)
        elif difference := _difference(read_json(path, "record of begun predictions"), self.made_with):
            raise UsageError(
                f"{self.folder}: predictions were begun here, and {difference}. Choose another --out, or remove that "
                "folder to begin anew."
            )

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other processes from writing the same table meanwhile; the first rank does it for all.

        Raises:
            UsageError: Where another one does.
        """
        with explained(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise UsageError(
                f"{self.out}: another process is writing these predictions. Let it end, or choose another --out."
            ) from None
        except OSError:  # a file system without locks: nobody can be kept out
            pass
        try:
            yield
        finally:
            os.close(descriptor)

    def missing(self) -> list[int]:
        """Return the places of the images that have no prediction yet, or have changed since."""
        versions = {name: version for name, (_, _, version) in self._kept().items()}
        return [
            place
            for place in range(len(self.images))
            if versions.get(name := self.images.name(place)) is None or versions[name] != self.images.version(place)
        ]

    def parts(self, rank: int) -> "PartWriter":
        """Return what keeps the predictions of a rank."""
        return PartWriter(self, rank)

    def finish(self, layout: Layout) -> list[Prediction]:
        """Put the table together, and remove the parts; return the images that could not be read."""
        kept, problems, parts = self._kept(), [], _Parts()
        with replaced(self.out) as file, writer_for(self.out)(file, layout) as table:
            for place in range(len(self.images)):
                path, line, _ = kept[self.images.name(place)]
                prediction = parts.prediction(path, line)
                if prediction.problem is not None:
                    problems.append(prediction)
                table.write(prediction)
            write_json(
                self.record, {"made_with": self.made_with, "images": self._digest(), "unreadable": len(problems)}
            )
        shutil.rmtree(self.folder, ignore_errors=True)
        return problems

    def _kept(self) -> dict[str, tuple[Path, int, str]]:
        """Return where the newest prediction of each image lies, by its name: part, line and the image's version."""
        return {
            name: (path, line, version)
            for path in sorted(self.folder.glob("*-*.jsonl"), key=_number_of)
            for line, (name, version) in enumerate(_images_of(path))
        }

    def _digest(self) -> str:
        """SHA-256 of the names and versions of all images."""
        digest = hashlib.sha256()
        for place in range(len(self.images)):
            digest.update(json.dumps([self.images.name(place), self.images.version(place)]).encode())
        return digest.hexdigest()


class PartWriter:
    """Keeps predictions as they come."""

    def __init__(self, job: Job, rank: int) -> None:
        """Go on after the parts that were written before, by whichever rank: a later one counts."""
        self._job, self._rank = job, rank
        self._number = 1 + max(map(_number_of, job.folder.glob("*-*.jsonl")), default=-1)
        self._images: list[tuple[str, str]] = []
        self._lines: list[str] = []
        self._begun = time.monotonic()

    def add(self, places: Sequence[int], predictions: Sequence[Prediction]) -> None:
        """Keep the predictions of the images at these places."""
        images = self._job.images
        # the version of before it was read would be better, but a change in between is as likely after
        self._images += [(images.name(place), images.version(place)) for place in places]
        self._lines += [json.dumps(prediction.to_json()) for prediction in predictions]
        if len(self._lines) >= IMAGES_OF_A_PART or time.monotonic() - self._begun > SECONDS_OF_A_PART:
            self.flush()

    def flush(self) -> None:
        """Have all of them on the disk."""
        if self._lines:
            path = self._job.folder / f"{self._rank:05d}-{self._number:06d}.jsonl"
            with replaced(path, "w") as file:
                file.write("\n".join([json.dumps(self._images), *self._lines]) + "\n")
            self._number += 1
        self._images, self._lines, self._begun = [], [], time.monotonic()


class _Parts:
    """Reads predictions of parts; the one longest unused is given up for another."""

    def __init__(self) -> None:
        self._open: OrderedDict[Path, list[str]] = OrderedDict()

    def prediction(self, path: Path, line: int) -> Prediction:
        if path not in self._open:
            if len(self._open) == PARTS_OPEN:
                self._open.popitem(last=False)
            self._open[path] = path.read_text(encoding="utf-8").splitlines()[1:]
        self._open.move_to_end(path)
        try:
            return Prediction.from_json(json.loads(self._open[path][line]))
        except (IndexError, ValueError, TypeError, KeyError) as error:
            raise _damaged(path, error) from None


def _number_of(path: Path) -> int:
    """Return the number of a part, which is higher than those of all earlier calls."""
    return int(path.stem.rpartition("-")[2])


def _images_of(path: Path) -> list[tuple[str, str]]:
    """Return the names and versions of the images of a part."""
    try:
        with open(path, encoding="utf-8") as file:
            return [(str(name), str(version)) for name, version in json.loads(file.readline())]
    except (ValueError, TypeError) as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> DataError:
    return DataError(
        f"{path}: a damaged part of the predictions ({error!r}). Remove it and run the same command again."
    )


def _difference(before: Any, now: dict[str, Any]) -> str | None:
    """Say what differs between how predictions were made and how they are to be made; None where nothing does."""
    if not isinstance(before, dict):
        return "nobody can say how they were made"
    for key in {**before, **now}:
        if before.get(key) != now.get(key):
            return f"their {key.replace('_', ' ')} was {_short(before.get(key))} and is now {_short(now.get(key))}"
    return None


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
