"""What several rooms' tests share."""

import json
import os
from pathlib import Path

import pytest

from ltrsys.data.long_tail import cut_to_long_tail
from ltrsys.data.shards import build_shards
from ltrsys.data.sources.glyphs import read_glyphs


def pytest_configure(config: pytest.Config) -> None:
    """Hide GPUs from all tests but theirs (`pytest -m gpu`): the others compare bits, which only a CPU repeats."""
    if "gpu" not in config.getoption("markexpr"):
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


TINY_COUNTS = [120, 3, 86, 5, 62, 7, 44, 10, 32, 14, 23, 19]
"""Training images of each class of `tiny_shards`: 1 many-shot, 5 medium-shot and 6 few-shot classes."""


@pytest.fixture(scope="session")
def tiny_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small real dataset: 12 letters, 425 training, 120 val and 240 test images of 32 x 32 pixels."""
    folder = tmp_path_factory.mktemp("tiny")
    counts = folder / "counts.json"
    counts.write_text(json.dumps(TINY_COUNTS))
    source = read_glyphs(num_classes=len(TINY_COUNTS), seed=0, train_per_class=max(TINY_COUNTS))
    build_shards(cut_to_long_tail(source, str(counts), seed=0), folder / "shards")
    return folder / "shards"
