"""Images that are to be named, wherever they lie: files, members of tar files, samples of shards, pixels in memory."""

import io
import os
import tarfile
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from ltrsys.data.index.dataset import Split
from ltrsys.data.reading.reader import BadSample, ShardReader
from ltrsys.data.shards.tar import sample_key
from ltrsys.data.sources.files.formats import IMAGE_ENDINGS, ending
from ltrsys.data.validation.images import ORIENTATION
from ltrsys.errors import DataError, UsageError

MAX_BYTES = 2**30
"""A larger file is not read: no photograph is one, and it would fill the memory."""


SAMPLES_ANNOUNCED = 1024
"""Samples of shards that are asked of the disk, or the server, together."""


class UnreadableError(Exception):
    """Why the bytes of an image cannot be had."""


class Images(ABC):
    """A sequence of images; reading one of them may fail without an end of the others."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def name(self, place: int) -> str:
        """Return what an image is called in the answer: its path."""

    @abstractmethod
    def read(self, place: int) -> bytes:
        """Return the bytes of an image file; several threads may ask at once.

        Raises:
            UnreadableError: Says why they cannot be had.
        """

    def version(self, place: int) -> str:
        """Return what tells that an image has not changed since; empty where it never does."""
        return ""


@dataclass(frozen=True)
class Files(Images):
    """Files of a disk."""

    paths: Sequence[str]

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, place: int) -> str:
        """Return the path as it was given."""
        return self.paths[place]

    def read(self, place: int) -> bytes:
        """Return the content of the file."""
        try:
            descriptor = os.open(self.paths[place], os.O_RDONLY)
            try:
                return _content(descriptor)
            finally:
                os.close(descriptor)
        except FileNotFoundError:
            raise UnreadableError("there is no such file") from None
        except (OSError, ValueError) as error:  # a NUL byte in a path of a list
            raise UnreadableError(f"it cannot be read ({_reason(error)})") from None

    def version(self, place: int) -> str:
        """Return size and time of change of the file."""
        try:
            status = os.stat(self.paths[place])
        except (OSError, ValueError):
            return "cannot be told"
        return f"{status.st_size} {status.st_mtime_ns}"


@dataclass(frozen=True)
class TarMembers(Images):
    """The images of a tar file, as WebDataset's shards are."""

    path: Path
    members: Sequence[str]
    offsets: Sequence[int]
    sizes: Sequence[int]

    @classmethod
    def of(cls, path: Path) -> "TarMembers":
        """Find the images of a tar file by their endings.

        Raises:
            DataError: Where it cannot be read, is compressed, or holds no image.
        """
        found = []
        try:
            with tarfile.open(path, "r:") as archive:
                for member in archive:
                    if member.isreg() and ending(member.name) in IMAGE_ENDINGS:
                        found.append((member.name, member.offset_data, member.size))
        except (tarfile.TarError, OSError, EOFError) as error:
            raise DataError(
                f"{path}: not a plain tar file, or a damaged one ({_reason(error)}). Unpack it, and give the folder."
            ) from None
        if not found:
            raise DataError(f"{path}: there is no image in this tar file.")
        members, offsets, sizes = zip(*found, strict=True)
        return cls(path, members, offsets, sizes)

    def __len__(self) -> int:
        return len(self.members)

    def name(self, place: int) -> str:
        """Return the path of the tar file and that within it."""
        return f"{self.path}/{self.members[place]}"

    def read(self, place: int) -> bytes:
        """Return the content of the member."""
        if self.sizes[place] > MAX_BYTES:
            raise UnreadableError(f"it has {self.sizes[place]} bytes, more than {MAX_BYTES}")
        try:
            with open(self.path, "rb") as file:
                return os.pread(file.fileno(), self.sizes[place], self.offsets[place])
        except OSError as error:
            raise UnreadableError(f"its tar file cannot be read ({_reason(error)})") from None

    def version(self, place: int) -> str:
        """Return size and time of change of the tar file."""
        return Files([str(self.path)]).version(0)


class Samples(Images):
    """A split of a dataset, in the order of its samples."""

    def __init__(self, split: Split) -> None:
        """Open no shard yet."""
        self._split, self._reader = split, ShardReader(split)
        self._lock = Lock()
        self._announced = range(0)

    def __len__(self) -> int:
        return len(self._split)

    def name(self, place: int) -> str:
        """Return the path of the shard, and the sample's name within it."""
        return f"{self._split.shard_place(int(self._split.shard[place]))}/{sample_key(place)}.jpg"

    def read(self, place: int) -> bytes:
        """Return the stored JPEG, checked against its checksum."""
        with self._lock:
            if place not in self._announced:  # what is read one after another is then read ahead
                self._announced = range(place, min(place + SAMPLES_ANNOUNCED, len(self)))
                self._reader.announce(np.array(self._announced))
            try:
                (found,) = self._reader.read(np.array([place]))
            except DataError as error:
                raise UnreadableError(str(error)) from None
        if isinstance(found, BadSample):
            raise UnreadableError(str(found))
        return found


