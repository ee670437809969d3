"""The exponential moving average of a network's weights, which is evaluated and saved in their place.

BatchNorm's running statistics are averaged as the weights are: those of the weights that are trained belong to other
activations. Each rank averages its own, as it keeps its own; their mean over the ranks is the average of the mean.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from ltrsys.errors import LtrsysError
from ltrsys.models.network import Network
from ltrsys.training.config import TrainConfig


class AverageNotFinite(LtrsysError):
    """A number of the averaged weights is NaN or infinite."""


class WeightAverage:
    """θ' = d θ' + (1-d) θ after every step, by timm's ModelEmaV3.

    After step t, d is `train.ema_decay`, or 1 - t^(-2/3) where that is smaller: else a short training would end with
    about what it began with.
    """

    def __init__(self, network: Network, decay: float, config: TrainConfig, rank: int) -> None:
        """Begin with a copy of the network, on its device.

        Args:
            network: With the weights that training begins with.
            decay: `train.ema_decay`.
            config: The layout, and the learning rate for the advice.
            rank: Of this process, for the message.
        """
        from timm.utils import ModelEmaV3  # seconds, which runs without it save

        self._average = ModelEmaV3(network, decay=decay, use_warmup=True).requires_grad_(False)
        self._config, self._rank = config, rank
        if config.in_channels_last:
            self.network.to(memory_format=torch.channels_last)

    @property
    def network(self) -> Network:
        """The averaged network, in evaluation."""
        network: Network = self._average.module
        return network

    def update(self, network: Network, step: int) -> None:
        """Take in the weights and the buffers after a step, counted from 1; no GPU is waited for."""
        self._average.update(network, step)

    def state(self) -> dict[str, Tensor]:
        """Return the averaged weights and this rank's averaged buffers, by their names in the network."""
        return dict(self.network.state_dict())

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state` returned."""
        self.network.load_state_dict(dict(state))

    def check(self, step: int) -> None:
        """Look for what is not finite, which stays so once it is there; waits for the device.

        Raises:
            AverageNotFinite: Names the first such tensor.
        """
        tensors = {name: one for name, one in self.network.state_dict().items() if one.is_floating_point()}
        finite = torch.stack([one.isfinite().all() for one in tensors.values()]).tolist()
        for name, is_finite in zip(tensors, finite, strict=True):
            if not is_finite:
                raise AverageNotFinite(
                    f"step {step}: the averaged weights of train.ema_decay are not finite on rank {self._rank}, "
                    f"`{name}` among them. Lower train.optimizer.lr (it is {self._config.optimizer.lr}), add "
                    "train.schedule.warmup_epochs, or give train.clip_grad_norm; the last checkpoint stays."
                )


def average_of(network: Network, config: TrainConfig, rank: int) -> WeightAverage | None:
    """Return the average that the config asks for, or None; called before an engine wraps the network."""
    return None if config.ema_decay is None else WeightAverage(network, config.ema_decay, config, rank)
