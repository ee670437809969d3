import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from ltrsys.errors import DataError, LtrsysError
from ltrsys.files import read_json, replaced, write_array, write_json, write_with
from ltrsys.models.stored.weights import save_tensors


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_takes_its_place_when_it_is_whole(tmp_path):
    path = tmp_path / "below" / "file.txt"
    with replaced(path, "w") as file:
        file.write("new")
        assert not path.exists()
    assert path.read_text() == "new"
    assert names(path.parent) == ["file.txt"]


def test_a_failure_leaves_the_old_file_and_nothing_beside_it(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")

    def fail():
        with replaced(path, "w") as file:
            file.write("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file.txt"]


def test_a_library_writes_a_whole_file_or_none(tmp_path):
    path = tmp_path / "array.npy"
    write_with(path, lambda name: np.save(name, np.arange(3)))
    assert np.load(path).tolist() == [0, 1, 2]

    def fail(name):
        np.save(name, np.zeros(3))
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError):
        write_with(path, fail)
    assert np.load(path).tolist() == [0, 1, 2]
    assert names(tmp_path) == ["array.npy"]


def test_what_a_library_writes_may_be_read_by_whom_the_user_lets_read(tmp_path):
    """safetensors, for one, writes a temporary file of its own that only the user may read."""
    old = os.umask(0o027)
    try:
        write_with(tmp_path / "model.safetensors", lambda name: save_file({"weight": torch.zeros(2)}, name))
    finally:
        os.umask(old)
    assert (tmp_path / "model.safetensors").stat().st_mode & 0o777 == 0o640


def test_json_is_read_back(tmp_path):
    write_json(tmp_path / "value.json", {"name": "Ärenpreis", "values": [1, None]})
    assert read_json(tmp_path / "value.json", "value") == {"name": "Ärenpreis", "values": [1, None]}


def test_a_json_file_that_is_missing_or_broken_is_named(tmp_path):
    with pytest.raises(DataError, match=r"value\.json: there is no value here"):
        read_json(tmp_path / "value.json", "value")
    (tmp_path / "value.json").write_text('{"a": 1,\n "b": }')
    with pytest.raises(DataError, match=r"value\.json: not a value: .*line 2"):
        read_json(tmp_path / "value.json", "value")


FILL = """
import sys
from pathlib import Path
from ltrsys.errors import LtrsysError
from ltrsys.files import write_with
with open("/dev/full", "w") as full:
    def write(name):
        Path(name).write_bytes(b"half")
        full.write("x" * 100_000)
        full.flush()
    try:
        write_with(Path(sys.argv[1]), write)
    except LtrsysError as error:
        print(error)
"""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs Linux's /dev/full")
def test_a_full_disk_is_told_in_one_line_and_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    done = subprocess.run([sys.executable, "-c", FILL, str(path)], capture_output=True, text=True, check=False)
    assert "the disk is full" in done.stdout
    assert "Free some space" in done.stdout
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("array.npy", lambda path: write_array(path, np.zeros(100_000))),
        ("model.safetensors", lambda path: save_tensors({"weight": torch.zeros(100_000)}, path)),
    ],
)
def test_a_disk_that_is_full_for_a_library_is_told_alike(small_disk, name, write):
    """numpy and safetensors have words of their own for it."""
    disk = small_disk("64k")
    (disk / name).write_text("old")
    with pytest.raises(LtrsysError, match=f"{name}: the disk is full"):
        write(disk / name)
    assert (disk / name).read_text() == "old"
    assert names(disk) == [name]


def test_an_array_comes_back(tmp_path):
    write_array(tmp_path / "array.npy", np.arange(6, dtype=np.uint16).reshape(2, 3).T)
    assert np.load(tmp_path / "array.npy").tolist() == [[0, 3], [1, 4], [2, 5]]
    assert np.load(tmp_path / "array.npy", mmap_mode="r").dtype == np.uint16


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("old")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "file" / "value.json", tmp_path / "folder", tmp_path / ("x" * 300)):
        with pytest.raises(LtrsysError, match=r"cannot be written .*Choose another name"):
            write_json(path, {})
    assert names(tmp_path) == ["file", "folder"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_told(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(LtrsysError, match="no permission"):
        write_json(tmp_path / "value.json", {})
