"""Predictions of many images, on many ranks, that go on where they were killed.

OUT.partial/job.json            what the predictions are made with: others are refused here
OUT.partial/00001-000002.jsonl  a part, the third of rank 1 (`parts`)
OUT.record.json                 beside the finished table: what it was made with
OUT                             the table, in the order of the images; there when all is done
"""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ltrsys.errors import UsageError
from ltrsys.files import explained, read_json, replaced, write_json
from ltrsys.prediction.answers import Prediction
from ltrsys.prediction.images.collections import Images
from ltrsys.prediction.parts import FORMAT, AnswerOf, PartReader, PartWriter, newest_predictions
from ltrsys.prediction.tables import Layout, writer_for


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
        path, made_with = self.folder / "job.json", {"format": FORMAT, **self.made_with}
        if not path.exists():
            write_json(path, made_with)
        elif difference := _difference(read_json(path, "record of begun predictions"), made_with):
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
        versions = {name: version for name, (_, _, version) in newest_predictions(self.folder).items()}
        return [
            place
            for place in range(len(self.images))
            if versions.get(name := self.images.name(place)) is None or versions[name] != self.images.version(place)
        ]

    def parts(self, rank: int) -> PartWriter:
        """Return what keeps the predictions of a rank."""
        return PartWriter(self.folder, self.images, rank)

    def finish(self, layout: Layout, answer: AnswerOf) -> list[Prediction]:
        """Put the table together, and remove the parts; return the images that could not be read.

        Raises:
            DataError: Where a part is damaged.
        """
        lines, problems, parts = newest_predictions(self.folder), [], PartReader(answer)
        with replaced(self.out) as file, writer_for(self.out)(file, layout) as table:
            for place in range(len(self.images)):
                path, line, _ = lines[self.images.name(place)]
                prediction = parts.prediction(path, line)
                if prediction.problem is not None:
                    problems.append(prediction)
                table.write(prediction)
            write_json(
                self.record, {"made_with": self.made_with, "images": self._digest(), "unreadable": len(problems)}
            )
        shutil.rmtree(self.folder, ignore_errors=True)
        return problems

    def _digest(self) -> str:
        """SHA-256 of the names and versions of all images."""
        digest = hashlib.sha256()
        for place in range(len(self.images)):
            digest.update(json.dumps([self.images.name(place), self.images.version(place)]).encode())
        return digest.hexdigest()


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
