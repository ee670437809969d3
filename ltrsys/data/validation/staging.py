"""Checked images on their way into shards.

Strata depend on how many images of each class pass the check, so every image is checked before the first one gets its
place. What passed waits in files of some hundred images. A file is whole or absent, and says which images it holds and
what their files were like: a build that goes on, or that follows a change of the photographs, checks what is new.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltrsys.data.index.columns import checksum
from ltrsys.data.sources.source import ReadImage
from ltrsys.data.validation.images import ImageRejectedError, check_image
from ltrsys.data.validation.looks import THUMBNAIL, perceptual_hashes
from ltrsys.data.validation.workers import RunTasks, run_here
from ltrsys.errors import DataError
from ltrsys.files import read_json, replaced, write_json
from ltrsys.progress import progress

CHUNK = 256
"""Images of a file: some seconds of work."""
FEW_CHUNKS = 8
"""So many may be done in `WORTH_PROCESSES`, if the images are small."""
WORTH_PROCESSES = 2.0
"""Seconds of work of which two processes save half; they take about one to start."""

NUMBERS = ("offsets", "sizes", "widths", "heights", "checksums")
TEXTS = ("items", "versions", "formats")
COLUMNS = (*TEXTS, *NUMBERS, "pixels", "looks", "samples")


@dataclass(frozen=True)
class Staged:
    """What became of a list of images; arrays of shape [images]."""

    items: NDArray[np.object_]
    """Their names."""
    versions: NDArray[np.object_]
    """What told that the item is what it was (`Source.version`); None where it could not be told."""
    offsets: NDArray[np.int64]
    """Where the JPEG starts in its file."""
    sizes: NDArray[np.int64]
    """Bytes of the JPEG; 0 where the image was rejected."""
    widths: NDArray[np.int64]
    heights: NDArray[np.int64]
    checksums: NDArray[np.int64]
    pixels: NDArray[np.void]
    """Digest of the pixels in small, 16 bytes each."""
    looks: NDArray[np.uint64]
    """Perceptual hash."""
    formats: NDArray[np.object_]
    """What the file was, in Pillow's words; empty where the image was rejected."""
    files: NDArray[np.int64]
    """Number of the file in `paths`."""
    paths: list[Path]
    samples: NDArray[np.int64]
    """Number of the sample in the split of an earlier build that the image is read from; -1 where it is from none."""
    rejected: dict[int, str] = field(default_factory=dict)
    """Why an image, by its place, was rejected."""

    def __len__(self) -> int:
        return len(self.items)

    def take(self, places: NDArray[np.int64]) -> "Staged":
        """Return the images at `places`; what was rejected must not be among them."""
        return replace(self, rejected={}, **{name: getattr(self, name)[places] for name in (*COLUMNS, "files")})

    @classmethod
    def concatenated(cls, parts: Sequence["Staged"]) -> "Staged":
        """Return the images of all parts, one after another."""
        firsts = np.cumsum([0, *(len(part) for part in parts)])
        first_paths = np.cumsum([0, *(len(part.paths) for part in parts)])
        columns: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts]) for name in COLUMNS}
        return cls(
            paths=[path for part in parts for path in part.paths],
            files=np.concatenate([part.files + first for part, first in zip(parts, first_paths[:-1], strict=True)]),
            rejected={
                int(first) + place: reason
                for part, first in zip(parts, firsts[:-1], strict=True)
                for place, reason in part.rejected.items()
            },
            **columns,
        )


_NO_NUMBERS: dict[str, Any] = {name: np.zeros(0, np.int64) for name in (*NUMBERS, "files", "samples")}
_NO_TEXTS: dict[str, Any] = {name: np.zeros(0, object) for name in TEXTS}
NOTHING = Staged(paths=[], pixels=np.zeros(0, "V16"), looks=np.zeros(0, np.uint64), **_NO_NUMBERS, **_NO_TEXTS)


def stage(
    items: Sequence[str],
    read: ReadImage,
    version: Callable[[str], str] | None,
    folder: Path,
    run: RunTasks,
    *,
    resize: int | None,
    earlier: Staged = NOTHING,
) -> Staged:
    """Check images, and keep what passes in `folder`; what was checked before and has not changed is taken from there.

    Args:
        items: The names of the images, each once.
        read: Returns the bytes of an item.
        version: Tells whether an item has changed; None where items never do.
        folder: Where what passes is kept.
        run: Runs the work in other processes.
        resize: What the short side is reduced to, in pixels.
        earlier: The images of an earlier build.

    Returns:
        What became of the images, in the order of `items`.
    """
    records = sorted(folder.glob("*.json"))
    known = Staged.concatenated([earlier, *map(_read, records)])
    places = dict(zip(known.items.tolist(), range(len(known)), strict=True))
    versions = known.versions.tolist()
    missing = [
        item for item in items if (place := places.get(item)) is None or versions[place] != _version_of(item, version)
    ]
    first = 1 + max((int(path.stem) for path in records), default=-1)
    chunks = [missing[start : start + CHUNK] for start in range(0, len(missing), CHUNK)]
    tasks = [(folder, first + number, chunk, read, version, resize) for number, chunk in enumerate(chunks)]
    parts = [known]
    with progress("checking images", len(missing)) as advance:
        for part in _checked(tasks, run):
            parts.append(part)
            advance(len(part))
    every = Staged.concatenated(parts)
    # of the last check, where there are several
    places |= dict(zip(every.items[len(known) :].tolist(), range(len(known), len(every)), strict=True))
    chosen = np.array([places[item] for item in items], dtype=np.int64)
    left_out = np.flatnonzero(np.isin(chosen, [*every.rejected]))
    rejected = {
        place: every.rejected[row] for place, row in zip(left_out.tolist(), chosen[left_out].tolist(), strict=True)
    }
    return replace(every.take(chosen), rejected=rejected)


