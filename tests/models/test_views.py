import pytest
import torch
from torch import nn

from ltrsys.models.config import size_of_views
from ltrsys.models.views import with_views

pytestmark = pytest.mark.usefixtures("one_thread")


class Places(nn.Module):
    """Features that tell where they are from: the pixels at the corners and in the middle."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        middle = images.shape[-1] // 2
        return torch.stack(
            [images[:, 0, 0, 0], images[:, 0, 0, -1], images[:, 0, -1, 0], images[:, 0, middle, middle]], dim=1
        )


@pytest.fixture
def images() -> torch.Tensor:
    return torch.arange(2 * 3 * 6 * 6, dtype=torch.float32).reshape(2, 3, 6, 6)


def test_features_are_the_mean_over_an_image_and_its_mirror_image(images):
    expected = (Places()(images) + Places()(images.flip(3))) / 2
    assert torch.equal(with_views(Places(), "flip", 6)(images), expected)
    assert size_of_views("flip", image_size=4, resize=6) == 4


def test_features_are_the_mean_over_five_crops(images):
    from torchvision.transforms.v2.functional import five_crop

    expected = torch.stack([Places()(crop) for crop in five_crop(images, [4, 4])]).mean(dim=0)
    assert torch.allclose(with_views(Places(), "five", 4)(images), expected)
    assert size_of_views("five", image_size=4, resize=6) == 6


def test_one_view_is_the_network_itself():
    network = Places()
    assert with_views(network, "one", 4) is network
