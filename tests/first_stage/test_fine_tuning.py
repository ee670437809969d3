"""Optimizers, rates by layer, clipping and averaged weights in whole trainings."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from ltrsys.config.reading import load_config
from ltrsys.data.loading.loader import EvaluationLoader
from ltrsys.data.reading.opening import open_dataset
from ltrsys.errors import UsageError
from ltrsys.first_stage.starting import check_start
from ltrsys.first_stage.trainer import train
from ltrsys.models.stored.weights import load_network
from ltrsys.training.average import AverageNotFinite
from ltrsys.training.checkpoints.folder import CheckpointFolder
from ltrsys.training.supervision.process_group import process_group
from ltrsys.training.validation import predict_split
from ltrsys.world import World
from tests.first_stage.ranks import run as run_until
from tests.trainings import losses_of, read_metrics, run_ranks

pytestmark = pytest.mark.long

COMMON = {"train__clip_grad_norm": 1.0, "train__ema_decay": 0.9, "train__evaluate_every": 2}
"""The checkpoint after the first epoch has statistics of which no mean over the ranks was taken."""
ADAMW = {"kind": "adamw", "lr": 0.002, "layer_decay": 0.8, "decay_norms_and_biases": False}
WAYS = {
    "ddp": (1, {"train__optimizer": {"kind": "lamb", "lr": 0.01}}),
    "ddp, two ranks": (2, {"train__optimizer": ADAMW}),
    "deepspeed, two ranks": (2, {"train__engine": "deepspeed", "train__optimizer": {"kind": "muon", "lr": 0.002}}),
    "zero 1, two ranks": (2, {"train__engine": "deepspeed", "train__zero_stage": 1, "train__optimizer": ADAMW}),
}


def checkpoint_of(run):
    return CheckpointFolder(run / "checkpoints", kept=1).newest()[1]


def assert_equal(ours, theirs):
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.distributed
@pytest.mark.parametrize("way", WAYS)
def test_a_run_that_is_stopped_goes_on_to_the_bit(way, trained, copied):
    """Weights, averaged weights, each rank's statistics of both, and the optimizer's state."""
    ranks, changes = WAYS[way]
    path = copied(ranks=ranks, stop_after=1, **COMMON, **changes)
    run, straight = load_config(path).run_folder, trained(ranks, **COMMON, **changes)
    if ranks == 1:
        run_until(path)
    else:
        run_ranks(ranks, path)
    assert losses_of(run) == losses_of(straight)
    ours, theirs = checkpoint_of(run), checkpoint_of(straight)
    for part in ("network", "average", "optimizer", "ranks"):
        assert_equal(getattr(ours, part), getattr(theirs, part))
    assert_equal(load_file(run / "model.safetensors"), load_file(straight / "model.safetensors"))


@pytest.mark.distributed
def test_engines_train_alike_with_layers_clipping_and_an_average(trained):
    """AdamW, whose checkpoints hold the same names at ZeRO 1 as at 0."""
    ddp, zero = (trained(2, **COMMON, **WAYS[way][1]) for way in ("ddp, two ranks", "zero 1, two ranks"))
    deepspeed = trained(2, train__engine="deepspeed", train__optimizer=ADAMW, **COMMON)
    for run in (deepspeed, zero):
        assert losses_of(run) == pytest.approx(losses_of(ddp), abs=1e-4)
        assert checkpoint_of(run).optimizer.keys() == checkpoint_of(ddp).optimizer.keys()
    # Adam divides by the gradient's size: where that is rounding, a weight may go the other way by its rate a step
    ours, theirs = (load_file(run / "model.safetensors") for run in (deepspeed, ddp))
    torch.testing.assert_close(ours, theirs, atol=6 * 2 * 0.002, rtol=0)


@pytest.mark.distributed
@pytest.mark.parametrize(("engine", "ranks"), [({}, 1), ({"train__engine": "deepspeed", "train__zero_stage": 1}, 4)])
def test_a_run_goes_on_on_other_ranks(engine, ranks, copied, trained):
    """Weights and averaged weights to rounding; how often statistics are updated depends on the ranks."""
    sgd = {"kind": "sgd", "lr": 0.02, "layer_decay": 0.8, "decay_norms_and_biases": False}
    path = copied(ranks=2, stop_after=1, train__optimizer=sgd, **COMMON, **engine)
    run_ranks(ranks, path)
    run, straight = load_config(path).run_folder, trained(2, train__optimizer=sgd, **COMMON, **engine)
    assert losses_of(run) == pytest.approx(losses_of(straight), abs=1e-4)
    ours, theirs = checkpoint_of(run), checkpoint_of(straight)
    for name in (one for one in theirs.network if one.endswith((".weight", ".bias"))):
        torch.testing.assert_close(ours.network[name], theirs.network[name], atol=1e-4, rtol=1e-3)
        torch.testing.assert_close(ours.average[name], theirs.average[name], atol=1e-4, rtol=1e-3)


@pytest.fixture
def averaged(trained):
    ranks, changes = WAYS["ddp"]
    return trained(ranks, **COMMON, **changes)


def test_the_averaged_weights_are_saved_as_the_model_and_beside_the_others_in_checkpoints(averaged):
    last = checkpoint_of(averaged)
    assert_equal(load_file(averaged / "model.safetensors"), last.average)
    assert not torch.equal(last.average["classifier.weight"], last.network["classifier.weight"])


def accuracy_of(run, tensors):
    """Return the accuracy on val of some weights, in per cent."""
    config = load_config(run / "config.yaml")
    dataset = open_dataset(config.data)
    split, device = dataset.split("val"), torch.device("cpu")
    network = load_network(config.model, dataset.num_classes, run / "model.safetensors")
    network.load_state_dict(tensors)
    with process_group(World(), 60):
        loader = EvaluationLoader(split, config.data, batch_size=12, world=World(), device=device, channels_last=False)
        predictions = predict_split(network, loader, len(split), config.train)
        loader.close()
    return 100 * float(np.mean(predictions == split.label))


def test_the_averaged_weights_are_evaluated_and_compared(trained):
    run = trained(train__ema_decay=0.99, train__epochs=6)
    last, lines = checkpoint_of(run), [line for line in read_metrics(run) if "val/all" in line]
    of_average, of_last = (accuracy_of(run, dict(weights)) for weights in (last.average, last.network))
    assert lines[-1]["val/all"] == pytest.approx(of_average)
    assert of_last != pytest.approx(of_average)
    assert last.progress.best_accuracy == max(line["val/mean_class_accuracy"] for line in lines)


def test_an_average_changes_nothing_of_the_training_itself(trained, averaged):
    ranks, changes = WAYS["ddp"]
    plain = trained(ranks, **COMMON | {"train__ema_decay": None}, **changes)
    assert losses_of(plain) == losses_of(averaged)
    weights = {name for name in load_file(plain / "model.safetensors") if "running" not in name}
    ours, theirs = checkpoint_of(plain).network, checkpoint_of(averaged).network
    assert all(torch.equal(ours[name], theirs[name]) for name in weights)


def test_an_average_that_is_not_finite_ends_the_run_and_is_not_saved(write_config):
    """The only step has a finite loss, and weights beyond the largest number."""
    path = write_config(
        data__samples_per_epoch=48, train__epochs=1, train__ema_decay=0.9, train__optimizer={"kind": "sgd", "lr": 1e300}
    )
    with pytest.raises(AverageNotFinite, match=r"^step 1: the averaged weights of train\.ema_decay are not finite"):
        train(load_config(path), World())
    run = load_config(path).run_folder
    assert not (run / "model.safetensors").exists()
    assert not list((run / "checkpoints").glob("*"))
    advised = load_config(path, ["train.optimizer.lr=0.02"])
    train(advised, World())
    assert (run / "model.safetensors").exists()


def test_layers_that_are_not_known_are_told_before_anything_is_written_and_the_advice_works(write_config):
    network = {"backbone": "mobilenet_v3_small"}
    path = write_config(model=network, data__image_size=32, data__resize=32, train__optimizer={"layer_decay": 0.5})
    with pytest.raises(UsageError, match=r"not of model\.backbone=mobilenet_v3_small\. Give train\.optimizer\.layer_"):
        train(load_config(path), World())
    assert not load_config(path).run_folder.exists()
    check_start(load_config(path, ["train.optimizer.layer_decay=null"]))
    check_start(load_config(path, ["train.optimizer.layer_decay=null", "train.optimizer.backbone_lr=0.1"]))


@pytest.mark.parametrize("kind", ["lamb", "muon"])
def test_an_optimizer_of_whole_matrices_is_refused_at_zero_1(write_config, kind):
    path = write_config(train__engine="deepspeed", train__zero_stage=1, train__optimizer={"kind": kind})
    with pytest.raises(
        UsageError, match=rf"train\.optimizer\.kind={kind} needs whole matrices: give train\.zero_stage=0"
    ):
        load_config(path)
    load_config(path, ["train.zero_stage=0"])
    load_config(path, ["train.optimizer.kind=adamw"])
