"""Reads back what wandb's own process has written: `run-ID.wandb`, a LevelDB log of protocol-buffer messages."""

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
        for path in folder.rglob(f"run-{run_id}.wandb")
        for record in records(path)
        if record.WhichOneof("record_type") == "history"
    ]
    return max(steps, default=-1)
