"""Run folders as training leaves them, with a real though untrained network."""

import json
from pathlib import Path

import torch

from ltrsys.config.reading import save_config
from ltrsys.config.schema import Config
from ltrsys.data.config import DataConfig
from ltrsys.data.index.dataset import Dataset
from ltrsys.models.config import HeadName, ModelConfig
from ltrsys.models.network import build_network
from ltrsys.models.stored.weights import save_network
from ltrsys.runs.folder import RunFolder
from ltrsys.second_stage.config import BALANCE

SHORT = {"epochs": 2, "lr": 0.1, "batch_size": 64}


def make_config(folder: Path, shards: Path, head: HeadName = "linear", backbone: str = "shufflenet_v2_x0_5") -> Config:
    return Config(
        name=folder.name,
        runs=folder.parent,
        data=DataConfig(shards=shards, image_size=32, resize=32, threads=1, lanes=12),
        model=ModelConfig(backbone=backbone, head=head),
        balance=BALANCE.model()(feature_batch_size=64, crt=SHORT, lws=SHORT),
        tracking={"wandb": "disabled"},
    )


def make_run(folder: Path, shards: Path, head: HeadName = "linear", backbone: str = "shufflenet_v2_x0_5") -> RunFolder:
    """Write `config.yaml` and `model.safetensors`."""
    run = RunFolder(folder)
    folder.mkdir(parents=True)
    config = make_config(folder, shards, head, backbone)
    save_config(config, run.config_file)
    write_model(run, config, seed=0)
    return run


def write_model(run: RunFolder, config: Config, *, seed: int) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        save_network(build_network(config.model, Dataset.open(config.data.shards).num_classes), run.model)


def without_splits(shards: Path, folder: Path, *names: str) -> Path:
    """Make a dataset of the same files that lacks some splits."""
    folder.mkdir()
    record = json.loads((shards / "dataset.json").read_text())
    record["splits"] = {name: split for name, split in record["splits"].items() if name not in names}
    (folder / "dataset.json").write_text(json.dumps(record))
    for name in record["splits"]:
        (folder / name).symlink_to(shards / name)
    return folder
