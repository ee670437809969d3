"""What a head begins with that is neither random nor read from a file."""

import torch

from ltrsys.config.schema import Config
from ltrsys.data.index.dataset import Dataset
from ltrsys.first_stage.initial_means import initial_class_means
from ltrsys.first_stage.memory import begin_memory
from ltrsys.models.heads import CosineHead
from ltrsys.models.network import Network
from ltrsys.world import World


def begin_head(network: Network, config: Config, dataset: Dataset, world: World, device: torch.device) -> None:
    """Give OLTR's memory what it begins with, and a cosine head what `train.head_start` says.

    All ranks call this together, before the first step of a run. With `class_means`, the network begins as the
    classifier by the nearest class mean in cosine similarity. LIFT (Shi et al., 2024) begins so, with the means of
    images or, for CLIP, the embeddings of texts about each class.

    Raises:
        DataError: On every rank, where an image cannot be read or features are not finite; for a damaged file.
    """
    begin_memory(network, config, dataset, world, device)
    if config.train.head_start == "random":
        return
    assert isinstance(network.classifier, CosineHead), "the config asks for it"
    means_CD = initial_class_means(network, config, dataset, world, device)
    has_images_C = torch.from_numpy(dataset.split("train").class_counts > 0).to(device)
    network.classifier.begin(means_CD, has_images_C)
