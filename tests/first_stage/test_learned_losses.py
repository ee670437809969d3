"""Runs whose loss learns, weighs, mixes or sets a scale: they resume to the bit, and ranks see what one sees."""

from pathlib import Path

import pytest
import torch

from ltrsys.config.reading import load_config
from ltrsys.errors import UsageError
from ltrsys.first_stage.trainer import train
from ltrsys.training.checkpoints.checkpoint import Checkpoint
from ltrsys.world import World
from tests.trainings import losses_of, run_on_one_thread, run_ranks

pytestmark = pytest.mark.long

CENTROIDS = {"train__loss": {"kind": "oltr_centroids", "weight": 0.5, "lr": 0.1}}
LDAM = {
    "model__head": "cosine",
    "train__loss": {"kind": "ldam", "reweight": "effective_number", "beta": 0.9, "from_epoch": 1},
}
MIXED = {"train__mixup": {"alpha": 0.4}, "train__label_smoothing": 0.1}
RANGE = {
    "data__sampler": {"kind": "class_aware", "samples_per_draw": 12},
    "train__loss": {"kind": "range", "intra_weight": 0.01, "inter_weight": 0.01, "margin": 100.0},
}


def last(run: Path) -> Checkpoint:
    return Checkpoint.load(run / "checkpoints" / "step-000000006.safetensors")


def assert_equal_bits(run: Path, straight: Path) -> None:
    ours, theirs = last(run), last(straight)
    assert losses_of(run) == losses_of(straight)
    for part in ("network", "optimizer", "ranks", "loss"):
        one, other = getattr(ours, part), getattr(theirs, part)
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in other)


@pytest.mark.parametrize("changes", [CENTROIDS, LDAM, MIXED, RANGE], ids=["centroids", "ldam", "mixed", "range"])
def test_a_run_that_goes_on_ends_with_the_bits_of_one_that_never_stopped(changes, trained, copied):
    path = copied(stop_after=1, **changes)
    run_on_one_thread(path, None)
    assert_equal_bits(load_config(path).run_folder, trained(**changes))


@pytest.mark.distributed
@pytest.mark.parametrize("engine", ["ddp", "deepspeed", "zero"])
@pytest.mark.parametrize("changes", [CENTROIDS, LDAM], ids=["centroids", "ldam"])
def test_so_does_one_of_two_ranks_with_either_engine(engine, changes, trained, copied):
    settings = {"train__engine": "ddp" if engine == "ddp" else "deepspeed", "train__zero_stage": int(engine == "zero")}
    path = copied(ranks=2, stop_after=1, **changes, **settings)
    run_ranks(2, path)
    assert_equal_bits(load_config(path).run_folder, trained(2, **changes, **settings))


@pytest.mark.distributed
@pytest.mark.parametrize("changes", [CENTROIDS, LDAM, MIXED, RANGE], ids=["centroids", "ldam", "mixed", "range"])
def test_two_ranks_see_what_one_sees(changes, trained):
    """Their micro-batches are the same: what is left is rounding. Were gradients not averaged, centroids would part."""
    one, two = trained(**changes), trained(2, **changes)
    assert losses_of(two) == pytest.approx(losses_of(one), rel=2e-3)
    ours, theirs = last(two).loss, last(one).loss
    assert ours.keys() == theirs.keys()
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-3, atol=1e-3)


def test_centroids_are_learned_with_a_rate_of_their_own_and_have_momentum(trained, tmp_path):
    checkpoint = last(trained(**CENTROIDS))
    slow = last(trained(train__loss=CENTROIDS["train__loss"] | {"lr": 1e-9}))
    still, moved = slow.loss["centroids"], checkpoint.loss["centroids"]
    assert (moved - still).abs().max() > 1e-3
    assert checkpoint.optimizer["loss.centroids.momentum_buffer"].abs().max() > 0


def test_ldam_sets_the_scale_of_the_head_and_the_model_keeps_it(trained):
    network = last(trained(**LDAM)).network
    assert network["classifier.scale"].tolist() == [30.0]
    assert "classifier.bias" not in network


def test_weights_by_class_change_the_losses_from_their_epoch_on(trained):
    loss = {"kind": "cross_entropy", "reweight": "effective_number", "beta": 0.9, "from_epoch": 1}
    plain, deferred = losses_of(trained()), losses_of(trained(train__loss=loss))
    assert deferred[:3] == plain[:3]
    assert not set(deferred[3:]) & set(plain[3:])


def test_range_refuses_batches_that_leave_a_class_one_image_in_each(write_config):
    sampler = {"kind": "class_aware", "samples_per_draw": 4}
    path = write_config(data__sampler=sampler, train__loss={"kind": "range"})
    message = r"the 4 that are drawn together are dealt to 4 micro-batches: raise train\.micro_batch_size"
    with pytest.raises(UsageError, match=message):
        train(load_config(path), World.detect())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["train.loss.kind=range"], r"train\.loss\.kind=range needs several images of a class .*class_aware"),
        (
            ["train.loss.kind=ldam"],
            r"train\.loss\.kind=ldam is not made for model\.head=linear: give model\.head=cosine",
        ),
        (
            ["train.loss.reweight=effective_number", "train.loss.from_epoch=2"],
            r"from_epoch=2 is after the last epoch: with train\.epochs=2, the last is 1",
        ),
        (["train.loss.reweight=effective_number", "train.loss.beta=1.0"], r"train\.loss\.beta.*less than 1"),
        (["train.loss.kind=focal", "train.loss.gamma=-1.0"], r"train\.loss\.gamma.*greater than or equal to 0"),
        (["train.loss.kind=focal", "train.label_smoothing=0.1"], r"label_smoothing=0\.1 is not heeded by train\.loss"),
        (["train.loss.kind=lifted", "train.mixup.alpha=0.2"], r"mixup\.alpha=0\.2 makes images of two classes"),
        (["train.mixup.alpha=-0.2"], r"train\.mixup\.alpha.*greater than or equal to 0"),
        (["model.head=cosin"], r"model\.head"),
    ],
)
def test_what_does_not_go_together_is_refused_while_the_config_is_read(overrides, message, write_config):
    with pytest.raises(UsageError, match=message) as refused:
        load_config(write_config(), overrides)
    assert len(str(refused.value).splitlines()) == 1
