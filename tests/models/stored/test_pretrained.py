import pytest
import skimage.data
import sklearn.datasets
import torch
from PIL import Image
from safetensors.torch import save_file

from ltrsys.config.reading import config_of
from ltrsys.errors import DataError, UsageError
from ltrsys.models.config import ModelConfig
from ltrsys.models.network import Network, build_network
from ltrsys.models.stored.pretrained import load_pretrained
from ltrsys.models.stored.weights import save_network
from ltrsys.prediction.images.batches import BatchReader
from ltrsys.prediction.images.collections import InMemory
from tests.models.pretrained_weights import BACKBONE, WEIGHTS

pytestmark = pytest.mark.usefixtures("one_thread")

PHOTOGRAPHS = {
    "chelsea": {281, 282, 285},  # tabby, tiger cat, Egyptian cat
    "coffee": {967},  # espresso
    "rocket": {657},  # missile
    "china": {698},  # palace
    "flower": {985},  # daisy
}
"""Photographs that scikit-image and scikit-learn ship, and what ImageNet calls what is on them."""


def photograph(name: str) -> Image.Image:
    if name in ("china", "flower"):
        return Image.fromarray(sklearn.datasets.load_sample_image(f"{name}.jpg"))
    return Image.fromarray(getattr(skimage.data, name)())


def loaded(**settings: object) -> Network:
    config = ModelConfig(**settings)
    network = build_network(config, 3)
    load_pretrained(network, config)
    return network.eval()


def refusal(**settings: object) -> str:
    with pytest.raises((DataError, UsageError)) as refused:
        loaded(**settings)
    return str(refused.value)


def test_efficientnet_lite0_names_what_is_on_photographs():
    model = {"backbone": BACKBONE, "pretrained": str(WEIGHTS), "pretrained_by_order": True}
    config = config_of({"name": "photographs", "data": {"shards": "none", "threads": 1}, "model": model})
    network = build_network(config.model, 2).eval()
    load_pretrained(network, config.model)
    original = torch.load(WEIGHTS, weights_only=True)
    given = InMemory([photograph(name) for name in PHOTOGRAPHS])
    with (
        torch.inference_mode(),
        BatchReader(config.data, reduced_to=None, batch_size=len(given), device=torch.device("cpu")) as reader,
    ):
        (batch,) = reader.batches(given, range(len(given)))
        logits = network.backbone(batch.pixels) @ original["_fc.weight"].T + original["_fc.bias"]
    named = dict(zip(PHOTOGRAPHS, logits.argmax(dim=1).tolist(), strict=True))
    assert {name: found in PHOTOGRAPHS[name] for name, found in named.items()} == dict.fromkeys(PHOTOGRAPHS, True)


def test_a_file_in_the_same_order_under_other_names_is_taken_by_order_as_its_refusal_says():
    settings = {"backbone": BACKBONE, "pretrained": str(WEIGHTS)}
    message = refusal(**settings)
    assert "missing: conv_stem.weight" in message
    assert "superfluous: _conv_stem.weight" in message
    assert message.endswith("give model.pretrained_by_order=true.")
    network = loaded(**settings, pretrained_by_order=True)
    original = torch.load(WEIGHTS, weights_only=True)
    assert torch.equal(network.backbone.conv_stem.weight, original["_conv_stem.weight"])
    assert torch.equal(network.backbone.bn2.running_var, original["_bn1.running_var"])


def test_a_file_that_is_not_in_the_same_order_is_refused_at_the_first_place_that_differs():
    message = refusal(backbone="timm/tf_efficientnet_lite1", pretrained=str(WEIGHTS), pretrained_by_order=True)
    assert "in place 61 of the network stands blocks.1.2.conv_dw.weight [144, 1, 3, 3]" in message
    assert "of the file _blocks.3._depthwise_conv.weight [144, 1, 5, 5]" in message


@pytest.mark.long
def test_weights_of_another_network_say_of_which(tmp_path):
    other = build_network(ModelConfig(backbone="timm/resnet26"), 3)
    save_file(other.backbone.state_dict(), tmp_path / "weights.safetensors")
    message = refusal(backbone="timm/resnet18", pretrained=str(tmp_path / "weights.safetensors"))
    assert "of another shape: layer1.0.conv1.weight [64, 64, 1, 1] instead of [64, 64, 3, 3]" in message
    assert message.endswith("They are those of model.backbone=timm/resnet26.")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_what_training_programs_and_runs_of_ltrsys_save_is_taken(tmp_path, suffix):
    source = build_network(ModelConfig(backbone="timm/resnet18"), 5)
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        whole = {f"module.{name}": value for name, value in source.backbone.state_dict().items()}
        whole |= {"module.fc.weight": source.classifier.weight, "module.fc.bias": source.classifier.bias}
        torch.save({"epoch": 3, "state_dict": whole}, path)
    else:
        save_network(source, path)
    network = loaded(backbone="timm/resnet18", pretrained=str(path))
    for name, tensor in source.backbone.state_dict().items():
        assert torch.equal(network.backbone.state_dict()[name], tensor), name


def test_positions_of_a_transformer_are_interpolated_to_the_size_of_its_images(tmp_path):
    source = build_network(ModelConfig(backbone="timm/vit_tiny_patch16_224"), 3)
    torch.nn.init.normal_(source.backbone.pos_embed)
    path = tmp_path / "vit.safetensors"
    save_network(source, path)
    network = loaded(backbone="timm/vit_tiny_patch16_224", pretrained=str(path), input_size=64)
    assert network.backbone.pos_embed.shape == (1, 1 + 4 * 4, 192)
    assert torch.equal(network.backbone.pos_embed[:, 0], source.backbone.pos_embed[:, 0])
    assert network(torch.zeros(2, 3, 64, 64)).shape == (2, 3)


@pytest.mark.long
def test_the_image_tower_of_a_whole_open_clip_model_is_taken_as_bioclip_s_file_holds_it(tmp_path):
    import open_clip

    whole = open_clip.create_model("ViT-B-32", pretrained=None)
    path = tmp_path / "open_clip_model.safetensors"
    save_file(whole.state_dict(), path)
    network = loaded(backbone="open_clip/ViT-B-32", pretrained=str(path))
    images = torch.randn(1, 3, 224, 224)
    with torch.inference_mode():
        assert torch.equal(network.backbone(images), whole.eval().encode_image(images))


def test_a_pickle_is_never_read(tmp_path):
    class Payload:
        def __reduce__(self):
            return (tmp_path / "called").mkdir, ()

    torch.save({"state_dict": {}, "more": Payload()}, tmp_path / "weights.pth")
    assert "which is not called" in refusal(backbone="timm/resnet18", pretrained=str(tmp_path / "weights.pth"))
    assert not (tmp_path / "called").exists()
