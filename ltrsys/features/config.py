"""The settings of training on the feature bank, which several classifiers have."""

from typing import Annotated

from pydantic import Field

from ltrsys.config.section import Count, Fraction, Positive, Section


class RetrainConfig(Section):
    """Training on the feature bank with class-balanced sampling (cRT, LWS, learned tau)."""

    epochs: Count
    lr: Positive = 0.2
    batch_size: Count = 512
    momentum: Fraction = 0.9
    weight_decay: Annotated[float, Field(ge=0)] = 5e-4
    bias: bool = True
    """cRT: whether the new classifier has a bias. LWS: whether the scale multiplies the bias too."""
