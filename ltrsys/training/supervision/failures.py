"""What one rank knows to be wrong with the data, told by all."""

import torch
import torch.distributed as dist

from ltrsys.world import World

_BYTES = 2048


def first_failure(world: World, device: torch.device, own: Exception | None) -> str:
    """Return the message of the first rank that has one; every rank calls this. Empty where none has."""
    message = str(own or "").encode()[:_BYTES]
    told = torch.zeros(world.world_size, _BYTES, dtype=torch.int32, device=device)
    told[world.rank, : len(message)] = torch.tensor(list(message), dtype=torch.int32, device=device)  # noqa: TID251
    dist.all_reduce(told)
    for row in told.cpu().numpy().astype("uint8"):
        if text := row.tobytes().rstrip(b"\0").decode(errors="ignore"):
            return text
    return ""
