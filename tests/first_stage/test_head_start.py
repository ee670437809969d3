"""A cosine head that begins at the class means."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional

from ltrsys.config.reading import load_config
from ltrsys.data.reading.opening import open_dataset
from ltrsys.errors import UsageError
from ltrsys.features.making.extraction import make_bank
from ltrsys.first_stage import initial_means
from ltrsys.first_stage.trainer import Trainer
from ltrsys.models.heads import CosineHead
from ltrsys.runs.folder import RunFolder
from ltrsys.training.supervision.process_group import process_group
from ltrsys.world import World
from tests.first_stage.test_learned_losses import assert_equal_bits
from tests.trainings import run_on_one_thread

COSINE = {"model__head": "cosine", "train__head_start": "class_means"}
SLOW = {"train__optimizer": {"lr": 1e-9}, "train__epochs": 1}
"""What a training with it ends with is what it began with."""


@pytest.fixture
def first(trained):
    return trained(train__epochs=1)


@pytest.fixture
def means(copied):
    """The class means of that run's bank, float64, and the backbone's file."""
    config = load_config(copied("first", train__epochs=1))
    bank = make_bank(
        RunFolder(config.run_folder), config, open_dataset(config.data), world=World(), device=torch.device("cpu")
    ).split("train")
    return torch.from_numpy(
        np.stack([bank.features[bank.labels == label].astype(np.float64).mean(axis=0) for label in range(12)])
    )


def begun(path):
    """Return the classifier's weights with which a training of `path` begins."""
    with process_group(World(), 60) as device:
        trainer = Trainer(load_config(path), World(), device)
        weight = trainer.engine.network.classifier.weight.detach().clone()
        trainer.close()
    return weight


@pytest.mark.long
def test_the_weights_begin_as_the_directions_of_the_class_means(write_config, first, means):
    weight = begun(write_config(**COSINE, model__weights=str(first / "model.safetensors")))
    torch.testing.assert_close(weight.double(), functional.normalize(means), rtol=1e-5, atol=1e-6)


@pytest.mark.long
def test_the_bank_of_the_run_that_is_started_from_saves_reading_the_images(write_config, means, monkeypatch, tmp_path):
    def must_not_be_called(*arguments, **options):
        raise AssertionError("every image is read again")

    monkeypatch.setattr(initial_means, "means_of_images", must_not_be_called)
    first = {"train__from_run": str(tmp_path / "runs" / "first"), "train__reset_classifier": True}
    weight = begun(write_config(**COSINE, **first))
    torch.testing.assert_close(weight.double(), functional.normalize(means), rtol=1e-5, atol=1e-6)


@pytest.mark.long
@pytest.mark.distributed
def test_two_ranks_share_the_images_and_begin_as_one_does(trained, first):
    start = {**COSINE, **SLOW, "model__weights": str(first / "model.safetensors")}
    one, two = (load_file(trained(ranks, **start) / "model.safetensors") for ranks in (1, 2))
    torch.testing.assert_close(one["classifier.weight"], two["classifier.weight"], rtol=1e-5, atol=1e-6)
    assert (one["classifier.weight"].norm(dim=1) - 1).abs().max() < 1e-5


@pytest.mark.long
def test_a_run_that_goes_on_does_not_begin_again(trained, copied, first, monkeypatch):
    start = {**COSINE, "model__weights": str(first / "model.safetensors")}
    straight, path = trained(**start), copied(stop_after=1, **start)

    def must_not_be_called(*arguments, **options):
        raise AssertionError("measured again")

    monkeypatch.setattr(initial_means, "means_of_images", must_not_be_called)
    run_on_one_thread(path, None)
    assert_equal_bits(load_config(path).run_folder, straight)


def test_a_class_of_no_image_keeps_its_random_weight():
    head = CosineHead(5, 3)
    before, means = head.weight.detach().clone(), torch.randn(3, 5)
    head.begin(means, torch.tensor([True, False, True]))
    assert torch.equal(head.weight[1], before[1])
    torch.testing.assert_close(head.weight[[0, 2]].detach(), functional.normalize(means[[0, 2]]))
    assert head.weight.requires_grad


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([], r"head_start=class_means gives directions, which model\.head=linear is not made of: give model\.head=cos"),
        (["model.head=cosine", "train.from_run=a"],
         r"from_run=a and train\.head_start=class_means both say .*: give train\.reset_classifier=true, or tra"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_one_line(write_config, overrides, message):
    with pytest.raises(UsageError, match=message) as raised:
        load_config(write_config(), ["train.head_start=class_means", *overrides])
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "advice", [["model.head=cosine"], ["model.head=cosine", "train.from_run=a", "train.reset_classifier=true"]]
)
def test_the_advice_is_good(write_config, advice):
    assert load_config(write_config(), ["train.head_start=class_means", *advice]).train.head_start == "class_means"
