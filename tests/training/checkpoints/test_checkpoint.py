import re

import pytest
import torch
from safetensors.torch import save_file

from ltrsys.config.schema import Config
from ltrsys.data.plan.planner import VERSION
from ltrsys.errors import DataError, UsageError
from ltrsys.first_stage.resuming import check_same_experiment, check_same_plan
from ltrsys.training.checkpoints.checkpoint import Checkpoint, Progress

CONFIG = Config.model_validate({"name": "run", "data": {"shards": "shards"}})


def make_checkpoint() -> Checkpoint:
    progress = Progress(
        plan=VERSION, epoch=3, step=77, micro_batch_size=12, world_size=2, best_epoch=2, best_accuracy=51.25,
        accuracies={"few": None, "all": 50.0},
        scaler={"scale": 1024.0, "growth_interval": 2000}, dataset="abc", config=CONFIG.dump(),
    )  # fmt: skip
    return Checkpoint(
        {"weight": torch.randn(3, 2), "count": torch.tensor(5)},
        {"weight": torch.randn(3, 2)},
        progress,
        {"generator": torch.arange(6, dtype=torch.uint8).reshape(2, 3)},
    )


def test_a_checkpoint_comes_back_whole(tmp_path):
    saved = make_checkpoint()
    saved.save(tmp_path / "last.safetensors")
    loaded = Checkpoint.load(tmp_path / "last.safetensors")
    assert loaded.progress == saved.progress
    assert type(loaded.progress.scaler["growth_interval"]) is int  # what torch's own scaler insists on
    for part in ("network", "optimizer", "ranks"):
        ours, theirs = getattr(loaded, part), getattr(saved, part)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_file_that_is_no_checkpoint_or_only_half_of_one_is_named(tmp_path):
    path = tmp_path / "last.safetensors"
    save_file({"weight": torch.zeros(1)}, path)
    with pytest.raises(DataError, match=f"{re.escape(str(path))}: not a checkpoint"):
        Checkpoint.load(path)
    make_checkpoint().save(path)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(DataError, match=f"{re.escape(str(path))}: not a file of plain tensors, or a damaged one"):
        Checkpoint.load(path)


def test_a_failed_save_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "last.safetensors"
    make_checkpoint().save(path)
    before = path.read_bytes()
    unsavable = Checkpoint({"weight": torch.zeros(2, device="meta")}, {}, make_checkpoint().progress)
    with pytest.raises(Exception, match="meta"):
        unsavable.save(path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["last.safetensors"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", 1),
        ("train.optimizer.lr", 0.1),
        ("train.epochs", 91),
        ("model.backbone", "resnet50"),
        ("data.sampler.kind", "square_root"),
        ("data.augmentation.flip", False),
    ],
)
def test_what_would_be_another_experiment_is_refused(key, value):
    then = make_checkpoint().progress
    with pytest.raises(UsageError, match=f"begun with {key}=.*now says {value}"):
        check_same_experiment(then, change(key, value), "abc", "last.safetensors")


@pytest.mark.parametrize(
    ("key", "value"),
    [("train.engine", "ddp"), ("data.threads", 9), ("train.log_every", 3), ("runs", "elsewhere"), ("shots.few", 10)],
)
def test_what_changes_nothing_about_the_weights_is_allowed(key, value):
    check_same_experiment(make_checkpoint().progress, change(key, value), "abc", "last.safetensors")


def test_other_shards_are_refused():
    with pytest.raises(UsageError, match=r"begun on other shards than data\.shards=shards"):
        check_same_experiment(make_checkpoint().progress, CONFIG, "abd", "last.safetensors")


def test_another_plan_is_refused_by_name():
    progress = make_checkpoint().progress
    check_same_plan(progress, "last.safetensors")
    before_plans_had_versions = Progress.model_validate(progress.model_dump(exclude={"plan"}) | {"code": "0.1.0"})
    with pytest.raises(
        UsageError, match=rf"begun by ltrsys 0\.1\.0 with version 1 of the plan.*makes version {VERSION}"
    ):
        check_same_plan(before_plans_had_versions, "last.safetensors")


def change(key: str, value: object) -> Config:
    values = CONFIG.dump()
    *parents, last = key.split(".")
    level = values
    for parent in parents:
        level = level[parent]
    level[last] = value
    return Config.model_validate(values)
