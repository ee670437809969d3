"""Few images are checked where they are asked for, many by other processes."""

import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ltrsys.data.validation import staging
from ltrsys.data.validation.staging import CHUNK, FEW_CHUNKS, stage
from ltrsys.data.validation.workers import run_here


def small_image(item: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (int(item) % 256, 0, 0)).save(file, "JPEG")
    return file.getvalue()


class Handed:
    """Runs tasks here and counts them."""

    def __init__(self) -> None:
        self.tasks = 0

    def __call__(self, function: Callable[..., Any], tasks: Sequence[tuple[Any, ...]]) -> Iterator[Any]:
        self.tasks += len(tasks)
        return run_here(function, tasks)


@pytest.mark.parametrize(
    ("chunks", "worth", "handed"), [(3, 60.0, 0), (3, 0.0, 3), (FEW_CHUNKS + 1, 60.0, FEW_CHUNKS + 1)]
)
def test_processes_are_started_where_there_is_enough_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunks: int, worth: float, handed: int
) -> None:
    monkeypatch.setattr(staging, "WORTH_PROCESSES", worth)
    items, run = [str(number) for number in range((chunks - 1) * CHUNK + 1)], Handed()
    staged = stage(items, small_image, None, tmp_path, run, resize=None)
    assert staged.items.tolist() == items
    assert run.tasks == handed
