"""Atomic files: written beside their place, synced, and renamed."""

import errno
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ltrsys.errors import DataError, LtrsysError


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals while `path` is written into one line with a way out."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            free = shutil.disk_usage(_existing_parent(path)).free
            raise LtrsysError(
                f"{path}: the disk is full ({free / 1e6:.0f} MB left). Free some space or choose another folder, "
                "then run the same command again; what was finished is kept."
            ) from error
        if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
            raise LtrsysError(
                f"{path}: no permission to write there ({error.strerror}). Choose another folder."
            ) from error
        if error.errno in (errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENAMETOOLONG):
            raise LtrsysError(f"{path}: cannot be written ({error.strerror}). Choose another name.") from error
        raise


@contextmanager
def replaced(path: Path, mode: str = "wb") -> Iterator[IO[Any]]:
    """Open a file beside `path` that takes its place when the block ends, and vanishes when it fails.

    The bytes are synced before the rename, so that after a power cut `path` is the old file or the new one.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(beside, mode, encoding=None if "b" in mode else "utf-8") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, path)
            sync_folder(path.parent)
        finally:
            beside.unlink(missing_ok=True)


def write_json(path: Path, value: Any, indent: int | None = 1) -> None:
    """Write `value` as JSON, whole or not at all; in one line where `indent` is None."""
    with replaced(path, "w") as file:
        file.write(json_text(value, indent))
        file.write("\n")


def json_text(value: Any, indent: int | None = None) -> str:
    """Return JSON that any file takes: a file name that is not UTF-8 is escaped, which `json` reads back."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    return text if text.isascii() or _is_utf8(text) else json.dumps(value, indent=indent)


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def write_with(path: Path, write: Callable[[str], object]) -> None:
    """Let a library that wants a file name write `path`, whole or not at all.

    `write` gets a name beside `path` with the same suffix, since some libraries choose their format by it.
    """
    beside = path.with_name(f".{os.getpid()}.partial.{path.name}")
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            beside.touch()
            permissions = beside.stat().st_mode  # the user's, which a library that writes its own temporary file drops
            write(str(beside))
            beside.chmod(permissions)
            with open(beside, "rb") as file:
                os.fsync(file.fileno())
            os.replace(beside, path)
            sync_folder(path.parent)
        finally:
            beside.unlink(missing_ok=True)


def write_array(path: Path, values: NDArray[Any]) -> None:
    """Write an array as a `.npy` file, whole or not at all."""
    with replaced(path) as file:
        # Into a real file numpy writes past Python, and its error does not say that the disk is full.
        np.save(_PythonFile(file), values)


class _PythonFile:
    """Nothing but the `write` of a file."""

    def __init__(self, file: IO[Any]) -> None:
        self.write = file.write


def read_json(path: Path, what: str, remedy: str = "") -> Any:
    """Read a JSON file, naming the file and the line if it is missing or is not JSON.

    Args:
        path: The file.
        what: What it should be.
        remedy: A sentence on how to come by one.
    """
    advice = remedy and f" {remedy}"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path}: there is no {what} here.{advice}") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a {what}: {error}.{advice}") from None


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def locked_file(path: Path) -> Iterator[int]:
    """Open a file, made if need be, that this thread alone holds; yields its descriptor.

    The lock is the kernel's and goes with its process: one that is killed while it holds the file blocks nobody.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if _is_at(path, descriptor):
                yield descriptor
                return
        finally:
            os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Make renames inside `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_at(path: Path, descriptor: int) -> bool:
    """Say whether an open file is still at `path`: whoever held it may have put it into its place, or removed it."""
    try:
        return path.stat().st_ino == os.fstat(descriptor).st_ino
    except FileNotFoundError:
        return False


def _existing_parent(path: Path) -> Path:
    return next(parent for parent in [path, *path.absolute().parents] if parent.exists())
