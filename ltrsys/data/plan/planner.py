"""The plan: which sample stands at which global position of an epoch.

A pure function of (index, sampler, seed, epoch): the same on every machine, whatever the number of ranks.

1. Quotas: how often each class is drawn (`sampling`).
2. Passes: which samples of a stratum that takes, going on where the last epoch stopped (`passes`).
3. Lanes: every stratum is cut into segments, and a lane takes one segment of each (`lanes`), its samples in random
   order. Position k of the epoch is place k div L of lane k mod L.

A class stands evenly in its stratum, so every lane has about its part of it, and of each image only the place within
the lane is random: as random as in a shuffle of the whole epoch, but that each node keeps to its own part. Where that
would save nothing, in a small set, the whole epoch is one shuffle.

In `class_aware` sampling, whose k images of a class stand in one batch and go to k micro-batches, the epoch is one
shuffle of draws, and the images of each batch are dealt so that nodes keep to their parts nevertheless (`affinity`).
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ltrsys.data.index.dataset import Split
from ltrsys.data.plan.affinity import ANYWHERE, deal, homes, number_of_homes, sent_home
from ltrsys.data.plan.cache import PlanCache
from ltrsys.data.plan.lanes import bounds, cut_interleaved, lane_lengths, lane_of_segment
from ltrsys.data.plan.passes import Choices, draws_of_one_class, taken_positions
from ltrsys.data.plan.samplers.base import ClassWeights, Sampler
from ltrsys.data.plan.sampling import class_weights, quotas
from ltrsys.errors import DataError, UsageError
from ltrsys.random import Stream, permutation, uniforms, words

VERSION = 3
"""Raised when the same inputs come to give another plan. Cached plans are then made anew; a run that was begun with
another plan is not gone on with."""

DRAWS_OF_A_LANE = 256
"""An epoch that would give its lanes fewer draws than this is one shuffle: every node reads all of a set so small."""


@dataclass(frozen=True)
class Plan:
    """The order of one epoch."""

    order: NDArray[np.integer]
    """Sample ids by global position; int32, or int64 above 2**31 samples; possibly memory-mapped."""
    lanes: int

    def __len__(self) -> int:
        return len(self.order)

    def samples(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the sample ids at global positions, int64, of the same shape."""
        return self.order[positions].astype(np.int64)

    def lane(self, lane: int) -> NDArray[np.integer]:
        """Return the sample ids of one lane in their order: a view of `order`."""
        return self.order[lane :: self.lanes]


@dataclass(frozen=True)
class _Stratum:
    """One stratum of the split, and its classes."""

    number: int
    first: int
    samples: int
    classes: NDArray[np.int64]