def _checked(tasks: Sequence[tuple[Any, ...]], run: RunTasks) -> Iterator[Staged]:
    """Check chunks, in this process where there is too little to do for others."""
    here, begin = 0, time.process_time()
    while here < len(tasks) <= FEW_CHUNKS and time.process_time() - begin < WORTH_PROCESSES:
        yield from run_here(check_chunk, tasks[here : here + 1])
        here += 1
    if here < len(tasks):
        yield from run(check_chunk, tasks[here:])


def _version_of(item: str, version: Callable[[str], str] | None) -> str:
    if version is None:
        return ""
    try:
        return version(item)
    except OSError:
        return "cannot be told"  # which no image that was checked has: it is checked again


def check_chunk(
    folder: Path,
    number: int,
    items: Sequence[str],
    read: ReadImage,
    version: Callable[[str], str] | None,
    resize: int | None,
) -> Staged:
    """Check some images, and write what passes as file `number`, and after it what became of each."""
    columns: dict[str, list[Any]] = {name: [0] * len(items) for name in NUMBERS}
    versions: list[str | None] = [None] * len(items)
    pixels, formats = [bytes(16)] * len(items), [""] * len(items)
    thumbnails = np.zeros((len(items), THUMBNAIL, THUMBNAIL), np.uint8)
    rejected: dict[int, str] = {}
    end = 0
    with replaced(_jpegs(folder, number)) as file:
        for place, item in enumerate(items):
            try:
                # Before it is read: a file that changes in between is checked again next time.
                versions[place] = "" if version is None else version(item)
                image = check_image(read(item), resize=resize)
            except (ImageRejectedError, OSError) as error:
                rejected[place] = str(error) if isinstance(error, ImageRejectedError) else _why_unreadable(error)
                continue
            file.write(image.jpeg)
            values = (end, len(image.jpeg), image.width, image.height, checksum(image.jpeg))
            for name, value in zip(NUMBERS, values, strict=True):
                columns[name][place] = value
            end += len(image.jpeg)
            pixels[place], thumbnails[place], formats[place] = image.look.digest, image.look.thumbnail, image.format
    record = {
        "items": list(items),
        "versions": versions,
        **columns,
        "pixels": [digest.hex() for digest in pixels],
        "looks": perceptual_hashes(thumbnails).tolist(),
        "formats": formats,
        "rejected": {str(place): reason for place, reason in rejected.items()},
    }
    write_json(_record(folder, number), record, indent=None)
    return _read(_record(folder, number))


def jpegs_of(staged: Staged) -> Iterator[bytes]:
    """Yield the JPEGs in order; each file is opened once and read forward, which is what a disk likes best."""
    jpegs = [b""] * len(staged)
    in_file = np.lexsort((staged.offsets, staged.files))
    for places in np.split(in_file, np.flatnonzero(np.diff(staged.files[in_file])) + 1) if len(staged) else []:
        with open(staged.paths[staged.files[places[0]]], "rb") as file:
            for place in places:
                file.seek(int(staged.offsets[place]))
                jpegs[place] = file.read(int(staged.sizes[place]))
    yield from jpegs


def refusal(staged: Staged, rejected_file: Path, most: int = 10) -> DataError:
    """Return the error of a build that some images keep from going on: how many, the first ones, and what to do."""
    first = "; ".join(f"{staged.items[place]}: {staged.rejected[place]}" for place in sorted(staged.rejected)[:most])
    count = len(staged.rejected)
    more = f"; and {count - most} more" if count > most else ""
    return DataError(
        f"{count} of {len(staged)} images cannot be used: {first}{more}. All are in {rejected_file}. Replace or remove "
        "them and run the same command again, which checks only what has changed, or leave them out with "
        "--on-reject list."
    )


def _why_unreadable(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    return f"it cannot be read ({error.strerror or error})"


def _read(path: Path) -> Staged:
    record = read_json(path, "record of checked images")
    numbers: dict[str, Any] = {name: np.array(record[name], dtype=np.int64) for name in NUMBERS}
    texts: dict[str, Any] = {name: np.array(record[name], dtype=object) for name in TEXTS}
    return Staged(
        pixels=np.frombuffer(bytes.fromhex("".join(record["pixels"])), "V16"),
        looks=np.array(record["looks"], dtype=np.uint64),
        files=np.zeros(len(record["items"]), np.int64),
        paths=[path.with_suffix(".jpegs")],
        samples=np.full(len(record["items"]), -1),
        rejected={int(place): reason for place, reason in record["rejected"].items()},
        **numbers,
        **texts,
    )


def _jpegs(folder: Path, number: int) -> Path:
    return folder / f"{number:06d}.jpegs"


def _record(folder: Path, number: int) -> Path:
    return folder / f"{number:06d}.json"
