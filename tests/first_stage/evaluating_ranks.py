"""One rank of an evaluation of iNaturalist's size, on tiny images."""

import io
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from ltrsys.config.schema import Config
from ltrsys.data.index.dataset import Dataset
from ltrsys.data.loading.loader import EvaluationLoader
from ltrsys.features.making.extraction import write_features
from ltrsys.models.network import Network
from ltrsys.training.supervision.process_group import process_group
from ltrsys.training.validation import predict_split
from ltrsys.world import World
from tests.first_stage.ranks import become_rank

NUM_CLASSES, SIDE = 8142, 8
TEST_IMAGES = 3 * NUM_CLASSES
"""24,426, as many as iNaturalist 2018 is reported on: three a class."""

NOISE = 70.0
"""Grey levels by which an image differs from the colours of its class: some are taken for another class."""


@cache
def class_colours() -> NDArray[np.int64]:
    """Return the grey levels of each class: four squares of three colours, int64 [C, 4, 3]."""
    return np.random.default_rng(0).integers(0, 256, (NUM_CLASSES, 4, 3))


def pixels_of(squares: NDArray[np.generic]) -> NDArray[np.generic]:
    """Return the pixels [..., 8, 8, 3] of four squares [..., 4, 3]."""
    corners = squares.reshape(*squares.shape[:-2], 2, 2, 3)
    return corners.repeat(SIDE // 2, axis=-3).repeat(SIDE // 2, axis=-2)


def read_image(name: str) -> bytes:
    """Return the JPEG of an image by its class and number: the colours of its class, and noise."""
    label, number = map(int, name.split("-"))
    noise = NOISE * np.random.default_rng((label, number)).uniform(-1, 1, (4, 3))
    encoded = io.BytesIO()
    pixels = pixels_of(class_colours()[label] + noise).clip(0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(encoded, "JPEG", subsampling=0)
    return encoded.getvalue()


class Levels(nn.Module):
    """A backbone whose features are the grey levels, halved to whole numbers: [B, 3, 8, 8] -> [B, 192]."""

    def forward(self, images: Tensor) -> Tensor:
        return (images * 255).round().flatten(1).div(2, rounding_mode="floor")


def nearest_colours() -> Network:
    """Return the network that finds the class of the nearest colours.

    All its scores are halves of whole numbers below 2**22, so float32 has them exactly, whatever a batch's size.
    """
    levels = torch.from_numpy(pixels_of(class_colours()) // 2).permute(0, 3, 1, 2).flatten(1).float()
    network = Network(Levels(), levels.shape[1], NUM_CLASSES)
    with torch.no_grad():
        network.classifier.weight.copy_(levels)
        network.classifier.bias.copy_(-levels.square().sum(dim=1) / 2)
    return network


def evaluate_rank(rank: int, world_size: int, port: int, config: Config, results: Path) -> None:
    """Be a rank that predicts the test split and writes its features, as training and balancing do."""
    become_rank(rank, world_size, port)
    world, network = World.detect(), nearest_colours()
    split = Dataset.open(config.data.shards).split("test")
    with process_group(world, timeout_seconds=120) as device:
        loader = EvaluationLoader(split, config.data, batch_size=250, world=world, device=device)
        predictions = predict_split(network, loader, len(split), config.train)
        loader.close()
        np.save(results / f"predictions-{rank}.npy", predictions)
        paths = {"last": results / "features.npy"}
        write_features(network.backbone, split, paths, config, world=world, device=device)
