"""Checked images on their way into shards: chunks that are whole or absent.

Strata depend on how many images of each class pass the door, so every image is checked before the first one gets
its place. What passed waits here as a JPEG: each image is decoded once, and a build that is interrupted goes on
with the chunks that are missing.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ltrsys.data.index.columns import checksum
from ltrsys.data.shards.images import ImageRejectedError, check_image
from ltrsys.data.sources.source import Items, ReadImage
from ltrsys.errors import DataError
from ltrsys.files import read_json, replaced, write_json

CHUNK = 256
"""Images of a chunk: some seconds of work."""


@dataclass(frozen=True)
class Rejected:
    """An image that did not pass the door."""

    item: str
    reason: str


@dataclass(frozen=True)
class Chunk:
    """What became of `CHUNK` consecutive images of a split; arrays of that length."""

    sizes: NDArray[np.int64]
    """Bytes of the JPEG; 0 where the image was rejected."""
    widths: NDArray[np.int64]
    heights: NDArray[np.int64]
    checksums: NDArray[np.int64]
    rejected: list[Rejected]


@dataclass(frozen=True)
class Spool:
    """The chunks of one split, in a folder."""

    folder: Path

    def fill(self, number: int, items: Items, read: ReadImage, resize: int | None, refuse: bool) -> Chunk:
        """Check the images of chunk `number` and keep what passed; does nothing where that is done already.

        Raises:
            DataError: With `refuse`, for the first image that does not pass, naming it.
        """
        if self._record(number).exists():
            chunk = self._read_record(number)
        else:
            chunk = self._check(number, items, read, resize, refuse)
        if refuse and chunk.rejected:
            raise _refusal(chunk.rejected[0])
        return chunk

    def read(self, images: NDArray[np.int64], offsets: NDArray[np.int64], sizes: NDArray[np.int64]) -> list[bytes]:
        """Return the JPEGs of `images`, in their order; `offsets` is where each starts in its chunk.

        The files are read forward, which is what a disk likes best.
        """
        jpegs = [b""] * len(images)
        by_place = np.argsort(images, kind="stable")
        chunks = images[by_place] // CHUNK
        for places in np.split(by_place, np.flatnonzero(np.diff(chunks)) + 1):
            with open(self._jpegs(int(images[places[0]]) // CHUNK), "rb") as file:
                for place in places:
                    file.seek(int(offsets[place]))
                    jpegs[place] = file.read(int(sizes[place]))
        return jpegs

    def _check(self, number: int, items: Items, read: ReadImage, resize: int | None, refuse: bool) -> Chunk:
        sizes, widths, heights, checksums = ([0] * len(items) for _ in range(4))
        rejected = []
        with replaced(self._jpegs(number)) as file:
            for place, item in enumerate(items.names):
                try:
                    image = check_image(_read(read, item), resize=resize)
                except ImageRejectedError as error:
                    rejected.append(Rejected(item, str(error)))
                    if refuse:
                        raise _refusal(rejected[0]) from None
                    continue
                file.write(image.jpeg)
                sizes[place], widths[place], heights[place] = len(image.jpeg), image.width, image.height
                checksums[place] = checksum(image.jpeg)
        record = {
            "sizes": sizes,
            "widths": widths,
            "heights": heights,
            "checksums": checksums,
            "rejected": [[r.item, r.reason] for r in rejected],
        }
        write_json(self._record(number), record)
        return self._read_record(number)

    def _read_record(self, number: int) -> Chunk:
        record = read_json(self._record(number), "record of checked images")
        sizes, widths, heights, checksums = (
            np.array(record[key], dtype=np.int64) for key in ("sizes", "widths", "heights", "checksums")
        )
        return Chunk(sizes, widths, heights, checksums, [Rejected(*entry) for entry in record["rejected"]])

    def _jpegs(self, number: int) -> Path:
        return self.folder / f"{number:06d}.jpegs"

    def _record(self, number: int) -> Path:
        return self.folder / f"{number:06d}.json"


def _read(read: ReadImage, item: str) -> bytes:
    try:
        return read(item)
    except FileNotFoundError:
        raise ImageRejectedError("there is no such file") from None
    except OSError as error:
        raise ImageRejectedError(f"it cannot be read ({error.strerror})") from None


def _refusal(rejected: Rejected) -> DataError:
    return DataError(
        f"{rejected.item}: {rejected.reason}. Replace or remove it and run the same command again, or let such images "
        "be left out and listed with --on-reject list."
    )
