"""Rows of a study on equal footing: over all tilts, and by few-shot accuracy at equal many-shot accuracy."""

from dataclasses import dataclass

import numpy as np

from ltrsys.evaluation.tilting import place_of_equal, reference_place
from ltrsys.metrics.class_mean import paired_test_of_shares
from ltrsys.studies.measuring import Measured

EQUAL = 2.0
"""Points of many-shot accuracy within which two rows are compared by their few-shot accuracy."""


@dataclass(frozen=True)
class AtEqualMany:
    """Few-shot accuracy where many-shot accuracy is that of the tilted reference row."""

    few: list[float | None]
    """Few-shot accuracy of each seed."""
    p_value: float | None


@dataclass(frozen=True)
class TradeOff:
    """A row over all tilts of its scores: accuracies in per cent, means over the seeds."""

    t: list[float]
    many: list[float]
    few: list[float]
    mean_class_accuracy: list[float]
    chosen: tuple[float, float] | None
    """Many- and few-shot accuracy where each seed has the t that is best on its val; None without val."""


def trade_off(found: list[Measured]) -> TradeOff | None:
    """Return the curve of a row; None where nothing is tilted, or there are no many-shot or no few-shot images."""
    tilts = [one.line.tilt for one in found if one.line.tilt is not None]
    if not tilts or any(tilt.curve.t != tilts[0].curve.t for tilt in tilts):
        return None
    columns = ("many", "few", "mean_class_accuracy")
    curves = [[getattr(tilt.curve, column) for column in columns] for tilt in tilts]
    if any(None in values for curve in curves for values in curve):
        return None
    chosen = None
    if all(tilt.chosen is not None for tilt in tilts):
        places = [tilt.curve.t.index(tilt.chosen) for tilt in tilts if tilt.chosen is not None]
        many, few = np.mean([[curve[0][at], curve[1][at]] for curve, at in zip(curves, places, strict=True)], axis=0)
        chosen = float(many), float(few)
    many_of_t, few_of_t, mean_of_t = np.mean(curves, axis=0).tolist()
    return TradeOff(tilts[0].curve.t, many_of_t, few_of_t, mean_of_t, chosen)


def at_equal_many(found: list[Measured], against: list[Measured], *, is_reference: bool) -> AtEqualMany:
    """Compare with the tilted reference row, seed by seed; without one, with the tilted joint classifier of each run.

    Args:
        found: The row, of each seed.
        against: The row that it is compared with, of each seed; empty for none.
        is_reference: Whether it is the row that others are compared with: its own tilted accuracy is returned.
    """
    if is_reference:
        return AtEqualMany([_few_of_reference(one) for one in found], None)
    if not against:
        equals = [None if one.line.tilt is None else one.line.tilt.equal_many_shot for one in found]
        return AtEqualMany([None if equal is None else equal.few for equal in equals], None)
    if len(found) != len(against):
        return AtEqualMany([], None)
    few: list[float | None] = []
    ours, theirs = [], []
    for one, other in zip(found, against, strict=True):
        place = _place_of_equal_many(one, other)
        few.append(None if place is None or one.line.tilt is None else one.line.tilt.curve.few[place])
        if place is not None and other.line.tilt is not None:
            ours.append(one.few_shot_hits[place])
            theirs.append(other.few_shot_hits[reference_place(other.line.tilt.curve.t, other.line.tilt.chosen)])
    if not ours or len(ours) < len(found) or not np.array_equal(found[0].labels, against[0].labels):
        return AtEqualMany(few, None)
    first = found[0]
    labels = first.labels[first.is_few_shot]
    p_value = paired_test_of_shares(labels, np.mean(ours, axis=0), np.mean(theirs, axis=0), first.num_classes)
    return AtEqualMany(few, p_value)


def _few_of_reference(one: Measured) -> float | None:
    tilt = one.line.tilt
    return None if tilt is None else tilt.curve.few[reference_place(tilt.curve.t, tilt.chosen)]


def _place_of_equal_many(one: Measured, other: Measured) -> int | None:
    """Return the place of the tilt of one training at which it is as good on many-shot classes as the tilted other."""
    if one.line.tilt is None or other.line.tilt is None:
        return None
    curve, theirs = one.line.tilt.curve, other.line.tilt
    wanted = theirs.curve.many[reference_place(theirs.curve.t, theirs.chosen)]
    if wanted is None or None in curve.many or None in curve.few:
        return None
    many = [value for value in curve.many if value is not None]
    place = place_of_equal(curve.t, many, wanted)
    return place if abs(many[place] - wanted) <= EQUAL else None