@dataclass(frozen=True)
class InMemory(Images):
    """Paths, images of Pillow, arrays and tensors, as a program has them."""

    items: Sequence[Any]

    def __len__(self) -> int:
        return len(self.items)

    def name(self, place: int) -> str:
        """Return the path; for pixels, the number of the image."""
        item = self.items[place]
        return os.fspath(item) if isinstance(item, str | os.PathLike) else f"image {place}"

    def read(self, place: int) -> bytes:
        """Return the bytes of the file, or of one that holds these pixels without loss.

        Raises:
            UsageError: For something that is no image, saying what would be one.
        """
        item = self.items[place]
        if isinstance(item, bytes):
            return item
        if isinstance(item, str | os.PathLike):
            return Files([os.fspath(item)]).read(0)
        return encoded(item if isinstance(item, Image.Image) else _image_of(item, place))


class Concatenated(Images):
    """Several of them, one after another."""

    def __init__(self, parts: Sequence[Images]) -> None:
        """Join them."""
        self._parts = parts
        self._firsts = list(accumulate((len(part) for part in parts), initial=0))

    def __len__(self) -> int:
        return self._firsts[-1]

    def _part(self, place: int) -> tuple[Images, int]:
        number = bisect_right(self._firsts, place) - 1
        return self._parts[number], place - self._firsts[number]

    def name(self, place: int) -> str:
        """Return the name that it has in its part."""
        part, own = self._part(place)
        return part.name(own)

    def read(self, place: int) -> bytes:
        """Return the bytes that its part gives."""
        part, own = self._part(place)
        return part.read(own)

    def version(self, place: int) -> str:
        """Return what its part says."""
        part, own = self._part(place)
        return part.version(own)


def _content(descriptor: int) -> bytes:
    """Return all that an open file holds.

    Raises:
        UnreadableError: Where that is too much.
        OSError: Where it cannot be read.
    """
    size = os.fstat(descriptor).st_size
    if size > MAX_BYTES:
        raise UnreadableError(f"it has {size} bytes, more than {MAX_BYTES}")
    content = os.read(descriptor, size)  # asked for MAX_BYTES, Python would make room for as much: 15 times slower
    if 0 < len(content) == size:
        return content
    with os.fdopen(descriptor, "rb", closefd=False) as file:  # a pipe, or a file system that gives less at once
        return content + file.read(MAX_BYTES)


def encoded(image: Image.Image) -> bytes:
    """Return a file that holds an image of Pillow without loss, with the rotation that its camera noted."""
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[ORIENTATION] = image.getexif().get(ORIENTATION, 1)
    if image.mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"):
        image.save(buffer, "PNG", compress_level=0, exif=exif)
    else:  # CMYK and the like
        image.save(buffer, "TIFF", exif=exif)
    return buffer.getvalue()


def _image_of(item: Any, place: int) -> Image.Image:
    """Return the image that an array [H, W] or [H, W, 3], or a tensor [H, W] or [3, H, W], of bytes holds."""
    pixels: NDArray[Any] | None = None
    if isinstance(item, torch.Tensor):
        pixels = item.detach().cpu().numpy()
        pixels = np.moveaxis(pixels, 0, -1) if pixels.ndim == 3 else pixels
    elif isinstance(item, np.ndarray):
        pixels = item
    if pixels is None or pixels.dtype != np.uint8 or not (pixels.ndim == 2 or pixels.shape[2:] in ((1,), (3,))):
        what = type(item).__name__
        if pixels is not None:
            what = f"{what} of {pixels.dtype}, {list(item.shape)}"
        raise UsageError(
            f"image {place} is a {what}. Give a path, bytes of an image file, an image of Pillow, a uint8 array "
            "[height, width, 3], or a uint8 tensor [3, height, width]; of values from 0 to 1, give "
            "(255 * values).round() as uint8."
        )
    if 0 in pixels.shape:
        raise UsageError(f"image {place} has no pixels: its shape is {list(item.shape)}.")
    return Image.fromarray(np.ascontiguousarray(pixels[:, :, 0] if pixels.shape[2:] == (1,) else pixels))


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error or type(error).__name__)
