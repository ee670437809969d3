import pytest
import torch
import torchvision
from torch import nn

from ltrsys.errors import UsageError
from ltrsys.models.backbones.base import BACKBONES, Backbone
from ltrsys.models.config import ModelConfig
from ltrsys.models.image_size import build_without_memory, check_image_size, nearest_size
from ltrsys.models.network import build_network

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.long]


@pytest.mark.parametrize(
    ("backbone", "image_size", "nearest"),
    [
        ("vit_b_16", 32, 224), ("vit_b_16", 299, 224), ("vit_h_14", 518, 224), ("inception_v3", 32, 75),
        ("alexnet", 32, 63), ("maxvit_t", 230, 224), ("densenet121", 8, 29), ("vgg11", 8, 32),
    ],
)  # fmt: skip
def test_a_size_that_does_not_fit_is_refused_by_both_keys_and_the_nearest_that_does(backbone, image_size, nearest):
    config = ModelConfig(backbone=backbone)
    with pytest.raises(UsageError) as refused:
        check_image_size(config, image_size)
    message = str(refused.value)
    assert f"model.backbone={backbone} does not take images of data.image_size={image_size}." in message
    assert f"The nearest size that it takes is {nearest};" in message
    assert "\n" not in message
    check_image_size(config, nearest)


@pytest.mark.parametrize(("backbone", "smallest"), [("alexnet", 63), ("vgg11", 32)])
def test_the_meta_device_refuses_what_a_real_pass_refuses(backbone, smallest):
    network = build_network(ModelConfig(backbone=backbone), 2).eval()
    network(torch.zeros(1, 3, smallest, smallest))
    with pytest.raises(RuntimeError):
        network(torch.zeros(1, 3, smallest - 1, smallest - 1))


@pytest.mark.parametrize("backbone", ["resnet10", "resnet50", "swin_t", "efficientnet_b0", "mobilenet_v3_small"])
@pytest.mark.parametrize("image_size", [8, 32, 100, 224, 331])
def test_networks_of_any_size_are_let_pass(backbone, image_size):
    check_image_size(ModelConfig(backbone=backbone), image_size)


def test_one_image_that_leaves_batch_norm_one_value_is_refused():
    with pytest.raises(UsageError, match=r"train\.micro_batch_size=1: .*data\.image_size=32, model\.backbone=resnet10"):
        check_image_size(ModelConfig(backbone="resnet10"), 32, one_by_one=True)
    check_image_size(ModelConfig(backbone="resnet10"), 64, one_by_one=True)
    check_image_size(ModelConfig(backbone="resnet10", stem="small"), 32, one_by_one=True)


def test_trying_takes_no_memory_and_no_random_number():
    before = torch.get_rng_state()
    network = build_without_memory(ModelConfig(backbone="regnet_y_128gf"))  # 2.6 GB of weights
    assert all(tensor.is_meta for tensor in (*network.parameters(), *network.buffers()))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_network_that_looks_at_values_is_not_refused(monkeypatch):
    class Looking(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(3, 2)

        def forward(self, images):
            means = images.mean(dim=(2, 3))
            return self.head(means if means.sum().item() > 0 else -means)

    class Own(Backbone):
        name = "looking"
        summary = "looks at the values of its images"

        @classmethod
        def build(cls):
            return Looking()

    monkeypatch.setattr(BACKBONES, "get", lambda name: Own)
    monkeypatch.setattr(type(BACKBONES), "__contains__", lambda self, name: True)
    check_image_size(ModelConfig(backbone="looking"), 32)


def test_the_nearest_size_is_found_where_all_sizes_from_one_on_fit():
    for smallest in (2, 63, 75, 221, 600):
        assert nearest_size(lambda size, smallest=smallest: size >= smallest, 1) == smallest
    assert nearest_size(lambda size: size <= 100, 130) == 100
    assert nearest_size(lambda size: False, 130) is None


@pytest.mark.long  # 12 s for all
def test_every_network_of_torchvision_takes_the_size_it_is_made_for():
    tried = 0
    for name in torchvision.models.list_models(module=torchvision.models):
        try:
            network = build_without_memory(ModelConfig(backbone=name))
        except UsageError:  # it does not end in a linear layer
            continue
        default = torchvision.models.get_model_weights(name).DEFAULT.transforms().crop_size[0]
        size = 224 if name.startswith("vit") else default  # ViT's best weights are those of larger images
        check_image_size(ModelConfig(backbone=name), size)
        assert all(tensor.is_meta for tensor in (*network.parameters(), *network.buffers())), name
        tried += 1
    assert tried > 70
