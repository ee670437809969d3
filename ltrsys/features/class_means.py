"""The mean feature of each class: of a bank, or of images that a backbone sees now.

C classes, D features.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ltrsys.data.index.dataset import Split
from ltrsys.data.reading.quarantine import Quarantine
from ltrsys.errors import DataError, LtrsysError
from ltrsys.features.bank import BankSplit
from ltrsys.features.config import Featured
from ltrsys.features.making.extraction import images_of_bank
from ltrsys.kernels import ClassSums
from ltrsys.progress import Advance, progress, track
from ltrsys.training.supervision.failures import first_failure
from ltrsys.world import World


def sums_of_bank(train: BankSplit, device: torch.device, advance: Advance, **options: Any) -> ClassSums:
    """Sum the features of each class over the whole split; `options` are those of `ClassSums`."""
    most_rows = int(train.class_counts.max())
    sums = ClassSums(train.num_classes, train.num_features, num_rows=most_rows, device=device, **options)
    for features_ND, labels_N in train.blocks(device):
        sums.add(features_ND, labels_N)
        advance(len(labels_N))
    return sums


def largest_of_bank(train: BankSplit, device: torch.device, advance: Advance) -> float:
    """Return the largest magnitude of any feature of the split."""
    largest = 0.0
    for features_ND, labels_N in train.blocks(device):
        low, high = torch.aminmax(features_ND)
        largest = max(largest, -float(low), float(high))
        advance(len(labels_N))
    return largest


def means_of_bank(train: BankSplit, device: torch.device) -> Tensor:
    """Return the class means, float32 [C, D], zero for a class of no image; the same bits for any size of block."""
    with progress("class means", 2 * len(train)) as advance:
        largest = largest_of_bank(train, device, advance)
        return sums_of_bank(train, device, advance, largest=largest).means().float()


def means_of_images(
    backbone: nn.Module,
    feature_dim: int,
    split: Split,
    config: Featured,
    *,
    world: World,
    device: torch.device,
    quarantine: Quarantine | None = None,
) -> Tensor:
    """Return the class means of a split, float32 [C, D], zero for a class of no image; all ranks call this together.

    Images are seen in their evaluation view, and BatchNorm has its running statistics: what a bank would hold is
    averaged, without keeping it. With a quarantine, another image of its class stands for a bad one.

    Args:
        backbone: On the device, the same on every rank; it is left in the mode that it was in.
        feature_dim: D.
        split: The images.
        config: How they are read.
        world: The ranks, which share the images out.
        device: Where the backbone is.
        quarantine: Of the run.

    Raises:
        DataError: On every rank, where one met an image that it could not read, or features that are not finite.
    """
    num_classes = len(split.class_counts)
    sums_CD = torch.zeros(num_classes, feature_dim, dtype=torch.float64, device=device)
    counts_C = torch.zeros(num_classes, dtype=torch.float64, device=device)
    training, failure = backbone.training, None
    backbone.eval()
    loader = images_of_bank(split, config, world=world, device=device, quarantine=quarantine)
    try:
        with torch.inference_mode():
            for batch in track(loader, "class means", len(loader), shown=world.is_main):
                sums_CD.index_add_(0, batch.labels, backbone(batch.images).double())
                counts_C.index_add_(0, batch.labels, torch.ones_like(batch.labels, dtype=torch.float64))
    except LtrsysError as error:
        failure = error  # told below by all ranks: the others would wait for this one
    finally:
        loader.close()
        backbone.train(training)
    dist.all_reduce(sums_CD)
    dist.all_reduce(counts_C)
    if int(counts_C.sum()) != len(split):
        raise DataError(first_failure(world, device, failure))
    means_CD = (sums_CD / counts_C.clamp_min(1)[:, None]).float()
    if not torch.isfinite(means_CD).all():
        raise DataError(
            f"{split.folder}: the backbone gives NaN or infinite features for these images; look at the loss of the "
            "training that it comes from."
        )
    return means_CD
