"""The same pixels from the GPU's decoder: for the first machine that has one."""

import numpy as np
import pytest
import torch

from ltrsys.data.config import AugmentationConfig, DataConfig
from ltrsys.data.loading.augmentation import evaluation_augmentation, training_augmentation
from ltrsys.data.loading.pipeline import ImagePipeline
from tests.data.reference import evaluation_image, photographs, sizes, training_image

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="DALI's mixed decoder needs a GPU, and there is none"),
]

JITTER = AugmentationConfig(brightness=0.4, contrast=0.4, saturation=0.4)
CONFIG = DataConfig(shards=".", threads=2, mean=[0.0, 0.0, 0.0], std=[1 / 255] * 3)


@pytest.fixture
def batch():
    encoded = photographs()
    return encoded, *sizes(encoded)


@pytest.mark.parametrize("config", [AugmentationConfig(), JITTER], ids=["plain", "jitter"])
def test_training_pixels_on_a_gpu_are_those_of_pil_and_torchvision(batch, config):
    encoded, width, height = batch
    data = CONFIG.model_copy(update={"augmentation": config})
    pipeline = ImagePipeline(data, batch_size=len(encoded), device=torch.device("cuda"), training=True)
    done = training_augmentation(
        config, seed=1, epoch=0, positions=np.arange(len(encoded)), width=width, height=height, image_size=224
    )
    pipeline.feed(encoded, done)
    images = pipeline.take()
    assert images.device.type == "cuda"
    for number, image in enumerate(images.cpu().numpy()):
        assert abs(image - training_image(encoded[number], done, number, 224)).mean() < 1
    pipeline.close()


def test_evaluation_pixels_on_a_gpu_are_those_of_pil_and_torchvision(batch):
    encoded, width, height = batch
    pipeline = ImagePipeline(CONFIG, batch_size=len(encoded), device=torch.device("cuda"))
    pipeline.feed(encoded, evaluation_augmentation(width, height, resize=256, image_size=224))
    for image, one in zip(pipeline.take().cpu().numpy(), encoded, strict=True):
        assert abs(image - evaluation_image(one, 256, 224)).mean() < 1
    pipeline.close()


def test_a_batch_on_a_gpu_stays_as_it_was_while_others_are_made(batch):
    encoded, width, height = batch
    pipeline = ImagePipeline(CONFIG, batch_size=len(encoded), device=torch.device("cuda"))
    done = evaluation_augmentation(width, height, resize=256, image_size=224)
    pipeline.feed(encoded, done)
    kept = pipeline.take()
    copy = kept.clone()
    for _ in range(5):
        pipeline.feed(encoded[::-1], evaluation_augmentation(width[::-1], height[::-1], resize=256, image_size=224))
        pipeline.take()
    assert torch.equal(kept, copy)
    pipeline.close()
