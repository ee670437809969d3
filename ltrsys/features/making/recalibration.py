"""BatchNorm statistics measured again on a class-balanced pass.

The paper's code leaves BatchNorm in train mode while it retrains the classifier, so that the running
statistics of its "frozen" backbone drift to the class-balanced stream. This measures where they drift to.
"""

import torch
import torch.distributed
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ltrsys.data.index.dataset import Dataset
from ltrsys.data.loading.loader import TrainLoader
from ltrsys.data.plan.batching import Batching
from ltrsys.data.plan.planner import Planner
from ltrsys.data.plan.samplers.powers import ClassBalanced
from ltrsys.data.reading.quarantine import Quarantine
from ltrsys.errors import DataError
from ltrsys.features.config import Featured
from ltrsys.models.stored.weights import load_tensors, save_tensors
from ltrsys.progress import track
from ltrsys.runs.folder import RunFolder
from ltrsys.world import World

FILE = "batch_norm.safetensors"
"""In the run's feature bank."""


def recalibrate(
    backbone: nn.Module, config: Featured, dataset: Dataset, run: RunFolder, *, world: World, device: torch.device
) -> None:
    """Replace the BatchNorm statistics of `backbone` by averages over one class-balanced epoch of train.

    Each micro-batch counts alike, whichever rank runs it; an incomplete last step is left out. The statistics
    are kept beside the run's features, since the model's own file does not hold them.
    """
    split = dataset.split("train")
    planner = Planner(
        split, ClassBalanced(), seed=config.seed, num_epochs=1, lanes=config.data.lanes,
        shuffle_window=config.data.shuffle_window,
    )  # fmt: skip
    size = min(config.balance.feature_batch_size, planner.samples_per_epoch // world.world_size)
    batching = Batching(size * world.world_size, size, world, config.data.lanes)
    norms = [module for module in backbone.modules() if isinstance(module, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over the batches
        norm.train()
    loader = TrainLoader(
        split,
        # the images of its only epoch are of the full size, and meet a network without autocast
        config.data.model_copy(update={"progressive": None, "pixels": "float32"}),
        planner=planner,
        batching=batching,
        seed=config.seed,
        device=device,
        channels_last=config.train.in_channels_last,
        quarantine=Quarantine.of(split, config.data, run.quarantine),
    )
    steps = batching.steps_per_epoch(planner.samples_per_epoch)
    with torch.no_grad():
        for batch in track(loader.epoch(0), "BatchNorm statistics", steps, shown=world.is_main):
            backbone(batch.images)
    loader.close()
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()
    if world.world_size > 1:
        _average_over_ranks(norms, world)
    if world.is_main:
        save_tensors(_statistics(backbone), run.features / FILE)


def restore(backbone: nn.Module, run: RunFolder) -> None:
    """Give `backbone` the statistics that the run's features so far were made with.

    Raises:
        DataError: Where they are missing, damaged or of another network.
    """
    path = run.features / FILE
    kept = load_tensors(path) if path.exists() else {}
    wanted = _statistics(backbone)
    if {name: value.shape for name, value in kept.items()} != {name: value.shape for name, value in wanted.items()}:
        raise DataError(
            f"{path}: these are not the BatchNorm statistics of the run's network. Delete {run.features}: the feature "
            "bank is then made anew."
        )
    backbone.load_state_dict(kept, strict=False)


def _statistics(backbone: nn.Module) -> dict[str, Tensor]:
    return {name: value for name, value in backbone.state_dict().items() if "running_" in name}


def _average_over_ranks(norms: list[_BatchNorm], world: World) -> None:
    for norm in norms:
        for statistic in (norm.running_mean, norm.running_var):
            assert statistic is not None
            total = statistic.cpu()
            torch.distributed.all_reduce(total)
            statistic.copy_(total / world.world_size)
