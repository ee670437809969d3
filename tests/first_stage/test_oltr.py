"""OLTR's second stage: what it begins with, that it learns, and that it goes on to the bit."""

import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from ltrsys.classifiers.joint import Joint
from ltrsys.config.reading import load_config
from ltrsys.data.reading.opening import open_dataset
from ltrsys.errors import DataError, UsageError
from ltrsys.features.making.extraction import make_bank
from ltrsys.first_stage import initial_means
from ltrsys.first_stage.trainer import Trainer, train
from ltrsys.models.stored.weights import load_network
from ltrsys.runs.folder import RunFolder
from ltrsys.training.checkpoints.checkpoint import Checkpoint
from ltrsys.training.supervision.process_group import process_group
from ltrsys.world import World
from tests.first_stage.test_learned_losses import assert_equal_bits, last
from tests.trainings import losses_of, read_metrics, run_on_one_thread, run_ranks

pytestmark = pytest.mark.long

FEATURES, CLASSES = 32, 12
FIRST = {
    "model__feature_layer": FEATURES,
    "train__epochs": 12,
    "train__optimizer": {"lr": 0.05},
    "train__schedule": {"kind": "step", "every": 8},
    "train__evaluate_every": 12,
}
SECOND = {
    "model__feature_layer": FEATURES,
    "model__attention": "modulated",
    "model__attention_side": 2,
    "model__head": "oltr_memory",
    "data__sampler": {"kind": "class_aware", "samples_per_draw": 4},
    "train__reset_classifier": True,
    "train__loss": {"kind": "oltr_centroids"},
    "train__optimizer": {"lr": 0.02, "backbone_lr": 0.01},
    "train__schedule": {"kind": "step", "every": 2, "gamma": 0.5},
}


@pytest.fixture
def first(trained):
    """The run of stage 1."""
    return trained(**FIRST)


@pytest.fixture
def second(first):
    """The settings of stage 2."""
    return {**SECOND, "train__from_run": str(first)}


def begun(path):
    """Return the network with which a training of `path` begins."""
    with process_group(World(), 60) as device:
        trainer = Trainer(load_config(path), World(), device)
        weights = {name: tensor.clone() for name, tensor in trainer.engine.network.state_dict().items()}
        trainer.close()
    return weights


def bank_of(run):
    config = load_config(run / "config.yaml")
    return make_bank(RunFolder(run), config, open_dataset(config.data), world=World(), device=torch.device("cpu"))


def means_of(bank):
    split = bank.split("train")
    return np.stack([split.features[split.labels == label].astype(np.float64).mean(axis=0) for label in range(CLASSES)])


def must_not_be_called(*arguments, **options):
    raise AssertionError("every image is read again")


def test_it_begins_with_the_class_means_and_the_classifier_of_stage_1(write_config, first, second, tmp_path):
    ours, theirs = begun(write_config(**second)), load_file(first / "model.safetensors")
    backbone = {name for name in theirs if name.startswith("backbone.")}
    assert all(torch.equal(ours[name], theirs[name]) for name in backbone)
    assert torch.equal(ours["classifier.hallucinator.weight"], theirs["classifier.weight"])
    assert torch.equal(ours["classifier.hallucinator.bias"], theirs["classifier.bias"])
    assert not ours["backbone.avgpool.attention.output.weight"].any()
    shutil.copytree(first, tmp_path / "copy")
    means = means_of(bank_of(tmp_path / "copy"))
    assert np.abs(means).max() > 0.1
    np.testing.assert_allclose(ours["classifier.centroids"].numpy(), means, rtol=1e-5, atol=1e-6)


def test_the_feature_bank_of_stage_1_saves_reading_the_images(write_config, first, second, tmp_path, monkeypatch):
    shutil.copytree(first, tmp_path / "copy")
    means = means_of(bank_of(tmp_path / "copy"))
    path = write_config(**{**second, "train__from_run": str(tmp_path / "copy")})
    measured = begun(path)["classifier.centroids"]
    monkeypatch.setattr(initial_means, "means_of_images", must_not_be_called)
    found = begun(path)["classifier.centroids"]
    torch.testing.assert_close(found, torch.from_numpy(means).float())
    torch.testing.assert_close(found, measured, rtol=1e-6, atol=1e-7)
    with pytest.raises(
        AssertionError, match="every image is read again"
    ):  # another transform: not this bank's features
        begun(write_config("other", **{**second, "train__from_run": str(tmp_path / "copy"), "data__resize": 14}))


