"""Which file each sample was: `OUT/<split>/images.parquet`, a row a sample, in the order of the samples.

It lets an update read from the shards what has not changed, and `ltrsys inspect` tell formats. Training does not read
it, and `dataset.json` does not depend on it: it holds the times of the files, which differ between copies of them.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltrsys.data.index.dataset import Dataset, Split
from ltrsys.data.index.records import SPLITS
from ltrsys.data.validation.staging import NOTHING, Staged
from ltrsys.errors import DataError
from ltrsys.files import write_with

COLUMNS = ("item", "version", "pixels", "look", "format")


def manifest_path(folder: Path) -> Path:
    """Return the manifest of the split in `folder`."""
    return folder / "images.parquet"


def write_manifest(folder: Path, staged: Staged) -> None:
    """Write the manifest of the split in `folder`, whole or not at all."""
    import pyarrow
    from pyarrow import parquet

    columns: dict[str, Any] = {
        "item": pyarrow.array([item.encode(errors="surrogateescape") for item in staged.items], pyarrow.binary()),
        "version": pyarrow.array(staged.versions, pyarrow.string()),
        "pixels": pyarrow.FixedSizeBinaryArray.from_buffers(
            pyarrow.binary(16), len(staged), [None, pyarrow.py_buffer(staged.pixels.tobytes())]
        ),
        "look": pyarrow.array(staged.looks),
        "format": pyarrow.array(staged.formats, pyarrow.string()).dictionary_encode(),
    }
    table = pyarrow.table(columns)
    write_with(manifest_path(folder), lambda name: parquet.write_table(table, name, compression="zstd"))


def read_manifest(split: Split) -> dict[str, NDArray[Any]]:
    """Return the columns of a split's manifest, [samples] each: `pixels` 16 bytes each, `look` uint64, others texts.

    Raises:
        DataError: Where it is missing, damaged, or of another build.
    """
    import pyarrow
    from pyarrow import parquet

    path = manifest_path(split.folder)
    advice = "Build the shards in another folder."
    try:
        table = parquet.read_table(path, columns=list(COLUMNS))
    except FileNotFoundError:
        raise DataError(
            f"{path}: is missing: these shards were built by ltrsys 0.2.0 or earlier, or are a copy without it. "
            f"{advice}"
        ) from None
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: not a list of the images of a split ({reason}). {advice}") from None
    if table.num_rows != len(split):
        raise DataError(f"{path}: has {table.num_rows} rows for {len(split)} samples. {advice}")
    pixels = table.column("pixels").combine_chunks()
    return {
        "item": np.array(_decoded(table.column("item")), dtype=object),
        "version": table.column("version").to_numpy(),
        "pixels": np.frombuffer(pixels.buffers()[1], "V16", count=len(pixels), offset=16 * pixels.offset),
        "look": table.column("look").to_numpy(),
        "format": table.column("format").cast(pyarrow.string()).to_numpy(),
    }


def _decoded(names: Any) -> Any:
    """Return file names of a column of bytes; those that are not UTF-8 as Python has them."""
    import pyarrow

    try:
        return names.cast(pyarrow.string()).to_numpy()
    except pyarrow.ArrowInvalid:
        return [name.decode(errors="surrogateescape") for name in names.to_pylist()]


def staged_in_shards(dataset: Dataset) -> Staged:
    """Return the images of a finished build, to be read from its shards.

    Raises:
        DataError: Where a manifest is missing, damaged, or of another build.
    """
    parts = [_staged(dataset.split(name)) for name in SPLITS if dataset.has(name)]
    return Staged.concatenated([NOTHING, *parts])


def splits_of(staged: Staged) -> NDArray[np.int64]:
    """Return the split, as its place in `SPLITS`, of images of `staged_in_shards`."""
    of_path = [SPLITS.index(path.parent.parent.name) for path in staged.paths]
    return np.array(of_path, dtype=np.int64)[staged.files]


def _staged(split: Split) -> Staged:
    columns = read_manifest(split)
    numbers: dict[str, Any] = {
        f"{name}s": getattr(split, name).astype(np.int64) for name in ("offset", "size", "width", "height", "checksum")
    }
    return Staged(
        items=columns["item"],
        versions=columns["version"],
        pixels=columns["pixels"],
        looks=columns["look"],
        formats=columns["format"],
        files=split.shard.astype(np.int64),
        paths=[split.shard_path(shard) for shard in range(len(split.record.shards))],
        samples=np.arange(len(split)),
        **numbers,
    )