@dataclass(frozen=True)
class _Reading:
    """What an epoch takes from a stratum."""

    stratum: _Stratum
    start: int
    """Sample of the stratum that the tape begins with."""
    tape: NDArray[np.unsignedinteger]
    """Class of each sample from there on, round, as its number within the stratum; [N]."""
    positions: NDArray[np.int64]
    """Positions on the tape, rising."""

    def samples(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the sample ids at positions on the tape."""
        return self.stratum.first + (positions + self.start) % self.stratum.samples


class Planner:
    """Makes the plan of any epoch, without those before it."""

    def __init__(
        self,
        split: Split,
        sampler: Sampler,
        *,
        seed: int,
        num_epochs: int,
        samples_per_epoch: int | None = None,
        lanes: int = 192,
        batch_size: int | None = None,
        shuffle_window: int | None = None,
        cache: Path | None = None,
    ) -> None:
        """Prepare the strata of `split`.

        Args:
            split: The training images.
            sampler: How often each class is drawn.
            seed: With the rest, decides everything random.
            num_epochs: For progressively-balanced sampling.
            samples_per_epoch: The number of images if not given.
            lanes: Parts of the epoch that are dealt to the ranks.
            batch_size: Samples of a step, over all ranks; where k images are drawn together, they stand anywhere in one
                batch, dealt to the nodes that read them. Without it they stand side by side, and every node reads all.
            shuffle_window: How far a sample may move from its place where a lane reads each of its segments forward,
                once round from a random place; without it, a lane's samples come in any order.
            cache: A folder of this node in which its ranks share the plans that one of them made.

        Raises:
            UsageError: Where an epoch is empty.
            DataError: Where the index is not stratified as its record says.
        """
        self.split, self.sampler, self.seed, self.num_epochs = split, sampler, seed, num_epochs
        self.samples_per_draw = sampler.images_per_draw
        self.draws = (samples_per_epoch or len(split)) // self.samples_per_draw
        self.lanes, self.shuffle_window = lanes, shuffle_window
        self._small = self.samples_per_epoch <= lanes * DRAWS_OF_A_LANE
        dealt = batch_size if self.samples_per_draw > 1 and not self._small else None
        self._batch_size, self._parts = (dealt, number_of_homes(lanes, dealt)) if dealt else (1, 1)
        if not self.draws:
            raise UsageError(f"an epoch of {samples_per_epoch or len(split)} samples is less than one draw.")
        self._strata = _open_strata(split)
        self._dtype: np.dtype[np.integer] = np.dtype(np.int32 if len(split) < 2**31 else np.int64)
        self._cache = PlanCache(cache, f"{num_epochs}-{self._digest(0)}") if cache else None

    @property
    def samples_per_epoch(self) -> int:
        """Samples of one epoch: the paper's code draws as many as there are images."""
        return self.draws * self.samples_per_draw

    def epoch(self, epoch: int) -> Plan:
        """Return the plan of one epoch, counted from 0."""
        if self._cache is None:
            order = np.empty(self.samples_per_epoch, self._dtype)
            self._fill(order, epoch)
        else:
            order = self._cache.get(
                self._digest(epoch), self.samples_per_epoch, self._dtype, lambda order: self._fill(order, epoch)
            )
        return Plan(order, self.lanes)

    def weights(self, epoch: int) -> ClassWeights:
        """Return the classes' sampling weights at an epoch."""
        return class_weights(self.split.class_counts, self.sampler, epoch=epoch, num_epochs=self.num_epochs)

    def quotas(self, epoch: int) -> NDArray[np.int64]:
        """Return how often an epoch draws each class, int64 [num_classes], in images."""
        return quotas(self.weights(epoch).weights, self.draws, seed=self.seed, epoch=epoch) * self.samples_per_draw

    def bytes_spanned(self, epoch: int) -> tuple[int, int]:
        """Return what the segments of an epoch span and what is used of it, in bytes of encoded images.

        A segment spans everything from the first to the last sample that its lane takes there, passed ones included,
        and a byte that it meets in two passes counts twice: what a disk reads that reads each segment in one go.
        """
        readings = self._readings(epoch)
        spanned = used = 0
        for reading, ends in zip(readings, self._segment_bounds(readings, epoch), strict=True):
            if not len(reading.positions):
                continue
            stratum = reading.stratum
            sizes = self.split.size[stratum.first : stratum.first + stratum.samples].astype(np.int64)
            before = bounds(np.roll(sizes, -reading.start))

            def bytes_before(position: NDArray[np.int64], before: NDArray[np.int64] = before) -> NDArray[np.int64]:
                passes, sample = np.divmod(position, len(before) - 1)
                return passes * before[-1] + before[sample]

            begin, end = ends[:-1], ends[1:]
            begin, end = begin[begin < end], end[begin < end]
            first, last = reading.positions[begin], reading.positions[end - 1]
            spanned += int((bytes_before(last + 1) - bytes_before(first)).sum())
            used += int((bytes_before(reading.positions + 1) - bytes_before(reading.positions)).sum())
        return spanned, used

    def _fill(self, order: NDArray[np.integer], epoch: int) -> None:
        """Write the sample ids of an epoch into `order`, [samples_per_epoch]."""
        readings = self._readings(epoch)
        if self._one_shuffle:
            self._fill_with_draws(order, readings, epoch)
        else:
            self._fill_with_lanes(order, readings, epoch)

    def _fill_with_draws(self, order: NDArray[np.integer], readings: list[_Reading], epoch: int) -> None:
        """Write one shuffle of all draws, and deal the images of each batch anew where nodes keep to their parts."""
        draws = [self._draws(reading, epoch) for reading in readings]
        shuffle = permutation(self.draws, seed=self.seed, stream=Stream.ORDER, major=epoch)
        images = [reading.samples(own).astype(self._dtype) for reading, own in zip(readings, draws, strict=True)]
        order[:] = np.concatenate(images)[shuffle].reshape(-1)
        if self._parts > 1:
            home = self._home_of_each(readings, draws, epoch)[shuffle].reshape(-1)
            order[:] = order[deal(home, self._batch_size, self._parts)]

    def _fill_with_lanes(self, order: NDArray[np.integer], readings: list[_Reading], epoch: int) -> None:
        """Write the lanes, which take turns: each is one segment of every stratum, mixed."""
        samples_of_strata = [reading.samples(reading.positions).astype(self._dtype) for reading in readings]
        bounds_of_strata = self._segment_bounds(readings, epoch)
        for segment, lane in enumerate(lane_of_segment(self.lanes)):
            parts = [
                samples[ends[segment] : ends[segment + 1]]
                for samples, ends in zip(samples_of_strata, bounds_of_strata, strict=True)
            ]
            sort_key = self._sort_key([len(part) for part in parts], epoch, segment)
            order[lane :: self.lanes] = np.concatenate(parts)[np.argsort(sort_key, kind="stable")]

    def _sort_key(self, lengths: list[int], epoch: int, segment: int) -> NDArray[np.float64]:
        """Return what a lane's samples are sorted by, those of one stratum after those of another, float64 [N].

        It is u, random in [0, 1): any order. With a shuffle window it is N ((i/n_s + b_s) mod 1) + window u for sample
        i of the n_s from stratum s: the place in the lane if each stratum is spread over all of it and read forward,
        once round from a random b_s in [0, 1), moved by less than the window.

        Args:
            lengths: n_s, summing to N.
            epoch: Counted from 0.
            segment: The one that the lane has of each stratum.
        """
        random = uniforms(sum(lengths), seed=self.seed, stream=Stream.ORDER, major=epoch, minor=segment)
        if self.shuffle_window is None:
            return random
        begin = uniforms(len(lengths), seed=self.seed, stream=Stream.BEGIN, major=epoch, minor=segment)
        round_trip = [
            (np.arange(length) / max(length, 1) + offset) % 1 for length, offset in zip(lengths, begin, strict=True)
        ]
        return sum(lengths) * np.concatenate(round_trip) + self.shuffle_window * random

    def _draws(self, reading: _Reading, epoch: int) -> NDArray[np.int64]:
        """Return what is taken from a stratum in draws, as places on its tape, int64 [draws, samples_per_draw]."""
        if self.samples_per_draw == 1:
            return reading.positions[:, None] % len(reading.tape)
        minor = reading.stratum.number
        order = words(len(reading.tape), seed=self.seed, stream=Stream.DRAWS, major=epoch, minor=minor)
        return draws_of_one_class(reading.positions, reading.tape, order, self.samples_per_draw)

    def _home_of_each(self, readings: list[_Reading], draws: list[NDArray[np.int64]], epoch: int) -> NDArray[np.int64]:
        """Return which part of its stratum each image of each draw is in, int64 [draws, samples_per_draw]."""
        home_of_class = sent_home(self.split.class_counts, self.quotas(epoch))
        found = []
        for reading, own in zip(readings, draws, strict=True):
            sent = home_of_class[reading.stratum.classes][reading.tape[own]]
            found.append(np.where(sent, homes(own, self._parts), ANYWHERE))
        return np.concatenate(found)

    def _readings(self, epoch: int) -> list[_Reading]:
        weights, quota = self.weights(epoch), self.quotas(epoch)
        return [self._reading(stratum, weights, quota[stratum.classes], epoch) for stratum in self._strata]

    def _reading(self, stratum: _Stratum, weights: ClassWeights, quota: NDArray[np.int64], epoch: int) -> _Reading:
        counts = self.split.class_counts[stratum.classes]
        start = self._start(stratum, weights)
        number_in_stratum = np.zeros(
            int(stratum.classes[-1]) + 1, dtype=np.uint16 if len(counts) <= 2**16 else np.uint32
        )
        number_in_stratum[stratum.classes] = np.arange(len(counts))
        labels = self.split.label[stratum.first : stratum.first + stratum.samples]
        tape = number_in_stratum[np.concatenate([labels[start:], labels[:start]])]
        random = words(2 * len(counts), seed=self.seed, stream=Stream.PASSES, major=epoch, minor=stratum.number)
        choices = Choices(*(random >> np.uint64(32)).astype(np.int64).reshape(2, -1))
        return _Reading(stratum, start, tape, taken_positions(tape, counts, quota, choices))

    def _start(self, stratum: _Stratum, weights: ClassWeights) -> int:
        """Return the sample of the stratum that an epoch begins with: where those before it stopped.

        They drew class j before_j M / W times from its n_j images, where M is the draws of an epoch in images and W the
        sum of the weights. The class that needs most passes decides how many they made of the stratum: max_j before_j M
        / (W n_j). The fractional part of it, times the length of the stratum, is the start. Whole numbers alone: a
        float would be another on other machines where it is near a sample's edge.
        """
        counts = self.split.class_counts[stratum.classes].tolist()
        before = [weights.before[class_id] for class_id in stratum.classes]
        # Python rounds the quotient of whole numbers correctly, so this choice is the same everywhere too.
        neediest = int(np.argmax([drawn / count for drawn, count in zip(before, counts, strict=True)]))
        passes = before[neediest] * self.samples_per_epoch  # in units of 1 / one_pass
        one_pass = sum(weights.weights) * counts[neediest]
        return passes % one_pass * stratum.samples // one_pass

    def _segment_bounds(self, readings: list[_Reading], epoch: int) -> NDArray[np.int64]:
        """Return where what is taken of each stratum is cut into segments, int64 [strata, segments + 1]."""
        taken = np.array([len(reading.positions) for reading in readings])
        if self._one_shuffle:
            return np.stack([np.zeros_like(taken), taken], axis=1)
        offsets = uniforms(len(taken), seed=self.seed, stream=Stream.MERGE, major=epoch)
        length_of_segment = lane_lengths(self.draws, self.lanes)[lane_of_segment(self.lanes)]
        return cut_interleaved(taken, offsets, bounds(length_of_segment))

    @property
    def _one_shuffle(self) -> bool:
        """Whether lanes would save nothing."""
        return self.samples_per_draw > 1 or self._small

    def _digest(self, epoch: int) -> str:
        """Name everything that the plan of an epoch depends on."""
        weights = self.weights(epoch)
        parts = {
            "version": VERSION,
            "split": self.split.record.model_dump(mode="json"),
            "weights": [str(weight) for weight in weights.weights],
            "before": [str(weight) for weight in weights.before],
            "samples_per_draw": self.samples_per_draw,
            "draws": self.draws,
            "seed": self.seed,
            "epoch": epoch,
            "lanes": self.lanes,
            "batch_size": self._batch_size,
            "parts": self._parts,
            "shuffle_window": self.shuffle_window,
        }
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _open_strata(split: Split) -> list[_Stratum]:
    """Find each stratum's classes, checking that none stands in two and that the counts are the record's."""
    counts = split.class_counts
    seen = np.zeros_like(counts)
    strata = []
    for number, record in enumerate(split.record.strata):
        labels = split.label[record.first : record.first + record.samples]
        known = len(labels) > 0 and labels.min() >= 0 and labels.max() < len(counts)
        found = np.bincount(labels, minlength=len(counts)) if known else np.zeros_like(counts)
        classes = np.flatnonzero(found)
        if not known or (seen[classes] > 0).any() or (found[classes] != counts[classes]).any():
            raise DataError(
                f"{split.folder}: stratum {number} of the index does not hold all images of its classes. "
                "Build the shards again."
            )
        seen += found
        strata.append(_Stratum(number, record.first, record.samples, classes))
    if (seen != counts).any():
        raise DataError(f"{split.folder}: the strata of the index do not hold every image. Build the shards again.")
    return strata
