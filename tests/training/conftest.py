import json
import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from ltrsys.training.supervision.process_group import free_port
from tests.training.ranks import run_rank

ROOT = Path(__file__).parent.parent.parent

TINY: dict[str, Any] = {
    "name": "tiny",
    "data": {
        "image_size": 12,
        "resize": 12,
        "samples_per_epoch": 144,
        "threads": 1,
        "augmentation": {"min_area": 0.7, "flip": False},
    },
    "model": {"backbone": "resnet10", "stem": "small"},
    "train": {
        "engine": "ddp",
        "epochs": 2,
        "batch_size": 48,
        "micro_batch_size": 12,
        "precision": "float32",
        "channels_last": False,
        "evaluate_every": 1,
        "log_every": 1,
        "optimizer": {"lr": 0.02},
    },
    "tracking": {"wandb": "disabled"},
}
"""Three steps of four micro-batches an epoch on `tiny_shards`."""


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks as small as these gain nothing from a second thread, and lose much where cores are busy."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)


@pytest.fixture
def write_config(tmp_path: Path, tiny_shards: Path) -> Callable[..., Path]:
    """Write the tiny experiment under `name`, with `key.sub=value` changes, into `tmp_path`."""
    return config_writer(tmp_path, tiny_shards)


def config_writer(folder: Path, shards: Path) -> Callable[..., Path]:
    def write(name: str = "tiny", **changes: Any) -> Path:
        values = json.loads(json.dumps(TINY)) | {"name": name, "runs": str(folder / "runs")}
        values["data"]["shards"] = str(shards)
        for key, value in changes.items():
            *parents, last = key.split("__")
            level = values
            for parent in parents:
                level = level.setdefault(parent, {})
            level[last] = value
        path = folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(values))
        return path

    return write


def read_metrics(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def losses_of(run: Path) -> list[float]:
    return [line["loss"] for line in read_metrics(run) if "loss" in line]


# The server imports what is slow to import once; the ranks are its forks, and begin at once.
RANKS = multiprocessing.get_context("forkserver")
RANKS.set_forkserver_preload(["tests.training.ranks", "deepspeed"])


def start_ranks(world_size: int, config: Path, stop_after: int | None = None) -> list[Any]:
    """Start so many processes that know one another and train `config`; return them."""
    return start_processes(run_rank, world_size, config, stop_after)


def run_ranks(world_size: int, config: Path, stop_after: int | None = None) -> None:
    """Train `config` as so many processes; a rank's failure is the test's."""
    finish(start_ranks(world_size, config, stop_after))


def start_processes(target: Callable[..., None], world_size: int, *arguments: Any) -> list[Any]:
    """Start `target(rank, world_size, port, *arguments)` in a process for each rank; return them."""
    port = free_port()
    processes = [
        RANKS.Process(target=target, args=(rank, world_size, port, *arguments), daemon=True)
        for rank in range(world_size)
    ]
    for process in processes:
        process.start()
    return processes


def finish(processes: list[Any]) -> None:
    """Wait for all ranks; a rank's failure is the test's."""
    try:
        for process in processes:
            process.join(timeout=200)
        assert [process.exitcode for process in processes] == [0] * len(processes)
    finally:
        for process in processes:
            process.kill()
