"""Folders that appear whole or not at all."""

import json
from pathlib import Path

import pytest

from ltrsys.errors import LtrsysError, UsageError
from ltrsys.export.releasing import MARK, check_target, is_export, released


def write(folder: Path, text: str) -> None:
    (folder / "model").write_text(text)
    (folder / MARK).write_text(json.dumps({"format": 1, "exported_as": "onnx"}))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_takes_the_place_of_an_older_one(tmp_path: Path) -> None:
    out = tmp_path / "made" / "out"
    for text in ("old", "new"):
        with released(out) as folder:
            assert folder != out
            write(folder, text)
        assert (out / "model").read_text() == text
    assert names(out.parent) == ["out"]
    assert is_export(out)


def test_what_fails_leaves_the_older_one(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with released(out) as folder:
        write(folder, "old")
    with pytest.raises(FileNotFoundError), released(out) as folder:
        write(folder / "absent", "new")
    assert (out / "model").read_text() == "old"
    assert names(tmp_path) == ["out"]


def test_an_older_one_comes_back_if_the_new_one_cannot_take_its_place(tmp_path, monkeypatch) -> None:
    out = tmp_path / "out"
    with released(out) as folder:
        write(folder, "old")
    rename = Path.rename

    def fails_for_the_new_one(self: Path, target: Path) -> Path:
        if self.name.endswith(".partial"):
            raise PermissionError(13, "Permission denied")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fails_for_the_new_one)
    with pytest.raises(LtrsysError, match="no permission"), released(out) as folder:
        write(folder, "new")
    assert (out / "model").read_text() == "old"
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("mark", [None, "{", "[]", "{}", '{"format": "x", "exported_as": "onnx"}'])
def test_only_an_export_may_be_replaced(mark: str | None, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    check_target(folder, overwrite=False)
    folder.mkdir()
    if mark is not None:
        (folder / MARK).write_text(mark)
    for overwrite in (False, True):
        with pytest.raises(UsageError, match="is there already, and is no export"):
            check_target(folder, overwrite=overwrite)


def test_a_file_or_a_link_is_no_export(tmp_path: Path) -> None:
    with released(tmp_path / "real") as folder:
        write(folder, "old")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "file").touch()
    for name in ("link", "file"):
        with pytest.raises(UsageError, match="is no export"):
            check_target(tmp_path / name, overwrite=True)


def test_a_place_below_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LtrsysError, match="cannot be written"), released(tmp_path / "file" / "out"):
        pass
