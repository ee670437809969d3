"""Accuracy on a split: every image counted once, whatever the number of ranks."""

from collections.abc import Iterable

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from ltrsys.data.loading.loader import Batch
from ltrsys.errors import DataError, LtrsysError
from ltrsys.models.network import Network
from ltrsys.training.config import TrainConfig
from ltrsys.training.engines.engine import AUTOCAST_TYPE
from ltrsys.training.supervision.failures import first_failure
from ltrsys.world import World


@torch.no_grad()
def predict_split(
    network: Network, batches: Iterable[Batch], num_samples: int, config: TrainConfig
) -> NDArray[np.int64]:
    """Return the predicted class of every image of a split, int64 [num_samples], on every rank.

    Args:
        network: In either mode; it is left as it was.
        batches: This rank's part of the split; together, the ranks' parts hold each image once.
        num_samples: Images of the split.
        config: For the precision.

    Raises:
        DataError: On every rank, where one met an image that it could not read.
    """
    device = network.classifier.weight.device
    dtype = AUTOCAST_TYPE.get(config.precision)
    # One column counts how often an image was seen, the other adds up its predictions; zero elsewhere.
    seen_and_class = torch.zeros(num_samples, 2, dtype=torch.int64, device=device)
    training = network.training
    network.eval()
    failure = None
    try:
        for batch in batches:
            with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
                logits: Tensor = network(batch.images)
            classes = logits.argmax(dim=1)
            rows = torch.stack((torch.ones_like(classes), classes), dim=1)
            seen_and_class.index_add_(0, batch.samples.to(device), rows)
    except LtrsysError as error:
        failure = error  # told below by all ranks: the others would wait for this one
    network.train(training)
    dist.all_reduce(seen_and_class)
    seen, predictions = seen_and_class.cpu().numpy().T
    if (seen == 0).any():
        world = World(dist.get_rank(), dist.get_world_size())
        raise DataError(first_failure(world, device, failure))
    assert (seen == 1).all(), "an image was evaluated by no rank, or by two"
    return predictions
