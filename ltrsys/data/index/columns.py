"""The columns of the index: one number of each image, in one file a column and split."""

from pathlib import Path

import numpy as np
import xxhash
from numpy.typing import NDArray

from ltrsys.errors import DataError
from ltrsys.files import sha256_of, write_array

COLUMNS: dict[str, type[np.generic]] = {
    "label": np.int32,
    "shard": np.uint32,
    "offset": np.uint64,
    "size": np.uint32,
    "width": np.uint16,
    "height": np.uint16,
    "checksum": np.uint32,
}
"""Class id; number of the shard within the split; where the JPEG's bytes start in it; how many they are;
the image's width and height in pixels; what `checksum` makes of the JPEG's bytes."""

COPIED_BYTES = 64 * 2**20
"""A column up to this size, of 8 million samples or more, is copied, and nothing that becomes of its file matters. Of a
file that shrinks, a memory map tells the process by a signal that ends it."""


def checksum(jpeg: bytes | memoryview) -> int:
    """Return the low 32 bits of XXH3 (64 bits): 0.5 us for 25 kB, and one damage in 4 billion goes unnoticed."""
    return xxhash.xxh3_64_intdigest(jpeg) & 0xFFFFFFFF


def write_columns(folder: Path, columns: dict[str, NDArray[np.generic]]) -> dict[str, str]:
    """Write a split's columns (keys and types as in `COLUMNS`) into `folder`/index, each whole or not at all.

    Returns:
        The SHA-256 of each file.
    """
    for column, dtype in COLUMNS.items():
        write_array(column_path(folder, column), columns[column].astype(dtype, casting="same_kind"))

    return {column: column_digest(folder, column) for column in COLUMNS}


def column_digest(folder: Path, column: str) -> str:
    """Return the SHA-256 of one file of a split's index."""
    return sha256_of(column_path(folder, column))


def column_path(folder: Path, column: str) -> Path:
    """Return the file of one column of the split in `folder`."""
    return folder / "index" / f"{column}.npy"


def open_column(folder: Path, column: str, samples: int) -> NDArray[np.generic]:
    """Open one file of a split's index, [samples].

    Raises:
        DataError: Where it is missing, damaged, or of another build.
    """
    path, dtype = column_path(folder, column), np.dtype(COLUMNS[column])
    try:
        values = np.lib.format.open_memmap(path, mode="r")
    except FileNotFoundError:
        raise DataError(f"{path}: this column of the index is missing. Build the shards again.") from None
    except (ValueError, EOFError, OSError) as error:
        raise DataError(f"{path}: not a column of an index ({error}). Build the shards again.") from None
    if values.dtype != dtype or values.shape != (samples,):
        raise DataError(
            f"{path}: holds {values.shape} {values.dtype}, but dataset.json says ({samples},) {dtype}: they belong "
            "to different builds. Build the shards again."
        )
    return np.array(values) if values.nbytes <= COPIED_BYTES else values
