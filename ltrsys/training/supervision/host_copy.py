"""Numbers on their way from a GPU to the host, which are read later without waiting for later work."""

import torch
from torch import Tensor


class HostCopy:
    """A copy of a small tensor that is being made while training goes on."""

    def __init__(self, values: Tensor) -> None:
        """Begin the copy of `values`, a tensor of any shape."""
        self._event: torch.cuda.Event | None = None
        if values.device.type != "cuda":
            self._values = values.detach().clone()
            return
        self._values = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
        self._values.copy_(values.detach(), non_blocking=True)
        self._event = torch.cuda.Event()
        self._event.record()

    def read(self) -> list[float]:
        """Return the values, waiting only for what came before the copy."""
        if self._event is not None:
            self._event.synchronize()
        return self._values.flatten().tolist()
