"""How images and weights lie in memory, where a GPU's speed decides it: `train.channels_last: auto`."""

import logging
import math
import time
from collections.abc import Callable
from copy import deepcopy

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.functional import cross_entropy

from ltrsys.data.config import DataConfig
from ltrsys.models.network import Network
from ltrsys.training.config import TrainConfig
from ltrsys.training.engines.engine import AUTOCAST_TYPE
from ltrsys.world import World

TIMED_ON = frozenset({"cuda"})
"""Types of the devices on which both layouts are timed; on others `auto` is channels_last."""
TURNS = 2
"""How often each layout is timed; its shortest time counts, since other work can only lengthen one."""
WARM_UP, STEPS = 3, 5
"""Steps of a turn before the clock is read, in which cuDNN tries its algorithms, and steps that are timed."""

log = logging.getLogger("ltrsys")


def faster_in_channels_last(
    network: Network,
    train: TrainConfig,
    data: DataConfig,
    world: World,
    size: int,
    *,
    device: torch.device,
    clock: Callable[[], float] = time.perf_counter,
) -> bool:
    """Return whether steps are faster in channels_last, the same on all ranks: the first one times both layouts.

    A copy of the network is timed, and given up afterwards: the network, its BatchNorm statistics and the state of the
    random generators are left as they are. At most one copy is there at a time.

    Args:
        network: On the device, in torch's usual layout.
        train: The precision.
        data: The images' size.
        world: The ranks, all of which call this.
        size: Images of a micro-batch.
        device: Of this rank.
        clock: Gives seconds.
    """
    chosen = torch.zeros((), dtype=torch.int64, device=device)
    if world.is_main:
        last, usual = _seconds_of_both(network, train, data, size, device, clock)
        chosen.fill_(int(last <= usual))
        log.info(
            "train.channels_last=auto: %s, since %d images forward and backward take %s in channels_last and %s in "
            "torch's usual layout.",
            "true" if last <= usual else "false",
            size,
            _told(last),
            _told(usual),
        )
    dist.broadcast(chosen, src=0)
    return bool(chosen)


def _seconds_of_both(
    network: Network, train: TrainConfig, data: DataConfig, size: int, device: torch.device, clock: Callable[[], float]
) -> tuple[float, float]:
    """Return the seconds of a step in channels_last and in the usual layout; infinite where memory does not do."""
    on_gpu = device.type == "cuda"
    shape = (size, 3, data.image_size, data.image_size)
    seconds: dict[torch.memory_format, list[float]] = {torch.channels_last: [], torch.contiguous_format: []}
    with torch.random.fork_rng(devices=[device] if on_gpu else []):
        for layout in list(seconds) * TURNS:
            seconds[layout].append(_seconds_of_a_turn(network, layout, shape, train, device, clock))
            if on_gpu:
                torch.cuda.empty_cache()
    last, usual = (math.inf if math.inf in turns else min(turns) for turns in seconds.values())
    return last, usual


def _seconds_of_a_turn(
    network: Network,
    layout: torch.memory_format,
    shape: tuple[int, int, int, int],
    train: TrainConfig,
    device: torch.device,
    clock: Callable[[], float],
) -> float:
    try:
        # A copy for each turn: converted back, kernels of 1 x 1 would keep the strides of channels_last, which cuDNN
        # goes by.
        copy = deepcopy(network).train().to(memory_format=layout)
        images = torch.randn(shape, device=device).contiguous(memory_format=layout)
        return _seconds_of_a_step(copy, images, train, device, clock)
    except torch.OutOfMemoryError:
        return math.inf


def _seconds_of_a_step(
    network: Network, images: Tensor, train: TrainConfig, device: torch.device, clock: Callable[[], float]
) -> float:
    dtype = AUTOCAST_TYPE.get(train.precision)
    labels = torch.zeros(len(images), dtype=torch.int64, device=device)
    start = 0.0
    for step in range(WARM_UP + STEPS):
        if step == WARM_UP:
            start = _time(device, clock)
        with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
            logits = network(images)
        cross_entropy(logits.float(), labels).backward()
        network.zero_grad(set_to_none=True)
    return (_time(device, clock) - start) / STEPS


def _time(device: torch.device, clock: Callable[[], float]) -> float:
    """Read the clock once the device has done all that it has been given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return clock()


def _told(seconds: float) -> str:
    return f"{1000 * seconds:.1f} ms" if math.isfinite(seconds) else "more memory than there is"
