"""Trainings of a part of the network, the rest being frozen."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional

from ltrsys.config.reading import load_config
from ltrsys.data.reading.opening import open_dataset
from ltrsys.errors import UsageError
from ltrsys.features.making.extraction import make_bank
from ltrsys.first_stage.trainer import train
from ltrsys.models.network import build_network
from ltrsys.runs.audit_log import row_type
from ltrsys.runs.folder import RunFolder
from ltrsys.training.checkpoints.folder import CheckpointFolder
from ltrsys.world import World
from tests.first_stage.ranks import run as run_until
from tests.trainings import losses_of, run_ranks

pytestmark = pytest.mark.long

TRAINED = {
    "last_block": ("backbone.layer4.0.", "classifier."),
    "classifier": ("classifier.",),
    "stages": ("backbone.layer3.", "backbone.layer4.", "classifier."),
}
CPU = torch.device("cpu")


@pytest.fixture
def first(trained):
    """The run that is started from."""
    return trained(train__epochs=1)


@pytest.fixture
def straight(trained, first):
    """Train a part of the network, without a stop, on one rank by DDP."""
    return lambda part: trained(**changes(first, part))


def changes(first, part):
    frozen = {"train__freeze_stages": 2} if part == "stages" else {"train__trainable": part}
    return {"train__from_run": str(first), "train__reset_classifier": True, **frozen}


def assert_only_a_part_was_trained(run, first, part):
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (run, first))
    changed = {name for name in theirs if not torch.equal(ours[name], theirs[name])}
    assert changed == {name for name in theirs if name.startswith(TRAINED[part])}


@pytest.mark.parametrize("part", TRAINED)
def test_only_a_part_is_trained_and_has_a_state_in_the_optimizer(straight, first, part):
    run = straight(part)
    assert_only_a_part_was_trained(run, first, part)
    assert sum(losses_of(run)[-2:]) < sum(losses_of(run)[:2])
    checkpoint = CheckpointFolder(run / "checkpoints", kept=1).newest()[1]
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    learned = {name for name in checkpoint.network if name.startswith(TRAINED[part]) and not name.endswith(buffers)}
    assert checkpoint.optimizer.keys() == {f"{name}.momentum_buffer" for name in learned}


@pytest.mark.parametrize("part", TRAINED)
def test_a_resumed_run_ends_with_the_same_bits(write_config, straight, first, part):
    path = write_config(**changes(first, part))
    run_until(path, stop_after=1)
    run_until(path)
    ours, theirs = (load_file(run / "model.safetensors") for run in (load_config(path).run_folder, straight(part)))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.distributed
@pytest.mark.parametrize(("part", "zero_stage"), [("classifier", 0), ("classifier", 1), ("last_block", 1)])
def test_deepspeed_on_three_ranks_trains_the_same_part_after_a_stop(write_config, trained, first, part, zero_stage):
    """Two micro-batches a step and rank. Of three ranks, a mean of what is equal is not always equal to it."""
    batches = {"train__micro_batch_size": 8}
    path = write_config(train__engine="deepspeed", train__zero_stage=zero_stage, **batches, **changes(first, part))
    run_ranks(3, path, stop_after=1)
    run_ranks(3, path)
    run = load_config(path).run_folder
    assert_only_a_part_was_trained(run, first, part)
    assert losses_of(run) == pytest.approx(losses_of(trained(**batches, **changes(first, part))), abs=1e-4)


def test_the_size_of_a_micro_batch_is_found_without_touching_what_is_frozen(write_config, first):
    path = write_config(**changes(first, "classifier") | {"train__micro_batch_size": "auto", "train__epochs": 1})
    run_until(path)
    assert_only_a_part_was_trained(load_config(path).run_folder, first, "classifier")


def test_a_classifier_on_images_is_plain_sgd_on_the_bank(write_config, copied):
    """The check of cRT: the same samples in the same order, and no augmentation."""
    first = load_config(copied("first", train__epochs=1))
    path = write_config(
        **changes(first.run_folder, "classifier"),
        data__augmentation={"min_area": 1.0, "aspect_ratio": 1.0, "flip": False},
        data__sampler={"kind": "class_balanced"},
        train__optimizer={"lr": 0.1},
        seed=3,
    )
    config = load_config(path)
    run_until(path)
    bank = make_bank(RunFolder(first.run_folder), first, open_dataset(first.data), world=World(), device=CPU).split(
        "train"
    )
    rows = np.fromfile(config.run_folder / "audit" / "attempt-0001" / "rank-00000.rows", row_type(12))
    torch.manual_seed(3)
    classifier = build_network(config.model, 12).classifier
    optimizer = torch.optim.SGD(classifier.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    for step in range(6):
        samples = rows["samples"][rows["step"] == step + 1].reshape(-1)
        assert len(samples) == 48
        features, labels = bank.rows(samples, CPU)
        optimizer.param_groups[0]["lr"] = 0.1 * config.train.schedule.factor(step, steps_per_epoch=3, epochs=2)
        optimizer.zero_grad()
        functional.cross_entropy(classifier(features), labels).backward()
        optimizer.step()
    ours = load_file(config.run_folder / "model.safetensors")
    for name, value in classifier.state_dict().items():
        torch.testing.assert_close(ours[f"classifier.{name}"], value, rtol=1e-5, atol=1e-6)


def test_a_part_that_the_network_lacks_is_refused_before_anything_is_written(write_config):
    model = "model={backbone: mobilenet_v2, stem: imagenet, weights: w.safetensors}"
    overrides = [model, "train.trainable=last_block", "data.image_size=32", "data.resize=32"]
    config = load_config(write_config(), overrides)
    with pytest.raises(
        UsageError, match=r"which model\.backbone=mobilenet_v2 is not\. Give train\.trainable=all or cl"
    ):
        train(config, World())
    assert not config.run_folder.exists()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["train.trainable=classifier"], r"trainable=classifier would freeze random weights: give train\.from_run, "),
        (["train.trainable=last_block"], r"trainable=last_block would freeze random weights: give train\.from_run, "),
        (["train.trainable=classifier", "train.from_run=a", "train.optimizer.backbone_lr=0.1"],
         r"backbone_lr=0\.1 has nothing to train, since train\.trainable=classifier freezes the backbone"),
        (["train.trainable=classifier", "train.from_run=a", "train.loss.kind=range", "data.sampler.kind=class_aware",
          "data.sampler.samples_per_draw=4"], r"train\.loss\.kind=range compares features, which .* freezes"),
        (["train.freeze_stages=2"], r"train\.freeze_stages=2 would freeze random weights: give train\.from_run, m"),
        (["train.freeze_stages=2", "train.trainable=last_block", "train.from_run=a"],
         r"train\.trainable=last_block and train\.freeze_stages=2 both say what is frozen: leave one of them out"),
        (["train.trainable=block"], r"`train\.trainable`: input should be 'all', 'last_block', 'norms' or 'class"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_one_line(write_config, overrides, message):
    with pytest.raises(UsageError, match=message) as raised:
        load_config(write_config(), overrides)
    assert "\n" not in str(raised.value)
