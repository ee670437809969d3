from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from safetensors.numpy import save_file

from ltrsys.errors import DataError, UsageError
from ltrsys.features.making import arrays
from ltrsys.features.making.arrays import GivenFeatures

FEATURES = np.random.default_rng(0).standard_normal((13, 5)).astype(np.float32)


def _parquet_of_lists(path: Path) -> None:
    pa.parquet.write_table(pa.table({"id": list(range(13)), "embedding": list(FEATURES)}), path)


def _parquet_of_columns(path: Path) -> None:
    columns = {f"f{number}": FEATURES[:, number] for number in range(5)}
    pa.parquet.write_table(pa.table({"label": ["a"] * 13} | columns), path)


FORMATS = {
    "whole.npy": lambda path: np.save(path, FEATURES),
    "double.npy": lambda path: np.save(path, FEATURES.astype(np.float64)),
    "one.npz": lambda path: np.savez(path, anything=FEATURES),
    "several.npz": lambda path: np.savez_compressed(path, ids=np.arange(13), features=FEATURES),
    "one.safetensors": lambda path: save_file({"x": FEATURES}, path),
    "several.safetensors": lambda path: save_file({"ids": np.arange(13), "embeddings": FEATURES}, path),
    "lists.parquet": _parquet_of_lists,
    "columns.parquet": _parquet_of_columns,
}


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("rows_at_once", [4, 8192])
def test_features_are_read_from_every_format_in_blocks(tmp_path, monkeypatch, name, rows_at_once):
    monkeypatch.setattr(arrays, "ROWS_AT_ONCE", rows_at_once)
    FORMATS[name](tmp_path / name)
    opened = GivenFeatures.open(tmp_path / name)
    assert opened.shape == (13, 5)
    blocks = list(opened.blocks())
    assert max(map(len, blocks)) <= rows_at_once
    assert np.array_equal(np.concatenate(blocks), FEATURES)
    assert blocks[0].dtype == np.float32


def test_half_precision_becomes_float32(tmp_path):
    np.save(tmp_path / "half.npy", FEATURES.astype(np.float16))
    (block,) = GivenFeatures.open(tmp_path / "half.npy").blocks()
    assert block.dtype == np.float32
    assert np.array_equal(block, FEATURES.astype(np.float16).astype(np.float32))


def test_a_feature_that_is_not_finite_names_its_row(tmp_path, monkeypatch):
    monkeypatch.setattr(arrays, "ROWS_AT_ONCE", 4)
    broken = FEATURES.copy()
    broken[9, 2] = np.nan
    np.save(tmp_path / "broken.npy", broken)
    with pytest.raises(DataError, match=r"broken\.npy: row 9, counted from 0, holds a feature that is NaN"):
        list(GivenFeatures.open(tmp_path / "broken.npy").blocks())


@pytest.mark.parametrize(
    ("name", "write", "words"),
    [
        ("flat.npy", lambda path: np.save(path, FEATURES[0]), "holds an array of shape [5]"),
        ("words.npy", lambda path: np.save(path, np.full((2, 3), "a")), "not numbers"),
        ("objects.npy", lambda path: np.save(path, np.array([[{}]], object), allow_pickle=True), "cannot be read"),
        ("cut.npy", lambda path: path.write_bytes(b"\x93NUMPY\x01\x00"), "cannot be read"),
        ("cut.npz", lambda path: path.write_bytes(b"PK"), "cannot be read"),
        ("cut.parquet", lambda path: path.write_bytes(b"PAR1"), "cannot be read"),
        ("cut.safetensors", lambda path: path.write_bytes(b"\x01"), "cannot be read"),
        ("many.npz", lambda path: np.savez(path, a=FEATURES, b=FEATURES), "holds 2 arrays (a, b)"),
        ("ids.parquet", lambda path: pa.parquet.write_table(pa.table({"id": [1, 2]}), path), "no column holds"),
        (
            "ragged.parquet",
            lambda path: pa.parquet.write_table(pa.table({"x": [[1.0], [1.0, 2.0]]}), path),
            "different lengths",
        ),
        ("features.csv", lambda path: path.write_text("1,2"), "features are read from .npy, .npz, .parquet"),
    ],
)
def test_what_is_no_array_of_features_is_told_in_one_line(tmp_path, name, write, words):
    write(tmp_path / name)
    with pytest.raises((DataError, UsageError)) as refused:
        GivenFeatures.open(tmp_path / name)
    assert str(tmp_path / name) in str(refused.value)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(UsageError, match="there is no such file of features"):
        GivenFeatures.open(tmp_path / "none.npy")
