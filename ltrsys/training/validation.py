"""Accuracy on a split: every image counted once, whatever the number of ranks."""

from collections.abc import Iterable

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from ltrsys.config import TrainConfig
from ltrsys.data.loader import Batch
from ltrsys.models.network import Network
from ltrsys.training.engine import AUTOCAST_TYPE


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
    """
    device = network.classifier.weight.device
    dtype = AUTOCAST_TYPE.get(config.precision)
    # One column counts how often an image was seen, the other adds up its predictions; zero elsewhere.
    seen_and_class = torch.zeros(num_samples, 2, dtype=torch.int64, device=device)
    training = network.training
    network.eval()
    for batch in batches:
        with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
            logits: Tensor = network(batch.images)
        classes = logits.argmax(dim=1)
        seen_and_class.index_add_(0, batch.samples.to(device), torch.stack((torch.ones_like(classes), classes), dim=1))
    network.train(training)
    dist.all_reduce(seen_and_class)
    seen, predictions = seen_and_class.cpu().numpy().T
    assert (seen == 1).all(), "an image was evaluated by no rank, or by two"
    return predictions
