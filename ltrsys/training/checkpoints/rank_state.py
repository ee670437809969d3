"""What a rank has for itself: BatchNorm's running statistics, their moving average where there is one, its random
generators, its losses not yet logged.

Running statistics of frozen parts are the same on all ranks, and belong to the network.
"""

from collections.abc import Mapping

import torch
import torch.distributed as dist
from torch import Tensor

from ltrsys.models.network import Network
from ltrsys.world import World

GENERATOR, GPU_GENERATOR, UNLOGGED_LOSS = "generator", "gpu_generator", "unlogged_loss"
BUFFERS, AVERAGE_BUFFERS = "buffers.", "average_buffers."


def gather_rank_state(
    network: Network, unlogged_loss: Tensor, world: World, average: Network | None = None
) -> dict[str, Tensor]:
    """Return the state of every rank by name, each stacked, [ranks, ...]. Called by all ranks together."""
    device = network.classifier.weight.device
    own = _buffers(network, average)
    own |= {GENERATOR: torch.get_rng_state(), UNLOGGED_LOSS: unlogged_loss}
    if device.type == "cuda":
        own[GPU_GENERATOR] = torch.cuda.get_rng_state(device)
    return {name: _gather(tensor.to(device), world) for name, tensor in own.items()}


def mean_buffers(ranks: Mapping[str, Tensor], prefix: str = BUFFERS) -> dict[str, Tensor]:
    """Return the buffers by their names in the network: the mean over the ranks; counters are every rank's.

    Args:
        ranks: Of `gather_rank_state`.
        prefix: `BUFFERS`, or `AVERAGE_BUFFERS` for those of the averaged network.
    """
    return {
        name.removeprefix(prefix): stacked.mean(dim=0) if stacked.is_floating_point() else stacked[0]
        for name, stacked in ranks.items()
        if name.startswith(prefix)
    }


@torch.no_grad()
def restore_rank_state(
    ranks: Mapping[str, Tensor], network: Network, world: World, average: Network | None = None
) -> Tensor:
    """Give this rank back what it had, where the number of ranks is the same; return its losses not yet logged.

    Other numbers of ranks keep the means that the networks were loaded with, and share the mean of the losses.
    """
    unlogged = ranks[UNLOGGED_LOSS]
    if len(unlogged) != world.world_size:
        return unlogged.mean()
    for name, buffer in _buffers(network, average).items():
        buffer.copy_(ranks[name][world.rank])
    torch.set_rng_state(ranks[GENERATOR][world.rank].clone())
    device = network.classifier.weight.device
    if device.type == "cuda" and GPU_GENERATOR in ranks:
        torch.cuda.set_rng_state(ranks[GPU_GENERATOR][world.rank].clone(), device)
    return unlogged[world.rank]


def _buffers(network: Network, average: Network | None) -> dict[str, Tensor]:
    own = {BUFFERS + name: buffer for name, buffer in network.trained_buffers()}
    averaged = () if average is None else average.trained_buffers()
    return own | {AVERAGE_BUFFERS + name: buffer for name, buffer in averaged}


def _gather(tensor: Tensor, world: World) -> Tensor:
    if world.world_size == 1:
        return tensor[None]
    parts = [torch.empty_like(tensor) for _ in range(world.world_size)]
    dist.all_gather(parts, tensor.contiguous())
    return torch.stack(parts)
