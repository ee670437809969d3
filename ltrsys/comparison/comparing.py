"""Balanced runs in, their comparison out."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from pydantic import BaseModel, ConfigDict

from ltrsys.classifiers.base import CLASSIFIERS
from ltrsys.comparison.pairs import Images, Pair, Side, compare
from ltrsys.comparison.same_images import common_order, training_differences
from ltrsys.errors import UsageError
from ltrsys.evaluation.balanced_run import BalancedRun, labels_of
from ltrsys.evaluation.results import columns_of


class ComparedLine(BaseModel):
    """A classifier of a run; accuracies in per cent, with the groups of the run itself."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    classifier: str
    run: str
    accuracy: dict[str, float | None]


class Comparison(BaseModel):
    """What `ltrsys compare --json` prints."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    runs: dict[str, str]
    """The folder of each run, by the name that stands for it."""
    images: int
    images_per_class: tuple[int, int]
    """Of the class with the fewest, of those that have any, and of the class with the most."""
    notes: list[str]
    """What differs between the runs beside their training."""
    lines: list[ComparedLine]
    pairs: list[Pair]


def compare_balanced(runs: Sequence[BalancedRun], classifiers: Sequence[str] | None) -> Comparison:
    """Compare each of the classifiers between each two runs.

    Args:
        runs: Two runs or more.
        classifiers: Their names; all that every run has if not given.

    Raises:
        UsageError: Where a classifier is not there, or runs are reported on other images.
    """
    names = _classifiers(runs, classifiers)
    order = common_order(runs)
    first, labels = runs[0], labels_of(runs)
    images = Images(
        first.reported.split.labels,
        first.reported.shot_of_class,
        [record.name for record in first.dataset.record.classes],
        first.reported.train_counts,
    )
    sides = {
        (name, place): Side(labels[place], (run.predictions.of(run.fitted[name]) == run.reported.split.labels)[rows])
        for name in names
        for place, (run, rows) in enumerate(zip(runs, order, strict=True))
    }
    counts = np.bincount(images.labels)
    return Comparison(
        runs={label: str(run.run.path) for label, run in zip(labels, runs, strict=True)},
        images=len(images.labels),
        images_per_class=(int(counts[counts > 0].min()), int(counts.max())),
        notes=[*training_differences(runs), *_other_groups(runs)],
        lines=[
            ComparedLine(classifier=name, run=label, accuracy=columns_of(line))
            for name in names
            for run, label in zip(runs, labels, strict=True)
            if (line := run.results.line(name)) is not None
        ],
        pairs=[
            compare(name, sides[name, one], sides[name, other], images)
            for name in names
            for one, other in combinations(range(len(runs)), 2)
        ],
    )


def _classifiers(runs: Sequence[BalancedRun], wanted: Sequence[str] | None) -> list[str]:
    """Return the names of what is compared, in the order of the tables."""
    common = [name for name in CLASSIFIERS.names() if all(name in run.fitted for run in runs)]
    if wanted is None:
        if not common:
            raise UsageError("these runs have no classifier in common. Fit one in each: `ltrsys balance RUN`.")
        return common
    for name in wanted:
        CLASSIFIERS.get(name)
        for run in runs:
            if name not in run.fitted:
                raise UsageError(
                    f"{run.run.path}: {name} is not in its results. Run `ltrsys balance {run.run.path} --classifiers "
                    f"{','.join([*run.fitted, name])}`, or compare another: {', '.join(common) or 'none is in all'}."
                )
    return [name for name in CLASSIFIERS.names() if name in wanted]


def _other_groups(runs: Sequence[BalancedRun]) -> list[str]:
    """Say whose groups of classes the differences are of, where the runs do not agree on them."""
    first = runs[0]
    return [
        f"Some classes are many-, medium- or few-shot in {run.run.path} and not in {first.run.path}: differences of "
        f"these columns are of the classes that {first.run.path} puts there."
        for run in runs[1:]
        if not np.array_equal(run.reported.shot_of_class, first.reported.shot_of_class)
    ]
