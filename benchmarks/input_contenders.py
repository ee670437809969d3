"""Four ways to the same batches: random resized crop, flip, normalised float32 [B, 3, 224, 224]."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import webdataset
from nvidia.dali import Pipeline, fn
from nvidia.dali.types import DALIDataType
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, RandomSampler
from torchvision import transforms
from torchvision.transforms import v2

from ltrsys.data.config import IMAGENET_MEAN, IMAGENET_STD, AugmentationConfig, DataConfig
from ltrsys.data.index.dataset import Split
from ltrsys.data.loading.loader import TrainLoader
from ltrsys.data.plan.batching import Batching
from ltrsys.data.plan.planner import Planner
from ltrsys.data.plan.samplers.base import Sampler
from ltrsys.world import World

IMAGE_SIZE = 224
LANES = 12
CROP_AND_FLIP = AugmentationConfig()


def ours(
    split: Split,
    shards: Path,
    *,
    sampler: Sampler,
    batch_size: int,
    threads: int,
    augmentation: AugmentationConfig = CROP_AND_FLIP,
) -> Iterator[Tensor]:
    """Plan, reader and DALI."""
    config = DataConfig(shards=shards, image_size=IMAGE_SIZE, threads=threads, lanes=LANES, augmentation=augmentation)
    planner = Planner(split, sampler, seed=0, num_epochs=1000, lanes=LANES)
    batching = Batching(batch_size, batch_size, World(), LANES)
    loader = TrainLoader(split, config, planner=planner, batching=batching, seed=0, device=torch.device("cpu"))
    for epoch in range(1000):
        for batch in loader.epoch(epoch):
            yield batch.images


def dali_reader(shards: list[Path], *, batch_size: int, threads: int) -> Iterator[Tensor]:
    """DALI's own webdataset reader, with its own random crops."""
    pipeline: Any = Pipeline(batch_size=batch_size, num_threads=threads, device_id=None, prefetch_queue_depth=2, seed=0)
    with pipeline:
        read: Any = fn.readers.webdataset(
            paths=[str(shard) for shard in shards], ext=["jpg", "cls"], random_shuffle=True, initial_fill=1024
        )
        encoded, labels = read
        pixels: Any = fn.decoders.image_random_crop(
            encoded, device="cpu", random_area=[0.08, 1.0], random_aspect_ratio=[3 / 4, 4 / 3], num_attempts=10
        )
        pixels = fn.resize(pixels, size=[IMAGE_SIZE, IMAGE_SIZE], antialias=True)
        images = fn.crop_mirror_normalize(
            pixels,
            mirror=fn.random.coin_flip(),
            mean=[255 * mean for mean in IMAGENET_MEAN],
            std=[255 * std for std in IMAGENET_STD],
            dtype=DALIDataType.FLOAT,
            output_layout="CHW",
        )
        pipeline.set_outputs(images, labels)
    pipeline.build()
    while True:
        yield torch.from_dlpack(pipeline.run()[0].as_tensor())


def torch_loader(split: Split, *, batch_size: int, workers: int, rand_augment: bool = False) -> Iterator[Tensor]:
    """PIL and torchvision in torch's DataLoader, which finds the images in the shards by our index."""
    data = _Images(split, _transform(rand_augment=rand_augment))
    endless = RandomSampler(data, replacement=True, num_samples=2**40)
    for images, _ in DataLoader(data, batch_size, sampler=endless, num_workers=workers):
        yield images


def webdataset_loader(shards: list[Path], *, batch_size: int, workers: int) -> Iterator[Tensor]:
    """PIL and torchvision in webdataset's WebLoader."""
    data = (
        webdataset.WebDataset([str(shard) for shard in shards], resampled=True, shardshuffle=False)
        .shuffle(1000)
        .decode("pil")
        .to_tuple("jpg", "cls")
        .map_tuple(_transform(), int)
        .batched(batch_size)
    )
    for images, _ in webdataset.WebLoader(data, batch_size=None, num_workers=workers):
        yield images


class _Images(torch.utils.data.Dataset[tuple[Tensor, int]]):
    def __init__(self, split: Split, transform: transforms.Compose) -> None:
        self.split, self.transform = split, transform

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, sample: int) -> tuple[Tensor, int]:
        with open(self.split.shard_path(int(self.split.shard[sample])), "rb") as shard:
            shard.seek(int(self.split.offset[sample]))
            image = Image.open(io.BytesIO(shard.read(int(self.split.size[sample])))).convert("RGB")
        return self.transform(image), int(self.split.label[sample])


def _transform(*, rand_augment: bool = False) -> transforms.Compose:
    return transforms.Compose(
        [
            transforms.RandomResizedCrop(IMAGE_SIZE),
            transforms.RandomHorizontalFlip(),
            *([v2.RandAugment()] if rand_augment else []),
            transforms.ToTensor(),
            transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )
