"""What the feature bank depends on, and the settings of training on it, which several classifiers have."""

from typing import Annotated, Literal, Protocol

from pydantic import Field

from ltrsys.data.config import DataConfig
from ltrsys.models.config import ModelConfig, Precision, Views, size_of_views
from ltrsys.section import Count, Fraction, Positive, Section
from ltrsys.training.config import TrainConfig

FeatureKind = Literal["last", "no_relu"]
"""Features as the network's own head gets them, or the same without the last ReLU, which comes before pooling."""


class RetrainConfig(Section):
    """Training on the feature bank with class-balanced sampling (cRT, LWS, learned tau)."""

    epochs: Count
    lr: Positive = 0.2
    batch_size: Count = 512
    momentum: Fraction = 0.9
    weight_decay: Annotated[float, Field(ge=0)] = 5e-4
    bias: bool = True
    """cRT: whether the new classifier has a bias. LWS: whether the scale multiplies the bias too."""


class BankConfig(Section):
    """The feature bank."""

    views: Views = "one"
    """What the features of an image are the mean over: its centre; that and its mirror image; or five crops of the
    central square of `data.resize`, the corners and the centre. So many times as long takes the bank, and predicting
    by it."""
    precision: Precision = "float32"
    """The type in which the network multiplies. Features are float32 on disk all the same; in bf16 they have three
    decimal digits, and a processor with instructions for it makes them in half of the time."""


class BankSettings(Protocol):
    """What is read of the section `balance`."""

    @property
    def bn(self) -> Literal["eval", "recalibrate"]:
        """BatchNorm's statistics."""
        ...

    @property
    def feature_batch_size(self) -> int:
        """Images at once."""
        ...


class Featured(Protocol):
    """What is read of an experiment's config while its features are made."""

    @property
    def seed(self) -> int:
        """For the pass that measures BatchNorm's statistics again."""
        ...

    @property
    def data(self) -> DataConfig:
        """How images are read and decoded."""
        ...

    @property
    def model(self) -> ModelConfig:
        """The network."""
        ...

    @property
    def train(self) -> TrainConfig:
        """The layout of its tensors."""
        ...

    @property
    def balance(self) -> BankSettings:
        """How the bank is made."""
        ...

    @property
    def bank(self) -> BankConfig:
        """Over which views of an image its features are averaged."""
        ...


def data_of_bank(data: DataConfig, views: Views) -> DataConfig:
    """Return how images are read for a bank: views of an image may need more of it than the network sees at once."""
    return data.model_copy(update={"image_size": size_of_views(views, image_size=data.image_size, resize=data.resize)})
