"""How many images go through the network at once: as many as the memory of the GPU holds."""

import logging
from collections.abc import Callable, Iterable

import torch
import torch.distributed as dist
from torch import Tensor

from ltrsys.data.config import DataConfig
from ltrsys.data.plan.batching import Batching, part_of_a_rank
from ltrsys.errors import LtrsysError
from ltrsys.models.network import Network
from ltrsys.training.config import TrainConfig
from ltrsys.training.engines.engine import AUTOCAST_TYPE
from ltrsys.training.engines.trained import Trained
from ltrsys.training.losses.base import Outputs
from ltrsys.training.objective import Objective
from ltrsys.world import World

SPARE = 0.05
"""Part of the GPU's memory that is left free: a step that just fits once may not fit into memory that is in pieces."""

log = logging.getLogger("ltrsys")


def memory_advice(batching: Batching) -> str:
    """Say what to do where the memory of the GPU does not hold a micro-batch."""
    part = part_of_a_rank(batching.batch_size, batching.world)
    sizes = range(1, batching.micro_batch_size // 2 + 1)
    smaller = max((size for size in sizes if part % size == 0), default=None)
    if smaller is None:
        return "Take a smaller network or smaller images."
    return (
        f"Give train.micro_batch_size={smaller}, or auto, which finds the largest that fits: the batch stays as it is, "
        "and BatchNorm sees groups of that size."
    )


def largest_micro_batch_size(
    network: Network, train: TrainConfig, data: DataConfig, world: World, objective: Objective
) -> int:
    """Return what `train.micro_batch_size: auto` stands for, the same on all ranks.

    Args:
        network: On its device; it is left as it was.
        train: Batch, precision, layout and optimizer.
        data: The images' size, and batches made ahead.
        world: The ranks, all of which call this.
        objective: What will be minimised.

    Raises:
        UsageError: Where the batch does not split evenly over the ranks.
        LtrsysError: Where not even one image fits.
    """
    part = part_of_a_rank(train.batch_size, world)
    found = largest_that_fits(part, lambda size: _fits(network, train, data, objective, size))
    lowest = torch.full((), found, device=network.classifier.weight.device)
    dist.all_reduce(lowest, dist.ReduceOp.MIN)
    size = int(lowest)
    if not size:
        raise LtrsysError(
            "train.micro_batch_size=auto: the memory of a GPU does not hold one image. Take a smaller network."
        )
    times = "once a step" if size == part else f"{part // size} times a step"
    if world.is_main:
        log.info("train.micro_batch_size=auto: %d images at once, %s.", size, times)
    return size


def largest_that_fits(part: int, fits: Callable[[int], bool]) -> int:
    """Return `part`, or its half, its quarter, ... down to the last whole number, that fits; 0 where none does."""
    size = part
    while not fits(size):
        if size % 2:
            return 0
        size //= 2
    return size


def _fits(network: Network, train: TrainConfig, data: DataConfig, objective: Objective, size: int) -> bool:
    """Try a forward and backward pass of `size` images, with room for the optimizer's state and the batches to come."""
    device, trained = network.classifier.weight.device, Trained(network, objective)
    buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
    training = network.training
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            network.train()
            _pass(trained, train, data, objective, size)
        needed = torch.cuda.max_memory_reserved(device) if device.type == "cuda" else 0
    except torch.OutOfMemoryError:
        return False
    finally:
        trained.zero_grad(set_to_none=True)
        network.train(training)
        with torch.no_grad():
            for name, buffer in network.named_buffers():
                buffer.copy_(buffers[name])
        if device.type == "cuda":
            torch.cuda.empty_cache()
    if device.type != "cuda":
        return True
    learned = (parameter for parameter in trained.parameters() if parameter.requires_grad)
    state = train.optimizer.state_copies * _bytes_of(learned)
    if train.ema_decay is not None:
        state += _bytes_of(network.state_dict().values())
    batches = 4 * 3 * data.image_size**2 * size * (data.prefetch + 2)
    free, total = torch.cuda.mem_get_info(device)
    return needed + state + batches <= free + torch.cuda.memory_reserved(device) - SPARE * total


def _bytes_of(tensors: Iterable[Tensor]) -> int:
    return sum(one.numel() * one.element_size() for one in tensors)


def _pass(trained: Trained, train: TrainConfig, data: DataConfig, objective: Objective, size: int) -> None:
    device, side = trained.classifier.weight.device, data.image_size
    dtype = AUTOCAST_TYPE.get(train.precision)
    layout = torch.channels_last if train.in_channels_last else torch.contiguous_format
    images = torch.zeros(size, 3, side, side, device=device).contiguous(memory_format=layout)
    labels = torch.zeros(size, dtype=torch.int64, device=device)
    with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
        logits, features = trained(images)
    objective(Outputs(logits.float(), features.float(), labels)).backward()
