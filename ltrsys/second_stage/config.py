"""The section `balance`."""

from typing import Literal

from pydantic import Field

from ltrsys.classifiers.config import NCMConfig, RetrainConfig, TauConfig
from ltrsys.config.section import Count, Section


class BalanceConfig(Section):
    """The second stage: classifiers on the frozen backbone."""

    classifiers: list[Literal["joint", "ncm", "crt", "tau", "lws"]] = Field(
        default=["joint", "ncm", "crt", "tau", "lws"], min_length=1
    )
    feature_batch_size: Count = 256
    """Images that go through the backbone at once while the feature bank is made."""
    val_is_test: bool = False
    """Let tau be chosen on the test split where there is no other val (as the paper did on iNaturalist)."""
    ncm: NCMConfig = NCMConfig()
    crt: RetrainConfig = RetrainConfig(epochs=10)
    lws: RetrainConfig = RetrainConfig(epochs=5)
    tau: TauConfig = TauConfig()
    bn: Literal["eval", "recalibrate"] = "eval"
    """BatchNorm of the frozen backbone: its running statistics, or statistics measured again on a
    class-balanced pass before the bank is made (what the paper's code drifts to)."""
