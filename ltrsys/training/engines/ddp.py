"""torch's DistributedDataParallel: the reference implementation for the DeepSpeed engine."""

from collections.abc import Mapping
from contextlib import nullcontext

import torch
from torch import Tensor

from ltrsys.models.network import Network
from ltrsys.training.config import TrainConfig
from ltrsys.training.engines.engine import (
    AUTOCAST_TYPE,
    ScalerState,
    average_gradients_of,
    clip_gradients,
)
from ltrsys.training.engines.optimizer_state import load_state_by_name, state_by_name
from ltrsys.training.engines.trained import Trained
from ltrsys.training.losses.base import Outputs
from ltrsys.training.objective import Mixed, Objective
from ltrsys.training.optimizers.base import set_learning_rates


class DDPEngine:
    """An `Engine` of nothing but torch."""

    def __init__(
        self,
        network: Network,
        trained: Trained,
        optimizer: torch.optim.Optimizer,
        config: TrainConfig,
        objective: Objective,
        *,
        accumulation: int,
    ) -> None:
        if config.in_channels_last:
            network.to(memory_format=torch.channels_last)
        self.network, self._optimizer, self._config, self._accumulation = network, optimizer, config, accumulation
        self.objective, self._trained = objective, trained
        self._replica = average_gradients_of(trained, compiled=config.compile)
        self._device_type = network.classifier.weight.device.type
        self._scaler = torch.amp.GradScaler(self._device_type, enabled=config.precision == "fp16")

    def accumulate(self, images: Tensor, labels: Tensor, *, last: bool, mixed: Mixed | None = None) -> Tensor:
        """See `Engine`."""
        dtype = AUTOCAST_TYPE.get(self._config.precision)
        with nullcontext() if last else self._replica.no_sync():
            with torch.autocast(self._device_type, dtype=dtype, enabled=dtype is not None):
                logits, features = self._replica(images)
            loss = self.objective(Outputs(logits.float(), features.float(), labels), mixed)
            self._scaler.scale(loss / self._accumulation).backward()
        return loss.detach()

    def step(self, lr_factor: float) -> None:
        """See `Engine`."""
        set_learning_rates(self._optimizer, lr_factor)
        if self._config.clip_grad_norm is not None:
            self._scaler.unscale_(self._optimizer)
            clip_gradients(self._trained, self._config.clip_grad_norm)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._optimizer.zero_grad()

    def optimizer_state(self) -> dict[str, Tensor]:
        """See `Engine`."""
        return state_by_name(self._optimizer, self._trained)

    def load_optimizer_state(self, state: Mapping[str, Tensor]) -> None:
        """See `Engine`."""
        load_state_by_name(self._optimizer, self._trained, state)

    def scaler_state(self) -> ScalerState:
        """See `Engine`."""
        return self._scaler.state_dict()

    def load_scaler_state(self, state: ScalerState) -> None:
        """See `Engine`."""
        if state:
            self._scaler.load_state_dict(state)

    def close(self) -> None:
        """See `Engine`."""
