"""Trainings of the tiny experiment: their configs, in this process or on ranks of their own, each made once."""

import json
import multiprocessing
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from ltrsys.config.reading import load_config
from ltrsys.training.supervision.process_group import free_port
from tests.first_stage.ranks import run, run_rank

ROOT = Path(__file__).parent.parent

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


@pytest.fixture
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks as small as these gain nothing from a second thread, and lose much where cores are busy."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)


@pytest.fixture
def write_config(tmp_path: Path, tiny_shards: Path) -> Callable[..., Path]:
    """Write the tiny experiment under `name`, with `key.sub=value` changes, into `tmp_path`."""
    return config_writer(tmp_path, tiny_shards)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_shards: Path) -> Callable[..., Path]:
    """Train the tiny experiment with `key.sub=value` changes, once for all tests; they leave its folder as it is."""
    folder = tmp_path_factory.mktemp("trained")
    write = config_writer(folder, tiny_shards)
    made: dict[str, Path] = {}

    def get(ranks: int = 1, stop_after: int | None = None, **changes: Any) -> Path:
        key = json.dumps([ranks, stop_after, changes], sort_keys=True)
        if key not in made:
            path = write(f"trained-{len(made)}", **changes)
            if ranks == 1:
                run_on_one_thread(path, stop_after)
            else:
                run_ranks(ranks, path, stop_after)
            made[key] = load_config(path).run_folder
        return made[key]

    return get


def run_on_one_thread(path: Path, stop_after: int | None) -> None:
    """Train `path`'s config in this process, on one thread also where a fixture of many tests asks for it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        torch.set_num_threads(1)
        run(path, stop_after)


@pytest.fixture
def copied(trained: Callable[..., Path], write_config: Callable[..., Path]) -> Callable[..., Path]:
    """Write a config as `write_config` does, and a copy of what its training leaves; return the config's path."""

    def copy(name: str = "tiny", *, ranks: int = 1, stop_after: int | None = None, **changes: Any) -> Path:
        path = write_config(name, **changes)
        shutil.copytree(trained(ranks, stop_after, **changes), load_config(path).run_folder)
        return path

    return copy


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
    return [line["train/loss"] for line in read_metrics(run) if "train/loss" in line]


# The server imports what is slow to import once; the ranks are its forks, and begin at once.
RANKS = multiprocessing.get_context("forkserver")
RANKS.set_forkserver_preload(["tests.first_stage.ranks", "deepspeed"])


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
