"""Features that somebody made elsewhere: .npy, .npz, Parquet and safetensors files, read in blocks.

n images, D features.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import numpy as np
import pyarrow
import pyarrow.parquet
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from ltrsys.errors import DataError, UsageError

ROWS_AT_ONCE = 8192
USUAL_NAMES = ("features", "embeddings", "embedding", "emb", "x")
"""Names of the array that is meant, where a file holds several."""


@dataclass(frozen=True)
class GivenFeatures:
    """An array of features in a file."""

    path: Path
    shape: tuple[int, int]
    """[n, D]."""

    @classmethod
    def open(cls, path: Path) -> "GivenFeatures":
        """Look at a file.

        Raises:
            UsageError: Where it is not there, or of a kind that is not read.
            DataError: Where it is damaged, or holds no array of two dimensions.
        """
        with _opened(path) as array:
            return cls(path, _shape(array, path))

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """Yield the features in their order, float32 [<=ROWS_AT_ONCE, D], without reading the file as a whole.

        Raises:
            DataError: For a feature that is NaN or infinite: names its row.
        """
        with _opened(self.path) as array:
            first = 0
            for rows in _blocks(array):
                block = np.asarray(rows, dtype=np.float32)
                finite = np.isfinite(block).all(axis=1)
                if not finite.all():
                    raise DataError(
                        f"{self.path}: row {first + int(np.argmin(finite))}, counted from 0, holds a feature that is "
                        "NaN or infinite. Leave the image out, or make its features again."
                    )
                yield block
                first += len(block)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Yield what holds the array: a memory map, a slice of a safetensors file, or a Parquet file."""
    if not path.exists():
        raise UsageError(f"{path}: there is no such file of features.")
    try:
        with ExitStack() as stack:
            if path.suffix == ".npy":
                yield np.lib.format.open_memmap(path, mode="r")
            elif path.suffix == ".npz":
                yield _array_of_archive(path, stack)
            elif path.suffix == ".parquet":
                yield stack.enter_context(pyarrow.parquet.ParquetFile(path))
            elif path.suffix == ".safetensors":
                file = stack.enter_context(safe_open(path, framework="numpy"))
                yield file.get_slice(_meant(list(file.keys()), path))
            else:
                raise UsageError(f"{path}: features are read from .npy, .npz, .parquet and .safetensors files.")
    except (BadZipFile, SafetensorError, pyarrow.ArrowInvalid, ValueError, EOFError, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise DataError(f"{path}: these features cannot be read ({reason}). Copy the file again.") from None


def _array_of_archive(path: Path, stack: ExitStack) -> NDArray[Any]:
    """Return the array of a .npz file; arrays in it are whole, compressed or not, so that it is read as a whole."""
    archive = stack.enter_context(ZipFile(path))
    names = {name.removesuffix(".npy"): name for name in archive.namelist()}
    with archive.open(names[_meant(list(names), path)]) as file:
        array: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
    return array


def _meant(names: list[str], path: Path) -> str:
    if len(names) == 1:
        return names[0]
    found = next((name for name in USUAL_NAMES if name in names), None)
    if found is None:
        raise UsageError(
            f"{path}: holds {len(names)} arrays ({', '.join(names[:5])}), and none is called "
            f"{' or '.join(USUAL_NAMES)}. Give a file with one array."
        )
    return found


def _shape(array: Any, path: Path) -> tuple[int, int]:
    if isinstance(array, pyarrow.parquet.ParquetFile):
        return _shape_of_table(array, path)
    shape = tuple(array.get_shape()) if hasattr(array, "get_shape") else array.shape
    if len(shape) != 2 or not all(shape):
        raise DataError(f"{path}: holds an array of shape {list(shape)}; features are one row an image, [n, D].")
    if not hasattr(array, "get_shape") and array.dtype.kind not in "fiu":
        raise DataError(f"{path}: holds {array.dtype}, not numbers.")
    return shape[0], shape[1]


def _shape_of_table(file: pyarrow.parquet.ParquetFile, path: Path) -> tuple[int, int]:
    first = next(_blocks(file), None)
    if first is None or not len(first):
        raise DataError(f"{path}: has no rows.")
    return file.metadata.num_rows, first.shape[1]


def _blocks(array: Any) -> Iterator[NDArray[Any]]:
    if isinstance(array, pyarrow.parquet.ParquetFile):
        columns = _columns_of_features(array)
        for batch in array.iter_batches(ROWS_AT_ONCE, columns=columns):
            yield _rows(batch)
        return
    rows = array.get_shape()[0] if hasattr(array, "get_shape") else len(array)
    for first in range(0, rows, ROWS_AT_ONCE):
        yield array[first : min(first + ROWS_AT_ONCE, rows)]


def _columns_of_features(file: pyarrow.parquet.ParquetFile) -> list[str]:
    """Return the column of lists that holds the features, or the columns of floating-point numbers, one a feature."""
    schema = file.schema_arrow
    lists = [
        field.name
        for field in schema
        if pyarrow.types.is_list(field.type)
        or pyarrow.types.is_large_list(field.type)
        or pyarrow.types.is_fixed_size_list(field.type)
    ]
    if lists:
        return [next((name for name in USUAL_NAMES if name in lists), lists[0])]
    numbers = [field.name for field in schema if pyarrow.types.is_floating(field.type)]
    if not numbers:
        raise ValueError("no column holds lists of numbers, or floating-point numbers")
    return numbers


def _rows(batch: pyarrow.RecordBatch) -> NDArray[Any]:
    if batch.num_columns == 1 and not pyarrow.types.is_floating(batch.schema[0].type):
        column = batch.column(0)
        values = column.flatten().to_numpy(zero_copy_only=False)
        if column.null_count or len(values) % batch.num_rows:
            raise ValueError("rows of features have different lengths")
        return values.reshape(batch.num_rows, -1)
    return np.stack([column.to_numpy(zero_copy_only=False) for column in batch.columns], axis=1)
