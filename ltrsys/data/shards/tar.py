"""The tar files: how samples stand in one, in bytes.

A sample is two members, `000000123.cls` and `000000123.jpg`: the class id in decimal and the image. Everything
that could differ between builds (times, owners) is fixed, so that equal samples make equal files.
"""

import hashlib
import tarfile
from collections.abc import Iterable
from typing import IO

import numpy as np
from numpy.typing import NDArray

BLOCK, RECORD = 512, 10_240
"""Tar files consist of blocks, and are filled up to whole records."""
AT_ONCE = 4 * 2**20
"""Bytes that are hashed and written together."""
MODE = 0o444
"""Permissions of a member: everybody may read it."""
JPEG_OFFSET = 3 * BLOCK
"""From the start of a sample to its JPEG: the header and the data of `.cls`, and the header of `.jpg`."""


def sample_key(sample: int) -> str:
    """Return the name that a sample has in its shard, without suffix."""
    return f"{sample:09d}"


def sample_bytes(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many bytes samples take in a tar file, by the sizes of their JPEGs."""
    return JPEG_OFFSET + -(-sizes // BLOCK) * BLOCK


def jpeg_offsets(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return where each JPEG starts in a tar file that holds these alone."""
    taken = sample_bytes(sizes)
    return np.cumsum(taken) - taken + JPEG_OFFSET


def tar_bytes(sizes: NDArray[np.int64]) -> int:
    """Return the size of the tar file that holds these JPEGs."""
    return -(-(int(sample_bytes(sizes).sum()) + 2 * BLOCK) // RECORD) * RECORD


def write_tar(file: IO[bytes], first_sample: int, labels: Iterable[int], jpegs: Iterable[bytes]) -> str:
    """Write consecutive samples into an open file and return the SHA-256 of what was written."""
    digest, written = hashlib.sha256(), 0
    parts: list[bytes] = []
    waiting = 0
    for sample, (label, jpeg) in enumerate(zip(labels, jpegs, strict=True), start=first_sample):
        key, cls = sample_key(sample).encode(), b"%d" % label
        size = len(jpeg)
        parts += (
            _header(key + b".cls", len(cls)), cls.ljust(BLOCK, b"\0"),
            _header(key + b".jpg", size), jpeg, bytes(-size % BLOCK),
        )  # fmt: skip
        waiting += JPEG_OFFSET + size
        if waiting >= AT_ONCE:
            written += _write(file, parts, digest)
            parts, waiting = [], 0
    written += _write(file, parts, digest)
    _write(file, [bytes(-(-(written + 2 * BLOCK) // RECORD) * RECORD - written)], digest)
    return digest.hexdigest()


def _write(file: IO[bytes], parts: list[bytes], digest: "hashlib._Hash") -> int:
    data = b"".join(parts)
    digest.update(data)
    return file.write(data)


def _template() -> bytes:
    info = tarfile.TarInfo()
    info.mode = MODE
    return info.tobuf(tarfile.USTAR_FORMAT)


_TEMPLATE = _template()
# Only the name (100 bytes at 0), the size (12 at 124) and the checksum (8 at 148) differ between members.
_BEFORE_SIZE, _AFTER_SIZE, _END = _TEMPLATE[100:124], _TEMPLATE[136:148], _TEMPLATE[156:]
_SUM = sum(_BEFORE_SIZE) + sum(_AFTER_SIZE) + sum(_END) + 8 * ord(" ")
"""Of all bytes but name and size; the checksum itself counts as blanks."""


def _header(name: bytes, size: int) -> bytes:
    """Return the header of a member as `tarfile` makes it, which takes ten times as long."""
    digits = b"%011o\0" % size
    checksum = b"%06o\0 " % (_SUM + sum(name) + sum(digits))
    return b"".join((name.ljust(100, b"\0"), _BEFORE_SIZE, digits, _AFTER_SIZE, checksum, _END))
