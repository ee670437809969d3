"""Classifier re-training (paper, section 4, cRT)."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from ltrsys.classifiers.base import ClassifierName
from ltrsys.classifiers.config import RetrainConfig
from ltrsys.classifiers.joint import LinearClassifier
from ltrsys.features.balanced_sgd import minimise, refuse_divergence
from ltrsys.features.bank import BankSplit


@dataclass(frozen=True)
class RetrainedClassifier(LinearClassifier):
    """A fresh linear classifier, trained with class-balanced sampling on the frozen features."""

    name: ClassVar[ClassifierName] = "crt"

    @classmethod
    def fit(cls, train: BankSplit, config: RetrainConfig, *, seed: int, device: torch.device) -> "RetrainedClassifier":
        """Start from torch's random weights of a linear layer and train them, and the bias if there is one.

        Raises:
            DataError: Where the training diverges.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            layer = torch.nn.Linear(train.num_features, train.num_classes, bias=config.bias)
        layer = layer.to(device)
        minimise(layer, list(layer.parameters()), train, config, seed=seed, device=device, description="cRT")
        refuse_divergence("crt", *layer.parameters())
        return cls(layer.weight.detach(), layer.bias.detach() if config.bias else None)

    def params(self) -> dict[str, Any]:
        """Return whether it has a bias."""
        return {"bias": self.bias_C is not None}
