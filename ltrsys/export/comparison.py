"""An export beside the run that it was made of, on the same images: what differs, and whether that is too much.

N images, C classes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ltrsys.classifiers.base import Classifier
from ltrsys.errors import DataError
from ltrsys.export.folding import FoldedModel
from ltrsys.export.images import TrialImages, as_bytes
from ltrsys.export.subject import Precision, Runner
from ltrsys.features.making.extraction import features_of
from ltrsys.metrics.accuracy import ALL_COLUMNS, MEAN, accuracy_by_column, heading
from ltrsys.prediction.loading import LoadedModel

TIE = 1e-5
"""Two classes whose logarithms of probability differ by no more are a tie, which rounding may decide either way."""
MAX_LOSS = 1.0
"""Points of accuracy that int8 may lose."""


@dataclass(frozen=True)
class Bounds:
    """What may differ."""

    top1: float
    """Share of the images whose best class must be the same."""
    probability: float
    """How far a probability may be off."""


BOUNDS: Mapping[Precision, Bounds] = {"float32": Bounds(1.0, 1e-4), "float16": Bounds(0.99, 0.02)}
"""int8 has none: it is held to its accuracy."""


@dataclass(frozen=True)
class Comparison:
    """What the run and its export say of N images."""

    images: str
    """Which they were."""
    labels_N: NDArray[np.int64] | None
    """Their classes; None where they have none."""
    before_N: NDArray[np.int64]
    """The best class by the run."""
    after_N: NDArray[np.int64]
    """The best class by the export."""
    tied_N: NDArray[np.bool_]
    """Whether both classes are equally probable by the run."""
    largest_difference: float
    """Of a probability."""

    @property
    def same(self) -> int:
        """Images with the same best class, or one that ties with it."""
        return int(((self.before_N == self.after_N) | self.tied_N).sum())

    def line(self) -> str:
        """Say it in one line."""
        ties = int((self.tied_N & (self.before_N != self.after_N)).sum())
        tied = f" ({ties} by a tie)" if ties else ""
        return (
            f"same top-1 on {self.same:,} of {len(self.before_N):,}{tied}, probabilities to "
            f"{self.largest_difference:.1g} ({self.images})"
        )

    def accuracies(self, shot_of_class: NDArray[np.str_]) -> tuple[dict[str, float | None], dict[str, float | None]]:
        """Return the accuracies by shot, over all and over the classes, in per cent: before and after."""
        assert self.labels_N is not None
        before, after = (accuracy_by_column(self.labels_N, row, shot_of_class) for row in (self.before_N, self.after_N))
        return before, after

    def outside(self, precision: Precision) -> str | None:
        """Say what is outside the bounds of a precision; None where all is within."""
        if precision not in BOUNDS:
            return None
        bounds = BOUNDS[precision]
        if not self.largest_difference <= bounds.probability:
            return f"a probability differs by {self.largest_difference:.2g}, more than {bounds.probability:g}"
        if self.same < bounds.top1 * len(self.before_N):
            return f"the best class differs on {len(self.before_N) - self.same:,} of {self.images}"
        return None


def compare(model: LoadedModel, folded: FoldedModel, run: Runner, images: TrialImages, *, labelled: bool) -> Comparison:
    """Give the same images to a run, as `ltrsys evaluate` does, and to its export.

    Args:
        model: The run, on the CPU.
        folded: What was exported: says what kind of pixels the export takes, and its temperature.
        run: The export.
        images: Which.
        labelled: Whether their classes mean something.

    Raises:
        DataError: Where no image can be read, or the network gives NaN.
    """
    labels, before, after, tied, largest = [], [], [], [], 0.0
    with torch.inference_mode():
        for pixels, own_labels in images.batches():
            if not len(pixels):
                continue
            best_N, log_NC = _reference(model, folded.temperature, pixels)
            given = as_bytes(pixels, model.signature.preprocessing) if folded.takes_bytes else pixels.contiguous()
            found_NC = run(given).float()
            # NaN is the largest of numbers
            largest = float(np.maximum(largest, (found_NC - log_NC.exp()).abs().max().item()))
            found_N = found_NC.argmax(dim=1)
            margin_N = (log_NC.gather(1, best_N[:, None]) - log_NC.gather(1, found_N[:, None]))[:, 0]
            labels.append(own_labels)
            before.append(best_N.numpy())
            after.append(found_N.numpy())
            tied.append((margin_N <= TIE).numpy())
    return Comparison(
        str(images),
        np.concatenate(labels) if labelled else None,
        np.concatenate(before),
        np.concatenate(after),
        np.concatenate(tied),
        largest,
    )


def lost(before: Mapping[str, float | None], after: Mapping[str, float | None]) -> str | None:
    """Say where more than `MAX_LOSS` points of accuracy are lost, over all images or the classes; None where not."""
    for column in ("all", MEAN):
        then, now = before[column], after[column]
        if then is not None and now is not None and then - now > MAX_LOSS:
            return f"{then - now:.1f} points of accuracy ({heading(column)}: {then:.1f} before, {now:.1f} after)"
    return None


def accuracy_lines(rows: Mapping[str, Mapping[str, float | None]]) -> list[str]:
    """Return lines of a table: a heading, and accuracies by what they are of."""
    lines = ["".join([f"{'accuracy':<10}", *(f"{heading(column):>8}" for column in ALL_COLUMNS)])]
    for name, row in rows.items():
        values = ("–" if (value := row[column]) is None else f"{value:.1f}" for column in ALL_COLUMNS)
        lines.append("".join([f"{name:<10}", *(f"{value:>8}" for value in values)]))
    return lines


def _reference(model: LoadedModel, temperature: float, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the best class of each image, [N], and the logarithms of the probabilities, [N, C], by the run."""
    kind = model.classifier.features
    layout = torch.channels_last if model.config.train.in_channels_last else torch.contiguous_format
    features_ND = features_of(model.backbone, pixels.to(memory_format=layout), [kind])[kind].float()
    if not torch.isfinite(features_ND).all():
        raise DataError(
            f"{model.run.model}: the network gives NaN or infinite features; the training may have diverged."
        )
    scores_NC = exact_scores(model.classifier, features_ND)
    return model.classifier.rank(features_ND, 1)[:, 0], (scores_NC / temperature).log_softmax(dim=1)


def exact_scores(classifier: Classifier[Any], features_ND: Tensor) -> Tensor:
    """Return a classifier's scores, computed in float64, [N, C].

    In float32 a squared distance of 2000 is rounded by 1e-4, as much as a probability may differ by.
    """
    tensors = {
        name: tensor.double() if tensor.is_floating_point() else tensor for name, tensor in classifier.tensors().items()
    }
    try:
        exact = type(classifier).restore(tensors, classifier.params(), classifier.selected_on)
        return exact.scores(features_ND.double())
    except RuntimeError:  # one of a user's own, which is for float32 alone
        return classifier.scores(features_ND)
