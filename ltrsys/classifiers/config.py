"""The sections of the classifiers."""

from typing import Annotated, Literal

from pydantic import Field

from ltrsys.config.section import Count, Fraction, Positive, Section


class NCMConfig(Section):
    """Nearest class mean."""

    feature: Literal["plain", "l2n", "cl2n"] = "cl2n"
    """Features as they are, L2-normalised, or centred by the training mean and then L2-normalised."""
    distance: Literal["euclidean", "cosine"] = "euclidean"


class RetrainConfig(Section):
    """Training a classifier on the feature bank with class-balanced sampling (cRT, LWS, learned tau)."""

    epochs: Count
    lr: Positive = 0.2
    batch_size: Count = 512
    momentum: Fraction = 0.9
    weight_decay: Annotated[float, Field(ge=0)] = 5e-4
    bias: bool = True
    """cRT: whether the new classifier has a bias. LWS: whether the scale multiplies the bias too."""


class TauConfig(Section):
    """tau-normalisation (paper, equation 3)."""

    grid: list[float] = Field(default=[round(0.1 * step, 1) for step in range(21)], min_length=1)
    select_on: Literal["auto", "val", "train", "learned"] = "auto"
    """Best accuracy on val; best mean class accuracy on train (paper, B.5); or learned by gradient descent.
    `auto` is val where there is a val split, else train."""
    learned: RetrainConfig = RetrainConfig(epochs=5, lr=0.1, weight_decay=0.0)
