"""What OLTR's memory begins with: the class means and the classifier of the run that training starts from.

C classes, D features.
"""

import torch
import torch.distributed as dist
from torch import Tensor

from ltrsys.classifiers.joint import Joint
from ltrsys.config.reading import load_run_config
from ltrsys.config.schema import Config
from ltrsys.data.index.dataset import Dataset
from ltrsys.data.reading.quarantine import Quarantine
from ltrsys.errors import UsageError
from ltrsys.features.bank import BankIdentity, FeatureBank
from ltrsys.features.class_means import means_of_bank, means_of_images
from ltrsys.models.heads import OLTRMemoryHead
from ltrsys.models.network import Network
from ltrsys.runs.folder import RunFolder
from ltrsys.world import World


def check_memory(config: Config) -> None:
    """Refuse `model.head=oltr_memory` where there is nothing that the memory could begin with.

    Raises:
        UsageError: Names the keys.
    """
    if config.model.head != "oltr_memory":
        return
    if config.train.from_run is None:
        raise UsageError(
            "model.head=oltr_memory begins with the class means and the classifier of another run: give it as "
            "train.from_run, with train.reset_classifier=true."
        )
    theirs = load_run_config(RunFolder(config.train.from_run)).model.head
    if config.train.reset_classifier and theirs != "linear":
        raise UsageError(
            f"train.from_run={config.train.from_run}: the memory of model.head=oltr_memory begins with a linear "
            f"classifier, and that run has model.head={theirs}. Give a run with model.head=linear."
        )


def begin_memory(network: Network, config: Config, dataset: Dataset, world: World, device: torch.device) -> None:
    """Fill the memory of a network whose backbone is that of `train.from_run`; all ranks call this together.

    Does nothing for another head, and for one that comes with its memory from that run. The class means are those of
    the run's feature bank, if it has one of these images and this transform, and are else measured: the backbone sees
    every training image once. What attention adds is zero at the beginning, so that they are also the network's own.

    Raises:
        DataError: On every rank, where an image cannot be read or features are not finite; for a damaged file.
    """
    path = config.train.from_run
    if not isinstance(network.classifier, OLTRMemoryHead) or path is None or not config.train.reset_classifier:
        return
    run = RunFolder(path)
    stage_1 = Joint.of_model(run.model, device)
    assert stage_1.bias_C is not None, "`check_memory` has seen to it"
    from_bank = torch.zeros((), dtype=torch.int64, device=device)
    means_CD = torch.zeros_like(network.classifier.centroids)
    if world.is_main and (found_CD := _means_of_run(run, config, dataset, device)) is not None:
        from_bank += 1
        means_CD = found_CD
    dist.broadcast(from_bank, src=0)  # what the first rank finds, another node may not see yet
    if from_bank:
        dist.broadcast(means_CD, src=0)
    else:
        split = dataset.split("train")
        means_CD = means_of_images(
            network.backbone,
            network.feature_dim,
            split,
            config,
            world=world,
            device=device,
            quarantine=Quarantine.of(split, config.data, RunFolder(config.run_folder).quarantine),
        )
    network.classifier.begin(means_CD, stage_1.weight_CD, stage_1.bias_C)


def _means_of_run(run: RunFolder, config: Config, dataset: Dataset, device: torch.device) -> Tensor | None:
    """Return the class means of the run's bank; None where it has none that holds what would be measured now."""
    if config.balance.bn != "eval" or not (run.features / "bank.json").exists():
        return None
    bank = FeatureBank.open(run.features)
    if "train" not in bank.complete or bank.identity.difference(BankIdentity.of(run, config, dataset)):
        return None
    return means_of_bank(bank.split("train"), device)
