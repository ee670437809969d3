"""What OLTR's memory begins with: the class means and the classifier of the run that training starts from."""

import torch

from ltrsys.classifiers.joint import Joint
from ltrsys.config.reading import load_run_config
from ltrsys.config.schema import Config
from ltrsys.data.index.dataset import Dataset
from ltrsys.errors import UsageError
from ltrsys.first_stage.initial_means import initial_class_means
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

    Does nothing for another head, and for one that comes with its memory from that run. What attention adds is zero at
    the beginning, so that the class means are also the network's own.

    Raises:
        DataError: On every rank, where an image cannot be read or features are not finite; for a damaged file.
    """
    path = config.train.from_run
    if not isinstance(network.classifier, OLTRMemoryHead) or path is None or not config.train.reset_classifier:
        return
    run = RunFolder(path)
    stage_1 = Joint.of_model(run.model, device)
    assert stage_1.bias_C is not None, "`check_memory` has seen to it"
    means_CD = initial_class_means(network, config, dataset, world, device)
    network.classifier.begin(means_CD, stage_1.weight_CD, stage_1.bias_C)
