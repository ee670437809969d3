"""BatchNorm over several ranks: synchronised statistics, or averages of each rank's own."""

import torch
import torch.distributed as dist
from torch import nn

from ltrsys.errors import UsageError
from ltrsys.models.network import Network
from ltrsys.world import World


def synchronise_batch_norm(network: Network, device: torch.device) -> Network:
    """Replace every BatchNorm by one that takes its statistics over all ranks at every step.

    Raises:
        UsageError: On a CPU, whose tensors torch's SyncBatchNorm refuses.
    """
    if device.type != "cuda":
        raise UsageError("train.batch_norm: `sync` needs GPUs, and this is a CPU. Use `average`.")
    return nn.SyncBatchNorm.convert_sync_batchnorm(network)


@torch.no_grad()
def average_buffers(network: Network, world: World) -> None:
    """Replace the floating-point buffers, BatchNorm's running statistics, by their mean over the ranks.

    Those of frozen parts are one on all ranks, and are left alone: their mean would be rounded.
    """
    buffers = [buffer for _, buffer in network.trained_buffers() if buffer.is_floating_point()]
    if world.world_size == 1 or not buffers:
        return
    flat = torch.cat([buffer.reshape(-1) for buffer in buffers])
    dist.all_reduce(flat)
    flat /= world.world_size
    for buffer, mean in zip(buffers, flat.split([buffer.numel() for buffer in buffers]), strict=True):
        buffer.copy_(mean.view_as(buffer))
