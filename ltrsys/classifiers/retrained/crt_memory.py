"""Classifier re-training with OLTR's memory (paper, appendix B.4 and Figure 5: "cRT with memory")."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from ltrsys.classifiers.base import CLASSIFIERS, Classifier, FitContext, SelectedOn
from ltrsys.features.config import RetrainConfig
from ltrsys.section import Count

if TYPE_CHECKING:
    from torch import Tensor

    from ltrsys.models.memory import Memory


class CRTMemoryConfig(RetrainConfig):
    """Classifier re-training with OLTR's memory."""

    epochs: Count = 10


@CLASSIFIERS.register
@dataclass(frozen=True)
class RetrainedMemory(Classifier[CRTMemoryConfig]):
    """OLTR's head of frozen features: a memory of the class means, and cosine logits of what it makes of a feature.

    The centroids stay the class means. OLTR's centroid loss draws them to the features of their class, which do not
    move here: its attracting part is least at their mean.
    """

    name = "crt_memory"
    summary = "OLTR's memory and cosine classifier, trained with class-balanced sampling"
    source = "Kang et al., 2020, appendix B.4; Liu et al., 2019, section 3.3"
    order = 70
    label, color, marker = "cRT+mem", "#8C564B", "X"
    calibration_folds = 1
    trained_as_softmax = True
    Config = CRTMemoryConfig
    uses_joint = True
    depends_on_seed = True
    has_weight_norms = False
    needs_linear_head = "its hallucinator begins as the joint classifier, a linear layer"

    weight_CD: Tensor
    """Class directions, of length 1 once it is fitted."""
    memory: Memory

    @classmethod
    def fit(cls, context: FitContext, config: CRTMemoryConfig) -> Self:
        """Measure the class means; train directions and selector from torch's random weights, the hallucinator from
        the joint classifier.

        Raises:
            DataError: Where the training diverges.
        """
        import torch
        from torch.nn import functional

        from ltrsys.features.balanced_sgd import minimise, refuse_divergence
        from ltrsys.features.class_means import means_of_bank
        from ltrsys.models.memory import Memory

        train, joint, device = context.train, context.joint(), context.device
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(context.seed)
            weight_CD = torch.nn.Linear(train.num_features, train.num_classes, bias=False).weight
            selector = torch.nn.Linear(train.num_features, train.num_features)
        bias_C = torch.zeros(train.num_classes) if joint.bias_C is None else joint.bias_C
        begun = [joint.weight_CD, bias_C, selector.weight, selector.bias, weight_CD]
        learned = [tensor.detach().clone().to(device).requires_grad_() for tensor in begun]
        memory = Memory(means_of_bank(train, device), *learned[:4])
        head = cls(learned[4], memory)
        minimise(head.scores, learned, train, config, seed=context.seed, device=device, description=cls.label)
        refuse_divergence(cls.name, *learned)
        fitted = {name: tensor.detach() for name, tensor in memory.tensors().items()}
        return cls(functional.normalize(head.weight_CD.detach(), dim=1), Memory.of(fitted))

    def scores(self, features_ND: Tensor) -> Tensor:
        """Return the logits, [N, C]."""
        from ltrsys.models.heads import oltr_logits

        return oltr_logits(self.memory.recall(features_ND), self.weight_CD)

    def tensors(self) -> dict[str, Tensor]:
        """Return directions and memory."""
        return {"weight": self.weight_CD} | self.memory.tensors()

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor], params: Mapping[str, Any], selected_on: SelectedOn | None) -> Self:
        """Make it from directions and memory."""
        from ltrsys.models.memory import Memory

        return cls(tensors["weight"], Memory.of(tensors))
