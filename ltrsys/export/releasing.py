"""A folder that appears whole or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ltrsys.errors import DataError, UsageError
from ltrsys.files import explained, read_json, sync_folder

MARK = "export.json"
"""The file that says that a folder is an export, and of what."""
FORMAT = 1


def check_target(target: Path, *, overwrite: bool) -> None:
    """Refuse a place where something is that may not be replaced; called before all work.

    Raises:
        UsageError: Says what to do.
    """
    if not (target.exists() or target.is_symlink()):
        return
    if not is_export(target):
        raise UsageError(f"{target}: is there already, and is no export. Choose another folder with --out.")
    if not overwrite:
        raise UsageError(
            f"{target}: there is an export already. --overwrite replaces it; --out chooses another folder."
        )


def is_export(folder: Path) -> bool:
    """Whether a folder is what an export wrote."""
    if folder.is_symlink() or not folder.is_dir():
        return False
    try:
        mark = read_json(folder / MARK, "record of an export")
    except (DataError, OSError):
        return False
    return isinstance(mark, dict) and isinstance(mark.get("format"), int) and "exported_as" in mark


@contextmanager
def released(target: Path) -> Iterator[Path]:
    """Yield a folder beside `target` that takes its place when the block ends, and vanishes when it fails.

    What is at `target` is then replaced: `check_target` has been asked before.
    """
    beside, old = (target.with_name(f".{target.name}.{os.getpid()}.{what}") for what in ("partial", "old"))
    with explained(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        beside.mkdir()
        try:
            yield beside
            sync_folder(beside)
            if target.exists():
                target.rename(old)
            try:
                beside.rename(target)
            except OSError:
                if old.exists():
                    old.rename(target)
                raise
            sync_folder(target.parent)
            shutil.rmtree(old, ignore_errors=True)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
