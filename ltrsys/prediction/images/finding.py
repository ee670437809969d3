"""What a command line names → the images: files, folders, patterns, lists, tar files, shards, standard input."""

import glob
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from ltrsys.data.index.records import SPLITS
from ltrsys.data.reading.opening import open_named
from ltrsys.data.sources.files.image_tree import PassedOver, images_below
from ltrsys.data.sources.files.text_files import quoted, read_utf8
from ltrsys.errors import DataError, UsageError
from ltrsys.prediction.images.collections import Concatenated, Files, Images, Samples, TarMembers

LIST_ENDINGS = (".txt", ".lst", ".list")
STANDARD_INPUT = "-"


def find_images(arguments: Sequence[str], *, split: str | None = None, separator: str = "\n") -> Images:
    """Return the images that arguments name, in their order, those of a folder by their paths; each file once.

    An argument is a file, a folder (all images below it), a pattern such as `photos/**/*.jpg`, a list of paths
    (`LIST_ENDINGS`, a line each; relative to where the command runs, or else to the list), a tar file, a folder or a
    URL of shards, or `-`, which is a list on standard input. A path of a list that leads nowhere is an image that
    cannot be read; one of the command line is a mistake.

    Args:
        arguments: What is named.
        split: The split of shards that is wanted; all of them if not given.
        separator: What ends a path on standard input.

    Raises:
        UsageError: For an argument that leads nowhere, a split that there is not, or where there is no image at all.
        DataError: For a list, a tar file or shards that cannot be read.
    """
    parts: list[Images] = []
    files: dict[str, None] = {}

    def end_files() -> None:
        if files:
            parts.append(Files(list(files)))
            files.clear()

    seen: set[str] = set()
    for argument in arguments:
        found = _found(argument, split, separator)
        if isinstance(found, list):
            new = [path for path in dict.fromkeys(found) if path not in seen]
            seen.update(new)
            files.update(dict.fromkeys(new))
        else:
            end_files()
            parts += found
    end_files()
    images = parts[0] if len(parts) == 1 else Concatenated(parts)
    if not len(images):
        raise UsageError("there is no image to name: the lists are empty.")
    return images


def _found(argument: str, split: str | None, separator: str) -> list[str] | tuple[Images, ...]:
    """Return paths of files, or images of another kind."""
    if argument == STANDARD_INPUT:
        return [path for path in sys.stdin.read().split(separator) if path.strip()]
    if "://" in argument or (Path(argument) / "dataset.json").is_file():
        return _samples(argument, split)
    if os.path.isdir(argument):
        return _below(argument)
    if os.path.isfile(argument):
        if argument.endswith(LIST_ENDINGS):
            return _listed(Path(argument))
        return (TarMembers.of(Path(argument)),) if argument.endswith(".tar") else [argument]
    if glob.has_magic(argument):
        matches = sorted(path for path in glob.glob(argument, recursive=True) if os.path.isfile(path))
        if not matches:
            raise UsageError(f"{quoted(argument)}: no file matches this pattern.")
        return matches
    raise UsageError(f"{quoted(argument)}: there is no such file or folder.")


def _samples(place: str, split: str | None) -> tuple[Images, ...]:
    dataset = open_named(place)
    names = [name for name in SPLITS if dataset.has(name)]
    if split is not None and split not in names:
        raise UsageError(f"--split {split}: {place} has no such split (there is: {', '.join(names) or 'none'}).")
    return tuple(Samples(dataset.split(name)) for name in names if split in (None, name))


def _below(folder: str) -> list[str]:
    passed_over = PassedOver()
    paths = sorted(images_below(folder, passed_over))
    passed_over.warn(Path(folder))
    if not paths:
        raise UsageError(f"{folder}: there is no image in this folder, or below it.")
    return paths


def _listed(path: Path) -> list[str]:
    lines = read_utf8(path, "list of paths").decode(errors="surrogateescape").splitlines()
    if any("\0" in line for line in lines):
        raise DataError(f"{path}: holds NUL bytes: this is no list of paths. Give it on standard input with --null.")
    beside = path.parent
    return [
        line if os.path.exists(line) or not os.path.exists(beside / line) else str(beside / line)
        for line in lines
        if line.strip()
    ]
