"""What every classifier of the second stage is: fitted on frozen features, and able to rank the classes of any.

N samples, C classes, D features.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, Self, TypeVar

from ltrsys.errors import DataError, UsageError
from ltrsys.features.config import FeatureKind
from ltrsys.metrics.config import SelectBy
from ltrsys.registry import Method, Registry
from ltrsys.section import Section

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from ltrsys.classifiers.joint import Joint
    from ltrsys.data.index.records import SplitName
    from ltrsys.features.bank import BankSplit

log = logging.getLogger("ltrsys")

SelectedOn = Literal["val", "train", "learned"]
C = TypeVar("C", bound=Section)


@dataclass(frozen=True)
class ValSplit:
    """The split that hyper-parameters may be selected on."""

    name: SplitName | None
    """None where there is no val split beside the reported one, which must not be selected on."""
    is_reported: bool = False
    """Whether it is the split that results are reported on, which `balance.val_is_test` allows."""
    reported: SplitName | None = "test"
    """The split that results are reported on; None where there is neither test nor val."""
    dataset: str = ""
    """Where the dataset is, for messages."""


@dataclass(frozen=True)
class Selection:
    """What the hyper-parameters of a classifier are selected on."""

    select_on: SelectedOn
    split: SplitName | None = None
    """The split that serves as val, if they are selected on val."""
    val_is_test: bool = False
    """Whether that split is the one that results are reported on."""


@dataclass(frozen=True)
class Member:
    """A fitted classifier that another is made of."""

    classifier: Classifier[Any]
    temperature: float
    """What its scores are divided by before softmax, so that it is as sure as it is right."""


@dataclass(frozen=True)
class FitContext:
    """What a classifier may be fitted on."""

    train: BankSplit
    """With the kind of features that it asked for by `features`, as `val`."""
    val: BankSplit | None
    """The split that it asked for by `selects_on`."""
    selection: Selection | None
    """What `selects_on` returned."""
    joint: Callable[[], Joint]
    """Returns the classifier that was trained with the backbone."""
    seed: int
    """For a classifier that says that it `depends_on_seed`."""
    device: torch.device
    select_by: SelectBy = "mean_class_accuracy"
    """What `score` measures: `balance.select_by`."""
    member: Callable[[str], Member] | None = None
    """Returns a classifier that it named in `members`."""

    def score(self, predictions_N: NDArray[np.int64]) -> float:
        """Return how good predictions of the val images are, in per cent: what is chosen on val, is chosen by this.

        Equally good ones have the same score to the last bit.
        """
        from ltrsys.metrics.accuracy import score

        assert self.val is not None, "nothing is selected on val"
        return score(self.val.labels, predictions_N, self.val.num_classes, self.select_by) or 0.0


def best_of_grid(
    grid: Sequence[float], scores: Sequence[float], cost: Callable[[float], float] = lambda value: value
) -> float:
    """Return the value of `grid` with the highest score; of equals that of the lowest `cost`, or else the smallest."""
    return max(zip(grid, scores, strict=True), key=lambda point: (point[1], -cost(point[0])))[0]


def tried(**values: Sequence[Any]) -> Mapping[str, Sequence[Any]]:
    """Return a grid: the values that are tried of each setting."""
    return values


def predicted(fit: Callable[[], Classifier[Any]], split: BankSplit, device: torch.device) -> NDArray[np.int64]:
    """Return the predictions of a classifier for the images of a split, int64 [n]; -1 where its fit fails."""
    import numpy as np
    import torch

    try:
        classifier = fit()
    except DataError as error:
        log.warning("left out of the choice: %s", error)
        return np.full(len(split), -1)
    with torch.inference_mode():
        classes = [classifier.rank(features_ND, 1)[:, 0].cpu() for features_ND, _ in split.blocks(device)]
    return torch.cat(classes).numpy()


class Classifier(Method, ABC, Generic[C]):
    """A classifier on frozen features."""

    Config: ClassVar[type[Section]] = Section
    """Its settings, `balance.<name>`."""
    grid: ClassVar[Mapping[str, Sequence[Any]]] = {}
    """The values of its settings among which `balance.select` chooses; of equally good ones the first."""
    always_selects: ClassVar[bool] = False
    """Whether they are chosen without `balance.select` too, as where its paper has no others."""
    depends_on_seed: ClassVar[bool] = False
    """Whether the fit draws random numbers: a fitted one is fitted anew where the seed has changed."""
    calibration_folds: ClassVar[int] = 5
    """Without a val split its probabilities are calibrated on train, which is divided into five folds: how many of
    them are scored by a classifier that is fitted on the other four. 1 where a fit takes many passes over the bank; 0
    where it learns nothing from the bank, so that it scores all images as it is."""
    trained_as_softmax: ClassVar[bool] = False
    """Whether it was trained so that the softmax of its scores is likely on the training images. Where there is only
    train to calibrate on, it is then not made surer than that: of images that it has not seen it knows less."""
    features: ClassVar[FeatureKind] = "last"
    """The kind of features that it is fitted on and given to rank. Those of the kind `no_relu`, before the last ReLU,
    are there only for residual networks, and made only where a classifier asks for them."""
    uses_joint: ClassVar[bool] = False
    """Whether it is made from the classifier that was trained with the backbone, or from what stands in for it."""
    has_weight_norms: ClassVar[bool] = True
    """Whether a feature is compared with its weights by a product, so that their lengths mean something in a plot."""
    needs_linear_head: ClassVar[str | None] = None
    """Why it has no meaning for a network whose `model.head` is not linear; None where it has one."""
    label: ClassVar[str]
    """What tables and plots call it."""
    color: ClassVar[str] = "#555555"
    marker: ClassVar[str] = "P"
    """matplotlib's name of the marker in plots."""

    selected_on: SelectedOn | None = None
    """What its hyper-parameter was selected on; None if it has none that is."""

    @classmethod
    def selects_on(cls, config: C, val: ValSplit) -> Selection | None:
        """Say what hyper-parameters will be selected on, None where nothing is selected; called before all work.

        Raises:
            UsageError: Where the config asks for a split that may not be selected on.
        """
        return None

    @classmethod
    def members(cls, config: C) -> tuple[str, ...]:
        """Name the classifiers that it is made of: they are fitted before it, and where they change, it does too."""
        return ()

    @classmethod
    @abstractmethod
    def fit(cls, context: FitContext, config: C) -> Self:
        """Fit the classifier.

        Raises:
            DataError: Where the fit fails.
        """

    @classmethod
    def sweep(cls, context: FitContext, configs: Sequence[C], split: BankSplit) -> NDArray[np.int64]:
        """Fit it with each of the settings; return what each predicts of the images of a split, int64 [T, n].

        -1 stands for what settings predict that it cannot be fitted with. Override it where the fits can share work,
        such as a pass over the bank.
        """
        import numpy as np

        rows = [predicted(partial(cls.fit, context, config), split, context.device) for config in configs]
        return np.stack(rows)

    @abstractmethod
    def scores(self, features_ND: Tensor) -> Tensor:
        """Return a score of every class, [N, C], the best highest; minus infinity for what is never predicted."""

    def rank(self, features_ND: Tensor, k: int) -> Tensor:
        """Return the k best classes of each feature, int64 [N, k], best first; ties go to the lower class id."""
        from ltrsys.kernels import top_classes

        return top_classes(self.scores(features_ND), k)

    def as_linear(self) -> tuple[Tensor, Tensor | None] | None:
        """Return weights [C, D] and bias [C] of the linear layer that it is; None if it is none."""
        return None

    def module(self) -> nn.Module:
        """Return what makes probabilities of features, [N, D] -> [N, C], as a module that `torch.export` can trace.

        It gives the scores, or what differs from them by a constant of the feature: softmax and ranking are the same.
        It is a linear layer where the classifier is one, and `scores` where it is none. Override it where `scores` uses
        operations that are not torch's own, such as those of `ltrsys.kernels`.
        """
        from ltrsys.models.scoring import Scoring, linear_layer

        if (linear := self.as_linear()) is not None:
            return linear_layer(*linear)
        params, selected_on = self.params(), self.selected_on
        return Scoring(self.tensors(), lambda tensors: type(self).restore(tensors, params, selected_on).scores)

    def with_classes(self, features_ND: Tensor, labels_N: Tensor, num_new: int) -> Self:
        """Return the classifier with more classes, from a few images of each; nothing is trained.

        Their ids follow those that there are. One by one they give the same as all at once.

        Args:
            features_ND: Of the images of the new classes, float32 [N, D].
            labels_N: Their new classes, counted from 0, int64 [N].
            num_new: New classes.

        Raises:
            UsageError: For a classifier that has to be fitted again, as most have; names those that need not be.
        """
        able = [one.name for one in CLASSIFIERS if one.with_classes is not Classifier.with_classes]
        raise UsageError(
            f"{self.name}: does not know the new classes yet: it has to be trained with their images among the others. "
            f"Those that take new classes as they are: {', '.join(able)}."
        )

    def class_frequencies(self, trained_C: NDArray[np.float64], train_counts: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the frequencies of the classes for which its probabilities are right, float64 [C], summing to 1.

        Those of a class-balanced classifier, which most are: all the same.

        Args:
            trained_C: Those for which the joint classifier's are.
            train_counts: Training images of each class, [C].
        """
        import numpy as np

        return np.full(len(trained_C), 1 / len(trained_C))

    def weight(self) -> Tensor | None:
        """Return the weight vector of each class, [C, D], for plotting its length; None if it has no norms."""
        linear = self.as_linear()
        return None if linear is None else linear[0]

    def params(self) -> dict[str, Any]:
        """Return what `results.json` says of it, as JSON values."""
        return {}

    @classmethod
    def describe(cls, params: Mapping[str, Any], selected_on: SelectedOn | None) -> str:
        """Say the hyper-parameters that `params` gave, and what they were selected on, in a few words for the table."""
        return ""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """Return all that `restore` needs beside `params`."""

    @classmethod
    @abstractmethod
    def restore(cls, tensors: Mapping[str, Tensor], params: Mapping[str, Any], selected_on: SelectedOn | None) -> Self:
        """Make the classifier that gave `tensors`, `params` and `selected_on`; it ranks with the same bits."""


CLASSIFIERS: Registry[type[Classifier[Any]]] = Registry(
    "classifier",
    "ltrsys.classifiers",
    "ltrsys.classifiers.nearest",
    "ltrsys.classifiers.adjusted",
    "ltrsys.classifiers.retrained",
)
