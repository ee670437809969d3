"""The class means that a training begins with: the mean feature of each class, by the backbone as it starts.

C classes, D features.
"""

import torch
import torch.distributed as dist
from torch import Tensor

from ltrsys.config.schema import Config
from ltrsys.data.index.dataset import Dataset
from ltrsys.data.reading.quarantine import Quarantine
from ltrsys.features.bank import BankIdentity, FeatureBank
from ltrsys.features.class_means import means_of_bank, means_of_images
from ltrsys.models.network import Network
from ltrsys.runs.folder import RunFolder
from ltrsys.world import World


def initial_class_means(
    network: Network, config: Config, dataset: Dataset, world: World, device: torch.device
) -> Tensor:
    """Return the class means, float32 [C, D], zero for a class of no image; all ranks call this together.

    They are those of the feature bank of `train.from_run`, if it has one of these images and this transform, and are
    else measured: the backbone sees every training image once, each rank its share of them.

    Raises:
        DataError: On every rank, where an image cannot be read or features are not finite; for a damaged file.
    """
    from_bank = torch.zeros((), dtype=torch.int64, device=device)
    means_CD = torch.zeros(dataset.num_classes, network.feature_dim, device=device)
    if world.is_main and (found_CD := _means_of_first_run(config, dataset, device)) is not None:
        from_bank += 1
        means_CD = found_CD
    dist.broadcast(from_bank, src=0)  # what the first rank finds, another node may not see yet
    if from_bank:
        dist.broadcast(means_CD, src=0)
        return means_CD
    split = dataset.split("train")
    return means_of_images(
        network.backbone,
        network.feature_dim,
        split,
        config,
        world=world,
        device=device,
        quarantine=Quarantine.of(split, config.data, RunFolder(config.run_folder).quarantine),
    )


def _means_of_first_run(config: Config, dataset: Dataset, device: torch.device) -> Tensor | None:
    """Return the class means of that run's bank; None where it has none that holds what would be measured now."""
    if config.train.from_run is None:
        return None
    run = RunFolder(config.train.from_run)
    if config.balance.bn != "eval" or not (run.features / "bank.json").exists():
        return None
    bank = FeatureBank.open(run.features)
    if "train" not in bank.complete or bank.identity.difference(BankIdentity.of(run, config, dataset)):
        return None
    return means_of_bank(bank.split("train"), device)
