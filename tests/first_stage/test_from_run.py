"""A training that starts from another run."""

import hashlib
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from ltrsys.config.reading import load_config
from ltrsys.data.shards.building import build_shards
from ltrsys.data.sources.glyphs import read_glyphs
from ltrsys.errors import DataError, UsageError
from ltrsys.first_stage.trainer import Trainer, train
from ltrsys.models.network import build_network
from ltrsys.training.checkpoints.folder import CheckpointFolder
from ltrsys.training.supervision.process_group import process_group
from ltrsys.world import World
from tests.first_stage.ranks import run as run_until
from tests.trainings import losses_of

pytestmark = pytest.mark.long


@pytest.fixture
def first(trained):
    """The run that is started from."""
    return trained(train__epochs=1)


def started(path, overrides=()):
    """Return the weights with which a training of `path` begins."""
    with process_group(World(), 60) as device:
        trainer = Trainer(load_config(path, overrides), World(), device)
        weights = {name: tensor.clone() for name, tensor in trainer.engine.network.state_dict().items()}
        trainer.close()
    return weights


def test_a_run_starts_from_another_s_backbone_and_classifier(write_config, first):
    ours, theirs = started(write_config(train__from_run=str(first))), load_file(first / "model.safetensors")
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_classifier_that_is_reset_is_the_one_of_the_seed(write_config, first):
    path = write_config(train__from_run=str(first), train__reset_classifier=True, seed=5)
    ours, theirs = started(path), load_file(first / "model.safetensors")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs if name.startswith("backbone."))
    torch.manual_seed(5)
    drawn = build_network(load_config(path).model, 12).classifier.state_dict()
    assert all(torch.equal(ours[f"classifier.{name}"], drawn[name]) for name in drawn)
    cosine = started(path, ["model.head=cosine"])
    assert cosine["classifier.scale"] == 10, "another head is no obstacle where it is drawn anew"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.backbone=resnet18"], r"that run has model\.backbone=resnet10, but the config says resnet18\. Give mo"),
        (
            ["model.stem=imagenet"],
            r"that run has model\.stem=small, but the config says imagenet\. Give .* another run",
        ),
        (["model.head=cosine"], r"has model\.head=linear, .* Give model\.head=linear, or train\.reset_classifier=true"),
    ],
)
def test_a_run_of_another_network_is_refused_before_anything_is_written(write_config, first, overrides, message):
    config = load_config(write_config(train__from_run=str(first)), overrides)
    with pytest.raises(UsageError, match=message):
        train(config, World())
    assert not config.run_folder.exists()


def test_a_run_of_other_classes_is_refused_before_anything_is_written(write_config, first, tmp_path):
    """As many of them, and of one name each, but in another order."""
    source = read_glyphs(num_classes=12, seed=0, train_per_class=3)
    exchanged = [*source.classes[1::-1], *source.classes[2:]]
    build_shards(replace(source, classes=exchanged), tmp_path / "shards")
    for reset in ("false", "true"):
        overrides = [f"data.shards={tmp_path}/shards", f"train.reset_classifier={reset}"]
        config = load_config(write_config(train__from_run=str(first)), overrides)
        with pytest.raises(UsageError, match=r"are not those of that run \(2 classes numbered anew .* model\.weights="):
            train(config, World())
        assert not config.run_folder.exists()


def test_a_run_without_a_model_and_a_folder_that_is_no_run_are_refused(write_config, tmp_path):
    run_until(write_config("begun"), stop_after=0)
    config = load_config(write_config(train__from_run=str(tmp_path / "runs" / "begun")))
    with pytest.raises(UsageError, match=r"runs/begun: that run has no model yet\. Let its training end first"):
        train(config, World())
    config = load_config(write_config(train__from_run=str(tmp_path)))
    with pytest.raises(UsageError, match=r"not a run folder \(it has no config\.yaml\)"):
        train(config, World())
    assert not config.run_folder.exists()


def test_weights_that_are_damaged_or_of_another_number_of_classes_are_named(write_config, first, tmp_path):
    """Of a run without a record, which knows its classes by its model, and of an old one, which does not."""
    copy = tmp_path / "copy"
    shutil.copytree(first, copy)
    (copy / "dataset.json").unlink()
    build_shards(read_glyphs(num_classes=4, seed=0, train_per_class=20), tmp_path / "shards")
    path = write_config(train__from_run=str(copy))
    with pytest.raises(UsageError, match=r"are not those of that run \(.*8 classes removed"):
        train(load_config(path, [f"data.shards={tmp_path}/shards"]), World())
    save_file(load_file(copy / "model.safetensors"), copy / "model.safetensors")
    with pytest.raises(
        DataError, match=r"`classifier\.weight` has shape \[12, 512\], the config's network needs \[4, 5"
    ):
        train(load_config(path, [f"data.shards={tmp_path}/shards"]), World())
    model = copy / "model.safetensors"
    model.write_bytes(model.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"copy/model\.safetensors: not a file of plain tensors, or a damaged one"):
        train(load_config(path), World())


def test_a_resumed_run_does_not_look_for_the_run_it_started_from_and_knows_its_weights(write_config, first, tmp_path):
    shutil.copytree(first, tmp_path / "moving")
    straight, path = (write_config(name, train__from_run=str(tmp_path / "moving")) for name in ("straight", "stopped"))
    run_until(straight)
    run_until(path, stop_after=1)
    (tmp_path / "moving").rename(tmp_path / "moved")
    with pytest.raises(UsageError, match=r"begun with train\.from_run=.*moving, but the config now says None"):
        train(load_config(path, ["train.from_run=null"]), World())
    train(load_config(path, [f"train.from_run={tmp_path}/elsewhere"]), World())
    one, other = (load_config(file).run_folder for file in (straight, path))
    assert losses_of(one) == losses_of(other)
    ours, theirs = (load_file(run / "model.safetensors") for run in (one, other))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)

    digest = hashlib.sha256((first / "model.safetensors").read_bytes()).hexdigest()
    for run in (one, other):
        assert CheckpointFolder(run / "checkpoints", kept=1).newest()[1].progress.started_from == digest
        with safe_open(run / "model.safetensors", framework="pt") as file:
            assert file.metadata()["started_from"] == digest


def test_a_run_that_was_begun_without_another_does_not_go_on_with_one(copied, first):
    path = copied(stop_after=1)
    with pytest.raises(UsageError, match=r"begun with train\.from_run=None, but the config now says"):
        train(load_config(path, [f"train.from_run={first}"]), World())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["train.reset_classifier=true"], r"reset_classifier=true has no classifier to draw anew.* give train\.from_r"),
        (
            ["train.from_run=a", "model.weights=b"],
            r"train\.from_run=a and model\.weights=b both say what .* one of them",
        ),
        (["train.from_run=runs/x", "runs=runs", "name=x"], r"train\.from_run=runs/x is this run's own folder"),
    ],
)
def test_what_does_not_go_together_is_one_line(write_config, overrides, message):
    with pytest.raises(UsageError, match=message) as raised:
        load_config(write_config(), overrides)
    assert "\n" not in str(raised.value)
