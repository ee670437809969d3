"""Training a fresh linear layer on the bank: what cRT and its kin share.

C classes, D features, B images of a batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ltrsys.classifiers.base import FitContext
from ltrsys.features.config import RetrainConfig

if TYPE_CHECKING:
    from torch import Tensor

    from ltrsys.features.balanced_sgd import RowOrder


def train_fresh_linear(
    context: FitContext,
    config: RetrainConfig,
    *,
    section: str,
    description: str,
    order: RowOrder | None = None,
    prior_C: Tensor | None = None,
    after_step: Callable[[Tensor], None] | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Start from torch's random weights of a linear layer; return weights [C, D] and bias [C] once they are trained.

    Args:
        context: What it is fitted on.
        config: How it is trained, and whether it has a bias.
        section: The part of `balance` that `config` is, for messages.
        description: For the progress bar.
        order: How often each image is drawn; class-balanced if not given.
        prior_C: Added to the logits in training alone.
        after_step: Called with the weights after every step.

    Raises:
        DataError: Where the training diverges.
    """
    import torch
    from torch import nn

    from ltrsys.features.balanced_sgd import balanced_order, minimise, refuse_divergence

    train = context.train
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(context.seed)
        layer = nn.Linear(train.num_features, train.num_classes, bias=config.bias)
    layer = layer.to(context.device)

    def logits(features_BD: Tensor) -> Tensor:
        logits_BC: Tensor = layer(features_BD)
        return logits_BC if prior_C is None else logits_BC + prior_C

    minimise(
        logits,
        list(layer.parameters()),
        train,
        config,
        seed=context.seed,
        device=context.device,
        description=description,
        order=order or balanced_order,
        after_step=None if after_step is None else lambda: after_step(layer.weight.detach()),
    )
    refuse_divergence(section, *layer.parameters())
    return layer.weight.detach(), layer.bias.detach() if config.bias else None
