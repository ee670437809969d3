"""A config takes size and normalisation of its images from the library of its network, unless told otherwise."""

from ltrsys.config.reading import config_of, load_config, save_config
from ltrsys.data.config import IMAGENET_MEAN


def config(backbone: str, **data: object):
    return config_of({"name": "run", "data": {"shards": "shards", **data}, "model": {"backbone": backbone}})


def test_images_are_prepared_as_the_network_was_trained():
    taken = config("timm/tf_efficientnet_lite0")
    assert (taken.data.image_size, taken.data.resize) == (224, 256)
    assert taken.data.mean == taken.data.std == [0.5, 0.5, 0.5]
    assert taken.data.interpolation == "bicubic"


def test_what_the_config_says_stays():
    taken = config("timm/vit_tiny_patch16_224", image_size=64, mean=[0.1, 0.2, 0.3])
    assert taken.data.mean == [0.1, 0.2, 0.3]
    assert taken.data.std == [0.5, 0.5, 0.5]
    assert (taken.data.image_size, taken.data.resize) == (64, 71)
    assert taken.model.input_size == 64


def test_networks_that_are_named_without_a_library_keep_the_paper_s_images():
    taken = config("resnet50")
    assert (taken.data.image_size, taken.data.resize, taken.data.mean) == (224, 256, IMAGENET_MEAN)
    assert taken.data.interpolation == "bilinear"


def test_a_saved_config_is_read_back_as_it_was(tmp_path):
    taken = config("timm/vit_tiny_patch16_224", image_size=64)
    save_config(taken, tmp_path / "config.yaml")
    assert load_config(tmp_path / "config.yaml") == taken
