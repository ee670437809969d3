"""The mean feature of each class, of images and of a bank."""

import numpy as np
import pytest
import torch
from torch import nn

from ltrsys.config.reading import load_config
from ltrsys.data.reading.opening import open_dataset
from ltrsys.errors import DataError
from ltrsys.features.bank import BankSplit
from ltrsys.features.class_means import means_of_bank, means_of_images
from ltrsys.features.making.extraction import write_features
from ltrsys.training.supervision.process_group import process_group
from ltrsys.world import World


class MeanColour(nn.Module):
    """Three features of an image; in training mode others."""

    def forward(self, images):
        return images.mean(dim=(2, 3)) + 100.0 * self.training


class Failing(nn.Module):
    def forward(self, images):
        raise DataError("shard 3 is damaged.")


@pytest.fixture
def arguments(write_config):
    config = load_config(write_config())
    with process_group(World(), 60) as device:
        yield open_dataset(config.data).split("train"), config, {"world": World(), "device": device}


@pytest.mark.long
def test_means_of_images_are_those_of_the_features_that_a_bank_would_hold(arguments, tmp_path):
    split, config, where = arguments
    backbone = MeanColour().train()
    means = means_of_images(backbone, 3, split, config, **where)
    assert backbone.training
    path = tmp_path / "features.npy"
    np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(len(split), 3))
    write_features(backbone.eval(), split, {"last": path}, config, **where)
    features = np.lib.format.open_memmap(path, mode="r").astype(np.float64)
    expected = [features[split.label == label].mean(axis=0) for label in range(12)]
    np.testing.assert_allclose(means.numpy(), np.stack(expected), rtol=1e-6, atol=1e-6)
    bank = BankSplit(features.astype(np.float32), split.label.astype(np.int64), 12)
    torch.testing.assert_close(means_of_bank(bank, where["device"]), means, rtol=1e-6, atol=1e-6)


@pytest.mark.long
def test_what_one_rank_could_not_read_is_told_by_all(arguments):
    split, config, where = arguments
    with pytest.raises(DataError, match=r"^shard 3 is damaged\.$"):
        means_of_images(Failing(), 3, split, config, **where)


def test_a_class_of_no_image_has_a_mean_of_zeros():
    bank = BankSplit(np.ones((3, 2), np.float32), np.array([0, 0, 2]), 4)
    assert means_of_bank(bank, torch.device("cpu")).tolist() == [[1, 1], [0, 0], [1, 1], [0, 0]]
