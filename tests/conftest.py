"""What several rooms' tests share."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure

from ltrsys import registry
from ltrsys.data.shards.building import build_shards
from ltrsys.data.sources.glyphs import read_glyphs
from ltrsys.data.sources.long_tail import cut_to_long_tail
from ltrsys.reporting import style

pytest_plugins = ["tests.trainings"]


def pytest_configure(config: pytest.Config) -> None:
    """Hide GPUs from all tests but theirs (`pytest -m gpu`): the others compare bits, which only a CPU repeats."""
    if config.getoption("markexpr") != "gpu":
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


@pytest.fixture(scope="module")
def plugins_forgotten() -> Iterator[None]:
    """Forget the plug-ins that a module's tests load: others do not know them, and their files may be gone."""
    for kind in registry.REGISTRIES.values():
        list(kind)  # load what comes with ltrsys, so that it is not forgotten
    before = {name: dict(kind._methods) for name, kind in registry.REGISTRIES.items()}
    yield
    for name, methods in before.items():
        registry.REGISTRIES[name]._methods = methods
    registry._PLUGINS.clear()
    for module in [name for name in sys.modules if name.startswith("ltrsys_plugin_")]:
        del sys.modules[module]


@contextmanager
def on_one_thread() -> Iterator[None]:
    """Compute on one thread, as do the processes that are started meanwhile.

    Networks as small as the tests' gain nothing from a second thread, and lose much where cores are busy.
    """
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        torch.set_num_threads(1)
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    with on_one_thread():
        yield


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Make a disk of its own of a size such as `1500k`; made again, the same disk gets another size."""
    disk = tmp_path / "disk"

    def mount(size: str) -> Path:
        options = f"remount,size={size}" if disk.exists() else f"size={size}"
        disk.mkdir(exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(disk)]
        if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("a full disk is tried on a small tmpfs, which this user may not mount")
        return disk

    yield mount
    subprocess.run(["umount", str(disk)], capture_output=True, check=False)


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Every figure that is drawn from now on."""
    drawn: list[Figure] = []

    class Kept(Figure):
        def __init__(self, *args: object, **kwargs: object) -> None:
            super().__init__(*args, **kwargs)
            drawn.append(self)

    monkeypatch.setattr(style, "Figure", Kept)
    return drawn