def test_it_learns(trained, first, second):
    run = trained(**second, train__epochs=6)
    losses = losses_of(run)
    assert np.mean(losses[-3:]) < 0.7 * np.mean(losses[:3])
    accuracies = [line["val/mean_class_accuracy"] for line in read_metrics(run) if "val/all" in line]
    before = [line["val/mean_class_accuracy"] for line in read_metrics(first) if "val/all" in line]
    assert accuracies[-1] > before[-1] + 5
    weights = load_file(run / "model.safetensors")
    assert weights["backbone.avgpool.attention.output.weight"].abs().max() > 0
    assert Checkpoint.load(run / "checkpoints" / "step-000000018.safetensors").optimizer.keys() >= {
        "classifier.centroids.momentum_buffer"
    }


def test_the_second_stage_takes_its_classifier_as_it_is(trained, second):
    run = trained(**second)
    config = load_config(run / "config.yaml")
    network = load_network(config.model, CLASSES, run / "model.safetensors").eval()
    with torch.no_grad():
        features = network.backbone(torch.randn(9, 3, 12, 12))
        joint = Joint.of_model(run / "model.safetensors", torch.device("cpu"), config.model.head)
        assert torch.equal(joint.scores(features), network.classifier(features))
        again = Joint.restore(joint.tensors(), joint.params(), None)
        assert torch.equal(again.scores(features), joint.scores(features))
    assert joint.weight() is None


def test_a_run_that_goes_on_ends_with_the_bits_of_one_that_never_stopped(trained, copied, second, monkeypatch):
    straight, path = trained(**second), copied(stop_after=1, **second)
    monkeypatch.setattr(initial_means, "means_of_images", must_not_be_called)
    run_on_one_thread(path, None)
    assert_equal_bits(load_config(path).run_folder, straight)


@pytest.mark.distributed
@pytest.mark.parametrize("engine", ["ddp", "deepspeed", "zero"])
def test_so_does_one_of_two_ranks_with_either_engine(engine, trained, copied, second):
    settings = {"train__engine": "ddp" if engine == "ddp" else "deepspeed", "train__zero_stage": int(engine == "zero")}
    path = copied(ranks=2, stop_after=1, **second, **settings)
    run_ranks(2, path)
    assert_equal_bits(load_config(path).run_folder, trained(2, **second, **settings))


@pytest.mark.distributed
def test_two_ranks_see_what_one_sees(trained, second):
    """Were the centroids' gradients not averaged, they would part."""
    one, two = trained(**second), trained(2, **second)
    assert losses_of(two) == pytest.approx(losses_of(one), rel=2e-3)
    ours, theirs = (last(run).network["classifier.centroids"] for run in (two, one))
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


def test_the_loss_s_learning_rate_is_that_of_the_centroids(trained, second):
    slow = trained(**{**second, "train__loss": {"kind": "oltr_centroids", "lr": 1e-9}})
    moved, still = (last(run).network["classifier.centroids"] for run in (trained(**second), slow))
    assert (moved - still).abs().max() > 1e-4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"train__from_run": None, "train__reset_classifier": False},
            r"model\.head=oltr_memory begins .*train\.from_r",
        ),
        ({"train__loss": {"kind": "cross_entropy"}}, r"needs a loss that learns .* train\.loss\.kind=oltr_centroids"),
        ({"model__feature_layer": 16}, r"that run has model\.feature_layer=32, but the config says 16"),
        (
            {"model__feature_layer": None},
            r"the config says null\. Give model\.feature_layer=32, or",
        ),
        ({"model__attention_side": 7}, r"model\.attention_side=7: .* is 2 x 2\. Give model\.attention_side=2"),
    ],
)
def test_what_it_lacks_is_told_in_one_line_before_anything_is_written(changes, message, write_config, second):
    path = write_config(**{**second, **changes})
    with pytest.raises(UsageError, match=message) as refused:
        train(load_config(path), World())
    assert "\n" not in str(refused.value)
    assert not (path.parent / "runs").exists()


def test_a_stage_1_without_a_linear_classifier_is_refused(trained, write_config, second):
    cosine = trained(model__head="cosine", model__feature_layer=FEATURES, train__epochs=1)
    config = load_config(write_config(**{**second, "train__from_run": str(cosine)}))
    with pytest.raises(UsageError, match=r"that run has model\.head=cosine\. Give a run with model\.head=linear\."):
        train(config, World())


def test_features_that_are_not_finite_are_told_before_training(write_config, first, second, tmp_path):
    from ltrsys.models.stored.weights import save_tensors

    shutil.copytree(first, tmp_path / "broken")
    weights = load_file(tmp_path / "broken" / "model.safetensors")
    weights["backbone.fc.linear.bias"][:] = torch.nan
    save_tensors(weights, tmp_path / "broken" / "model.safetensors")
    with pytest.raises(DataError, match=r"the backbone gives NaN or infinite features"):
        train(load_config(write_config(**{**second, "train__from_run": str(tmp_path / "broken")})), World())
