"""What runs forward, backward and step: the interface of the engines, and what they share."""

import warnings
from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from ltrsys.models.network import Network
from ltrsys.training.engines.trained import Trained
from ltrsys.training.objective import Mixed, Objective

AUTOCAST_TYPE = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""The type of the matrix products, by the config's name for it; float32 needs no autocast."""

ScalerState = dict[str, int | float]
"""State of fp16's loss scaling: `scale` and `_growth_tracker` among it; empty for other precisions."""


class Engine(Protocol):
    """Trains `network` on this rank together with the others."""

    network: Network
    """The weights, not wrapped: what is evaluated and saved."""
    objective: Objective
    """What is minimised; what its loss has learned is saved too."""

    def accumulate(self, images: Tensor, labels: Tensor, *, last: bool, mixed: Mixed | None = None) -> Tensor:
        """Add the gradient of one micro-batch; return what was minimised, detached.

        Args:
            images: Normalised, [B, 3, H, W].
            labels: Class ids, int64 [B].
            last: Whether it is the step's last micro-batch: gradients are then averaged over the ranks.
            mixed: What was mixed into the images, if anything was.
        """
        ...

    def step(self, lr_factor: float) -> None:
        """Update the weights with the accumulated gradients, at the configured learning rates times `lr_factor`."""
        ...

    def optimizer_state(self) -> dict[str, Tensor]:
        """Return the optimizer's state as `<parameter>.<what>`; empty before the first step. Called by all ranks."""
        ...

    def load_optimizer_state(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `optimizer_state` returned, on any number of ranks and from either engine."""
        ...

    def scaler_state(self) -> ScalerState:
        """Return the state of fp16's loss scaling."""
        ...

    def load_scaler_state(self, state: ScalerState) -> None:
        """Take over what `scaler_state` returned."""
        ...

    def close(self) -> None:
        """Give up hooks and buffers."""
        ...


def average_gradients_of(trained: Trained, *, compiled: bool) -> DistributedDataParallel:
    """Wrap `trained` so that backward averages its gradients over the ranks while it still runs.

    Buffers are left alone: they are averaged before every evaluation and save.

    Args:
        trained: On its device.
        compiled: Whether to compile the wrapper. Compiled inside of it, it would hand over all its gradients
            at the end of backward; torch cuts the compiled wrapper where a bucket of them is complete.
    """
    device = trained.classifier.weight.device
    with warnings.catch_warnings():
        # torch 2.14 renames the argument; the releases before it know only this name.
        warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
        replica = DistributedDataParallel(
            trained,
            device_ids=[device.index] if device.type == "cuda" else None,
            broadcast_buffers=False,
            gradient_as_bucket_view=True,
        )
    if compiled:
        replica.compile()
    return replica


def clip_gradients(trained: Trained, max_norm: float) -> None:
    """Scale the gradients, averaged over the ranks already, so that the norm of all together is `max_norm` at most.

    No GPU is waited for: gradients that are not finite stay so.
    """
    torch.nn.utils.clip_grad_norm_(trained.parameters(), max_norm)
