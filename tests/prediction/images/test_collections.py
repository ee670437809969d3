"""Bytes of images from wherever they lie; what cannot be had is told."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ltrsys.prediction.images import collections
from ltrsys.prediction.images.collections import Files, UnreadableError

CONTENT = bytes(range(256)) * 1000


@pytest.fixture
def file(tmp_path: Path) -> Files:
    (tmp_path / "a.jpg").write_bytes(CONTENT)
    return Files([str(tmp_path / "a.jpg")])


def test_a_file_is_read_whole_and_closed(file: Files) -> None:
    before = len(os.listdir("/proc/self/fd"))
    assert file.read(0) == CONTENT
    assert len(os.listdir("/proc/self/fd")) == before


def test_what_a_file_system_gives_piece_by_piece_is_put_together(file: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    read = os.read
    monkeypatch.setattr(collections.os, "read", lambda descriptor, size: read(descriptor, min(size, 1000)))
    assert file.read(0) == CONTENT


def test_a_pipe_is_read_to_its_end(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with ThreadPoolExecutor(1) as other:
        written = other.submit((tmp_path / "pipe").write_bytes, CONTENT)
        assert Files([str(tmp_path / "pipe")]).read(0) == CONTENT
        assert written.result() == len(CONTENT)


def test_an_empty_file_has_no_bytes(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    assert Files([str(tmp_path / "empty.jpg")]).read(0) == b""


@pytest.mark.parametrize(("name", "said"), [("", "Is a directory"), ("gone", "there is no such file"), ("\0", "null")])
def test_what_cannot_be_read_is_told(tmp_path: Path, name: str, said: str) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(UnreadableError, match=said):
        Files([f"{tmp_path}/{name}"]).read(0)
    assert len(os.listdir("/proc/self/fd")) == before
