"""Samples that turned out bad in the middle of a run: noted once, and replaced by others of their class.

Which sample replaces another is a pure function of the seed, the epoch, the position and which samples are bad: a
run that goes on, and any number of ranks, come to the same. `RUN/quarantine.jsonl` has a line for each bad sample.
"""

import fcntl
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ltrsys.data.config import DataConfig
from ltrsys.data.index.dataset import Split
from ltrsys.data.reading.reader import BadSample
from ltrsys.errors import DataError
from ltrsys.files import explained
from ltrsys.random import Stream, words

log = logging.getLogger("ltrsys")


class Quarantine:
    """The bad samples of one split, as one rank knows them: those of the file at its start, and those it met."""

    def __init__(self, split: Split, *, max_share: float, path: Path | None = None) -> None:
        """Read what is known.

        Args:
            split: The images.
            max_share: The part of them that may be bad.
            path: The file that all ranks append to; without one, nothing is written.

        Raises:
            DataError: Where more samples than the share are known to be bad already.
        """
        self._split, self._max_share, self._path = split, max_share, path
        self._bad = quarantined(path, split) if path else set()
        if self._too_many():
            raise DataError(f"{path}: {self._how_many()}")

    @classmethod
    def of(cls, split: Split, config: DataConfig, path: Path | None = None) -> "Quarantine | None":
        """Return the quarantine that `data.on_error` asks for; None where the first bad sample ends the run."""
        return cls(split, max_share=config.max_bad_share, path=path) if config.on_error == "skip" else None

    def __contains__(self, sample: int) -> bool:
        return sample in self._bad

    def __len__(self) -> int:
        return len(self._bad)

    def add(self, bad: BadSample) -> None:
        """Note a bad sample.

        Raises:
            DataError: Where more samples than the share are bad, counting those that other ranks have noted.
        """
        if bad.sample in self._bad:
            return
        self._bad.add(bad.sample)
        if self._path is not None:
            self._append(self._path, bad)
        log.warning("%s It is replaced by another of its class.", bad)
        if self._too_many():
            raise DataError(f"{bad} With it, {self._how_many()}")

    def _too_many(self) -> bool:
        return len(self._bad) > self._max_share * len(self._split)

    def _how_many(self) -> str:
        return (
            f"{len(self._bad)} of {len(self._split)} {self._split.name} images are bad, more than "
            f"data.max_bad_share={self._max_share:g}. Raise that to go on without them, or put the shards right and "
            "begin a new run."
        )

    def _append(self, path: Path, bad: BadSample) -> None:
        """Append one line under a lock, unless another rank has noted the sample; take over what others noted."""
        split, sample = self._split, bad.sample
        line = {
            "split": split.name,
            "sample": sample,
            "label": int(split.label[sample]),
            "shard": split.record.shards[int(split.shard[sample])].name,
            "offset": int(split.offset[sample]),
            "reason": str(bad),
        }
        with explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(path, "a+b") as file:
                fcntl.lockf(file, fcntl.LOCK_EX)  # unlike flock, this also holds between the nodes of an NFS
                file.seek(0)
                content = file.read()
                noted = _samples_of_lines(content, split)
                if sample not in noted:
                    half_written = content and not content.endswith(b"\n")
                    file.write((b"\n" if half_written else b"") + json.dumps(line, ensure_ascii=False).encode() + b"\n")
                    file.flush()
                    os.fsync(file.fileno())
        self._bad |= noted


def quarantined(path: Path, split: Split) -> set[int]:
    """Return the samples of a split that a quarantine file names; none where there is no file."""
    try:
        return _samples_of_lines(path.read_bytes(), split)
    except FileNotFoundError:
        return set()


def replacements(split: Split, sample: int, *, seed: int, epoch: int, position: int) -> Iterator[int]:
    """Yield the other samples of a sample's class in the order in which they are tried in its place."""
    others = np.flatnonzero(split.label == split.label[sample])
    others = others[others != sample]
    if len(others):
        word = words(1, seed=seed, stream=Stream.REPLACEMENT, major=epoch, minor=position)[0]
        yield from np.roll(others, -int(word % np.uint64(len(others)))).tolist()


def _samples_of_lines(content: bytes, split: Split) -> set[int]:
    """Return the samples of the whole lines of a quarantine file; a kill may have left one half-written."""
    samples = set()
    for line in content.split(b"\n"):
        try:
            entry = json.loads(line)
            if entry["split"] == split.name and 0 <= entry["sample"] < len(split):
                samples.add(int(entry["sample"]))
        except (ValueError, KeyError, TypeError):
            continue
    return samples
