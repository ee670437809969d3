"""What makes the logits of features: a linear layer, or one that compares directions alone.

B samples, D features, C classes.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from ltrsys.models.config import HeadName
from ltrsys.models.memory import Memory

INITIAL_SCALE = 10.0
"""The learned scale of a cosine head at the start (Gidaris and Komodakis, 2018)."""
OLTR_SCALE = 16.0


class CosineHead(nn.Module):
    """Logits s·cos(w, x) with a learned s (Gidaris & Komodakis, 2018, section 3.2). State dict: weight, scale."""

    def __init__(self, feature_dim: int, num_classes: int) -> None:
        super().__init__()
        self.weight = _random_weight(feature_dim, num_classes)
        # of one dimension: what DeepSpeed keeps of a parameter of none is taken for a number that all parameters share
        self.scale = nn.Parameter(torch.full((1,), INITIAL_SCALE))

    def fix_scale(self, scale: float) -> None:
        """Set s, which is then not learned any more."""
        with torch.no_grad():
            self.scale.fill_(scale)
        self.scale.requires_grad_(False)

    @torch.no_grad()
    def begin(self, means_CD: Tensor, has_images_C: Tensor) -> None:
        """Take the directions of the class means for weights, of length 1; other classes keep theirs."""
        self.weight.copy_(torch.where(has_images_C[:, None], functional.normalize(means_CD), self.weight))

    def forward(self, features_BD: Tensor) -> Tensor:
        """Return the logits, [B, C]."""
        return cosine_logits(features_BD, self.weight, self.scale)


class OLTRCosineHead(nn.Module):
    """Logits 16·|x|/(1+|x|)·cos(w, x) (Liu et al., 2019, in their code `CosNorm_Classifier`). State dict: weight."""

    def __init__(self, feature_dim: int, num_classes: int) -> None:
        super().__init__()
        self.weight = _random_weight(feature_dim, num_classes)

    def forward(self, features_BD: Tensor) -> Tensor:
        """Return the logits, [B, C]."""
        return oltr_logits(features_BD, self.weight)


class OLTRMemoryHead(OLTRCosineHead):
    """The same logits of features that the memory has added to (Liu et al., 2019, section 3.3).

    State dict: weight, centroids, hallucinator.*, selector.*. The head reads the centroids and gives them no gradient:
    a loss learns them (`ltrsys.training.losses.base.LossContext.centroids`).
    """

    def __init__(self, feature_dim: int, num_classes: int) -> None:
        super().__init__(feature_dim, num_classes)
        self.hallucinator = nn.Linear(feature_dim, num_classes)
        self.selector = nn.Linear(feature_dim, feature_dim)
        self.centroids = nn.Parameter(torch.zeros(num_classes, feature_dim))

    @torch.no_grad()
    def begin(self, centroids_CD: Tensor, weight_CD: Tensor, bias_C: Tensor) -> None:
        """Take the class means of stage 1 for centroids, and its classifier for the hallucinator."""
        self.centroids.copy_(centroids_CD)
        self.hallucinator.weight.copy_(weight_CD)
        self.hallucinator.bias.copy_(bias_C)

    @property
    def memory(self) -> Memory:
        """The centroids as they are now, without a gradient, and the layers that read them."""
        return Memory(
            self.centroids.detach(),
            self.hallucinator.weight,
            self.hallucinator.bias,
            self.selector.weight,
            self.selector.bias,
        )

    def forward(self, features_BD: Tensor) -> Tensor:
        """Return the logits, [B, C]."""
        return super().forward(self.memory.recall(features_BD))


class NoHead(nn.Module):
    """Ends the network in its features: `model.head=none`. State dict: empty."""

    weight: Tensor
    """[0, D]."""

    def __init__(self, feature_dim: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(0, feature_dim), persistent=False)

    def forward(self, features_BD: Tensor) -> Tensor:
        """Return the features."""
        return features_BD


Head = nn.Linear | CosineHead | OLTRCosineHead | OLTRMemoryHead | NoHead
"""Features [B, D] -> logits [B, C]; each has a `weight`, [C, D], C being 0 where there is no head."""


def build_head(name: HeadName, feature_dim: int, num_classes: int) -> Head:
    """Build the head that `model.head` names, with random weights from torch's global generator."""
    if name == "none":
        return NoHead(feature_dim)
    kinds: dict[HeadName, type[nn.Linear | CosineHead | OLTRCosineHead]] = {
        "linear": nn.Linear,
        "cosine": CosineHead,
        "oltr_cosine": OLTRCosineHead,
        "oltr_memory": OLTRMemoryHead,
    }
    return kinds[name](feature_dim, num_classes)


def cosine_logits(features_BD: Tensor, weight_CD: Tensor, scale: Tensor) -> Tensor:
    """Return s·cos(w, x), [B, C]; under autocast the norms are float32, and the product is of autocast's type."""
    return scale * functional.linear(functional.normalize(features_BD), functional.normalize(weight_CD))


def oltr_logits(features_BD: Tensor, weight_CD: Tensor) -> Tensor:
    """Return 16·|x|/(1+|x|)·cos(w, x), [B, C]; the first two factors together are x/(1+|x|)."""
    squashed_BD = features_BD / (1 + features_BD.norm(dim=1, keepdim=True))
    return OLTR_SCALE * functional.linear(squashed_BD, functional.normalize(weight_CD))


def _random_weight(feature_dim: int, num_classes: int) -> nn.Parameter:
    """Draw the weights as those of a linear layer are."""
    return nn.Parameter(nn.Linear(feature_dim, num_classes, bias=False).weight.detach())
