"""Ranks that share work on features: they only wait for one another and average buffers, so gloo joins them."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch.distributed

from ltrsys.world import World


@contextmanager
def joined(world: World, timeout: timedelta) -> Iterator[None]:
    """Join the ranks, if there are several; one that waits longer than `timeout` for the others fails."""
    if world.world_size == 1:
        yield
        return
    torch.distributed.init_process_group("gloo", timeout=timeout)
    try:
        yield
    finally:
        torch.distributed.destroy_process_group()


def barrier(world: World) -> None:
    """Wait for all ranks."""
    if world.world_size > 1:
        torch.distributed.barrier()
