"""What every loss of the first stage is: its settings, and the functions that they and the class counts give.

B samples, C classes, D features.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from ltrsys.method_section import MethodSection
from ltrsys.models.config import HeadName
from ltrsys.registry import Registry

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import Tensor, nn


@dataclass(frozen=True)
class Outputs:
    """What the network makes of a micro-batch, and what it should be."""

    logits_BC: Tensor
    """float32, whatever the precision of the network."""
    features_BD: Tensor
    """float32: what the classifier is given."""
    labels_B: Tensor
    """Class ids, int64."""


LossFunction = Callable[[Outputs], "Tensor"]
"""The loss of each sample, float32 [B]. One with learned parameters is an `nn.Module`."""

BatchTerm = Callable[[Outputs], "Tensor"]
"""What belongs to the micro-batch and to none of its samples, float32 []."""


@dataclass(frozen=True)
class LossContext:
    """What a loss may depend on beside its own settings."""

    class_counts: NDArray[np.int64]
    """Training images of each class, int64 [C]; there may be classes of none, which are never a label."""
    label_smoothing: float
    """`train.label_smoothing`."""
    device: torch.device
    """Where the logits will be."""
    num_features: int
    """D."""
    centroids: nn.Parameter | None = None
    """The memory of `model.head=oltr_memory`, [C, D]: a loss with `learns_centroids` is to give it a gradient in every
    micro-batch. It is a parameter of the network, which trains and saves it: no module of the loss may register it."""

    def tensor(self, values: NDArray[np.float64]) -> Tensor:
        """Return `values` on the device, in torch's default type, float32."""
        import torch

        return torch.from_numpy(values).to(self.device, torch.get_default_dtype())


class Loss(MethodSection):
    """What the first stage minimises: the section `train.loss`."""

    smooths_labels: ClassVar[bool] = True
    """Whether it heeds `train.label_smoothing`; a config that gives both is refused where it does not."""
    has_batch_term: ClassVar[bool] = False
    """Whether `build_batch_term` returns one: it asks for labels that mixup does not have."""
    needs_head: ClassVar[HeadName | None] = None
    """The `model.head` that it is made for."""
    learns_centroids: ClassVar[bool] = False
    """Whether it learns `LossContext.centroids`, which `model.head=oltr_memory` asks for."""
    needs_several_of_a_class: ClassVar[bool] = False
    """Whether a micro-batch must hold several images of a class: that takes a sampler that draws them together."""

    reweight: Literal["none", "effective_number"] = "none"
    """`effective_number` multiplies the loss of a sample by (1-beta)/(1-beta^n) for the n training images of its class,
    scaled to a mean of 1 over the classes that have images (Cui et al., 2019, section 4). The weighted losses are
    averaged over the samples, not divided by the sum of their weights: so the size of a micro-batch does not matter."""
    beta: Annotated[float, Field(ge=0, lt=1)] = 0.9999
    """Of `reweight`: 0 weighs all classes alike; near 1, a class weighs 1/n."""
    from_epoch: Annotated[int, Field(ge=0)] = 0
    """The first epoch, counted from 0, in which `reweight` holds: deferred re-weighting (DRW; Cao et al., 2019)."""

    @abstractmethod
    def build(self, context: LossContext) -> LossFunction:
        """Return the loss of each sample.

        It is called in every micro-batch, and must not wait for a GPU: tensors that it needs are made here. Where it
        has parameters to learn, return an `nn.Module`: they are trained and saved with the network, and each must have
        a part in the loss of every micro-batch. Random numbers come from torch's global generator, which is the same on
        every rank.
        """

    def build_mean(self, loss: LossFunction) -> LossFunction:
        """Return the mean over the samples, [], where all weigh the same; `loss` is what `build` returned."""
        return lambda outputs: loss(outputs).mean()

    def build_batch_term(self, context: LossContext) -> BatchTerm | None:
        """Return what is added to the mean over the samples; None for nothing."""
        return None

    @property
    def parameter_lr(self) -> float | None:
        """The learning rate of what it learns, before the schedule; None for that of the classifier."""
        return None

    @property
    def power_left_out(self) -> float:
        """The a for which the logits leave out log n_j^a, which is added to them while training; 0 for none."""
        return 0.0

    @property
    def fixed_scale(self) -> float | None:
        """The scale of a cosine head, where the loss sets it; None where it is learned."""
        return None

    def class_weights(self, class_counts: NDArray[np.int64]) -> NDArray[np.float64] | None:
        """Return the weight of each class, float64 [C], 0 for one of no image; None where all weigh the same."""
        if self.reweight == "none":
            return None
        present = class_counts > 0
        weights = np.zeros(len(class_counts))
        weights[present] = (1 - self.beta) / (1 - self.beta ** class_counts[present].astype(np.float64))
        return weights / weights[present].mean()

    @model_validator(mode="after")
    def _defers_something(self) -> Loss:
        if self.from_epoch and self.reweight == "none":
            raise ValueError(
                f"from_epoch={self.from_epoch} has nothing to begin: give train.loss.reweight=effective_number too"
            )
        return self


LOSSES: Registry[type[Loss]] = Registry("loss", "ltrsys.training.losses")
