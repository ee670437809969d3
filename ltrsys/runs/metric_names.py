"""The name of every number that a run logs, in sections as dashboards show them: `train/loss`, `val/few`, ...

The part before the first `/` is the section. `docs/wandb.md` and the tests are held to this list.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Axis = Literal["step", "balance/number"]
"""What a curve is drawn over: optimizer steps, or how often the run was balanced."""


@dataclass(frozen=True)
class Metric:
    """One number."""

    key: str
    description: str
    unit: str
    axis: Axis | None = "step"
    """None for the axes themselves."""
    best: bool = False
    """Whether its highest value is summed up beside its last."""

    @property
    def section(self) -> str:
        """The part before the first `/`; empty for the axes of training."""
        section, slash, _ = self.key.partition("/")
        return section if slash else ""


STEP = Metric("step", "optimizer steps finished, over all epochs", "steps", axis=None)
EPOCH = Metric("epoch", "epochs finished; on the way through one, a fraction", "epochs")
LOSS = Metric("train/loss", "mean of `train.loss` over the steps since the last line, all micro-batches and ranks", "-")
LEARNING_RATE = Metric("train/learning_rate", "of the classifier, at the last of these steps", "-")
IMAGES = Metric("train/images", "images trained on so far", "images")
STALL_SHARE = Metric(
    "data/stall_share",
    "part of the time in which a rank's device waited for data, mean over the ranks. On a GPU it is measured by events "
    "in the GPU's queue",
    "0 to 1",
)
IMAGES_PER_SECOND = Metric("perf/images_per_second", "speed over all ranks, without evaluations and saves", "images/s")
BALANCING = Metric("balance/number", "how often the run has been balanced with other results", "-", axis=None)

_ACCURACY = "top-1 accuracy on val, of the classifier that is trained; null where there is no such class"
VAL = {
    "many": Metric("val/many", f"{_ACCURACY}: many-shot classes", "%", best=True),
    "medium": Metric("val/medium", f"{_ACCURACY}: medium-shot classes", "%", best=True),
    "few": Metric("val/few", f"{_ACCURACY}: few-shot classes", "%", best=True),
    "all": Metric("val/all", "top-1 accuracy over all images of val", "%", best=True),
    "mean_class_accuracy": Metric(
        "val/mean_class_accuracy",
        "mean over the classes of their accuracies on val; a class without a val image does not count",
        "%",
        best=True,
    ),
}
"""Accuracies on val during training, by the column of the table."""
BEST = Metric("val/best", "the best on val so far by `train.select_by`; what sweeps go by", "%")

METRICS = (
    STEP, EPOCH, LOSS, LEARNING_RATE, IMAGES, *VAL.values(), BEST, STALL_SHARE, IMAGES_PER_SECOND, BALANCING,
)  # fmt: skip
"""All of them but those of `result_key`."""

OLDER_KEYS: Mapping[str, str] = {
    "loss": LOSS.key,
    "lr": LEARNING_RATE.key,
    "images": IMAGES.key,
    "images_per_second": IMAGES_PER_SECOND.key,
    "data_stall_share": STALL_SHARE.key,
    **{f"val_{column}": metric.key for column, metric in VAL.items()},
}
"""The names that ltrsys 0.2.0 gave them."""


def result_key(split: str, classifier: str, column: str) -> str:
    """Return the name of a classifier's accuracy on the reported split, in per cent: `test/crt/few`."""
    return f"{split}/{classifier}/{column}"


def is_result(key: str) -> bool:
    """Say whether a name is one that `result_key` makes."""
    return key.count("/") == 2 and key.partition("/")[0] in ("train", "val", "test")
