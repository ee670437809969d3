"""Reads back what wandb's own process has written: `run-ID.wandb`, a LevelDB log of protocol-buffer messages."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_BLOCK, _HEADER, _SIGNATURE = 32768, 7, 7
_WHOLE, _LAST = 1, 4
"""Kinds of a fragment: a whole message, or the last part of one."""


def records(path: Path) -> Iterator[Any]:
    """Yield the messages of one file, up to where a killed process left it half-written."""
    from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined]  # protobuf makes it at import

    data, place, parts = path.read_bytes(), _SIGNATURE, []
    while place + _HEADER <= len(data):
        left_in_block = _BLOCK - place % _BLOCK
        if left_in_block < _HEADER:
            place += left_in_block
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + _HEADER])
        place += _HEADER
        if place + length > len(data):
            return
        parts.append(data[place : place + length])
        place += length
        if kind in (_WHOLE, _LAST):
            yield Record.FromString(b"".join(parts))
            parts = []


def last_step(folder: Path, run_id: str) -> int:
    """Return the highest step that any attempt of a wandb run has written below `folder`; -1 if there is none."""
    steps = [
        record.history.step.num
        for path in files_of(folder, run_id)
        for record in records(path)
        if record.WhichOneof("record_type") == "history"
    ]
    return max(steps, default=-1)


def last_summary(folder: Path, run_id: str) -> dict[str, Any]:
    """Return the summary that the attempts of a wandb run have written below `folder`, the later over the earlier.

    What wandb keeps there for itself, with names that begin with `_`, is left out.
    """
    values: dict[str, Any] = {}
    for path in files_of(folder, run_id):
        for record in records(path):
            if record.WhichOneof("record_type") != "summary":
                continue
            for item in record.summary.update:
                *parents, last = item.nested_key or [item.key]
                level = values
                for parent in parents:
                    if not isinstance(level.get(parent), dict):
                        level[parent] = {}
                    level = level[parent]
                level[last] = json.loads(item.value_json)
    return {key: value for key, value in values.items() if not key.startswith("_")}


def set_aside_empty(folder: Path, run_id: str) -> None:
    """Rename the files of attempts that were killed before wandb wrote anything: one of them ends `wandb sync`."""
    for path in files_of(folder, run_id):
        if not any(record.WhichOneof("record_type") == "run" for record in records(path)):
            path.rename(path.with_suffix(".empty"))


def files_of(folder: Path, run_id: str) -> list[Path]:
    """Return the files of a wandb run below `folder`, one of each attempt, in the order of their beginnings."""
    return sorted(folder.rglob(f"run-{run_id}.wandb"), key=lambda path: path.parent.name.removeprefix("offline-"))
