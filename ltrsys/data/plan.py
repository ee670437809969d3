"""The plan: which sample stands at which global position of an epoch.

A pure function of (index, sampler, seed, epoch): the same on every machine, whatever the number of ranks.

1. Quotas: how often each class is drawn (`sampling`).
2. Passes: each stratum is read forward, going on where the last epoch stopped (`passes`).
3. Merge: the strata are interleaved by relative progress, (rank + u_s) / M_s, and cut into equal lanes; a
   lane reads its own stretch of every stratum.
4. Shuffle: inside a lane a sample moves by up to about `shuffle_window` places.
5. Position k is place k div L of lane k mod L.

Where several images of a class come in a row (`class_aware`), the unit of steps 3 to 5 is the draw of k
images. Such a draw spans k/n_j of its stratum, far more than one stretch of many; so the strata are then
laid end to end instead of interleaved, and k lanes together read one long stretch of one stratum or two.
"""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from math import gcd
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ltrsys.config import SamplerConfig
from ltrsys.data.index import Split
from ltrsys.data.lanes import bounds, cut_interleaved, lane_lengths, spread
from ltrsys.data.passes import Choices, taken_positions
from ltrsys.data.plan_cache import PlanCache
from ltrsys.data.random import Stream, permutation, uniforms, words
from ltrsys.data.sampling import ClassWeights, class_weights, quotas
from ltrsys.errors import DataError, UsageError

VERSION = 1
"""Raised when the same inputs come to give another plan: cached plans are then made anew."""


@dataclass(frozen=True)
class Plan:
    """The order of one epoch."""

    order: NDArray[np.integer]
    """Sample ids, lane after lane; int32, or int64 above 2**31 samples; possibly memory-mapped."""
    lanes: int
    samples_per_draw: int

    def __len__(self) -> int:
        return len(self.order)

    def samples(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the sample ids at global positions, int64, of the same shape."""
        draw, image = np.divmod(positions, self.samples_per_draw)
        place, lane = np.divmod(draw, self.lanes)
        return self.order[(self._bounds[lane] + place) * self.samples_per_draw + image].astype(np.int64)

    def stretches(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return numbers of what is read at global positions, int64: lanes that share a piece share its number."""
        return positions // self.samples_per_draw % (self.lanes // gcd(self.lanes, self.samples_per_draw))

    def lane(self, lane: int) -> NDArray[np.integer]:
        """Return the sample ids of one lane in reading order: a view of `order`."""
        begin, end = self._bounds[lane : lane + 2] * self.samples_per_draw
        return self.order[begin:end]

    @cached_property
    def _bounds(self) -> NDArray[np.int64]:
        return bounds(lane_lengths(len(self) // self.samples_per_draw, self.lanes))


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
    positions: NDArray[np.int64]
    """Positions on the tape, [draws, samples_per_draw]."""

    def samples(self) -> NDArray[np.int64]:
        """Return sample ids, [draws, samples_per_draw]."""
        return self.stratum.first + (self.positions + self.start) % self.stratum.samples


class Planner:
    """Makes the plan of any epoch, without those before it."""

    def __init__(
        self,
        split: Split,
        sampler: SamplerConfig,
        *,
        seed: int,
        num_epochs: int,
        samples_per_epoch: int | None = None,
        lanes: int = 192,
        shuffle_window: int = 256,
        cache: Path | None = None,
    ) -> None:
        """Prepare the strata of `split`.

        Args:
            split: The training images.
            sampler: How often each class is drawn.
            seed: With the rest, decides everything random.
            num_epochs: For progressively-balanced sampling.
            samples_per_epoch: The number of images if not given.
            lanes: Independent read positions.
            shuffle_window: How far a sample may move within its lane, in places.
            cache: A folder of this node in which its ranks share the plans that one of them made.

        Raises:
            UsageError: Where an epoch is empty.
            DataError: Where the index is not stratified as its record says.
        """
        self.split, self.sampler, self.seed, self.num_epochs = split, sampler, seed, num_epochs
        self.samples_per_draw = sampler.samples_per_draw if sampler.kind == "class_aware" else 1
        self.draws = (samples_per_epoch or len(split)) // self.samples_per_draw
        self.lanes, self.shuffle_window = lanes, shuffle_window
        if not self.draws:
            raise UsageError(f"an epoch of {samples_per_epoch or len(split)} samples is less than one draw.")
        self._strata = _open_strata(split)
        self._dtype: np.dtype[np.integer] = np.dtype(np.int32 if len(split) < 2**31 else np.int64)
        self._cache = PlanCache(cache) if cache else None

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
        return Plan(order, self.lanes, self.samples_per_draw)

    def weights(self, epoch: int) -> ClassWeights:
        """Return the classes' sampling weights at an epoch."""
        return class_weights(self.split.class_counts, self.sampler, epoch=epoch, num_epochs=self.num_epochs)

    def quotas(self, epoch: int) -> NDArray[np.int64]:
        """Return how often an epoch draws each class, int64 [num_classes], in images."""
        return quotas(self.weights(epoch).weights, self.draws, seed=self.seed, epoch=epoch) * self.samples_per_draw

    def bytes_read(self, epoch: int) -> tuple[int, int]:
        """Return what an epoch reads and what it uses of it, in bytes of encoded images.

        A piece of the merged order reads, of each stratum, everything from the first to the last sample that it
        takes there, skipped ones included, and a byte that it passes twice counts twice.
        """
        readings = self._readings(epoch)
        read = used = 0
        for reading, cut in zip(readings, self._cuts(readings, epoch), strict=True):
            if not len(reading.positions):
                continue
            stratum = reading.stratum
            sizes = self.split.size[stratum.first : stratum.first + stratum.samples].astype(np.int64)
            before = bounds(np.roll(sizes, -reading.start))

            def bytes_before(position: NDArray[np.int64], before: NDArray[np.int64] = before) -> NDArray[np.int64]:
                passes, sample = np.divmod(position, len(before) - 1)
                return passes * before[-1] + before[sample]

            begin = cut[:-1][cut[:-1] < cut[1:]]
            first = reading.positions[begin, 0]
            last = np.maximum.reduceat(reading.positions.max(axis=1), begin)
            read += int((bytes_before(last + 1) - bytes_before(first)).sum())
            used += int((bytes_before(reading.positions + 1) - bytes_before(reading.positions)).sum())
        return read, used

    def _fill(self, order: NDArray[np.integer], epoch: int) -> None:
        readings = self._readings(epoch)
        cuts = self._cuts(readings, epoch)
        samples = [reading.samples().astype(self._dtype) for reading in readings]
        progress = self._progress(readings, epoch)
        lanes_of_piece = self._lanes_of_piece(epoch)
        window = self.shuffle_window * lanes_of_piece.shape[1] / self.samples_per_draw
        lane_bounds = bounds(self._lane_lengths) * self.samples_per_draw
        for piece, lanes in enumerate(lanes_of_piece):
            parts = [slice(cut[piece], cut[piece + 1]) for cut in cuts]
            key = np.concatenate(
                [
                    first + apart * np.arange(part.start, part.stop)
                    for part, (first, apart) in zip(parts, progress, strict=True)
                ]
            )
            key += window * uniforms(len(key), seed=self.seed, stream=Stream.ORDER, major=epoch, minor=piece)
            draws = np.concatenate([ids[part] for part, ids in zip(parts, samples, strict=True)])
            draws = draws[np.argsort(key, kind="stable")]
            for turn, lane in enumerate(lanes):
                order[lane_bounds[lane] : lane_bounds[lane + 1]] = draws[turn :: len(lanes)].reshape(-1)

    def _readings(self, epoch: int) -> list[_Reading]:
        weights = self.weights(epoch)
        quota = quotas(weights.weights, self.draws, seed=self.seed, epoch=epoch) * self.samples_per_draw
        return [self._reading(stratum, weights, quota[stratum.classes], epoch) for stratum in self._strata]

    def _reading(self, stratum: _Stratum, weights: ClassWeights, quota: NDArray[np.int64], epoch: int) -> _Reading:
        counts = self.split.class_counts[stratum.classes]
        start = self._start(stratum, weights)
        number = np.zeros(int(stratum.classes[-1]) + 1, dtype=np.uint16 if len(counts) <= 2**16 else np.uint32)
        number[stratum.classes] = np.arange(len(counts))
        labels = self.split.label[stratum.first : stratum.first + stratum.samples]
        tape = number[np.concatenate([labels[start:], labels[:start]])]
        random = words(2 * len(counts), seed=self.seed, stream=Stream.PASSES, major=epoch, minor=stratum.number)
        choices = Choices(*(random >> np.uint64(32)).astype(np.int64).reshape(2, -1))
        positions = taken_positions(tape, counts, quota, choices)
        return _Reading(stratum, start, _draws_in_a_row(positions, tape, self.samples_per_draw))

    def _start(self, stratum: _Stratum, weights: ClassWeights) -> int:
        """Where the epochs before this one stopped: the passes that their neediest class made, less the whole ones."""
        counts = self.split.class_counts[stratum.classes]
        before = [weights.before[class_id] for class_id in stratum.classes]
        neediest = int(np.argmax([done / int(count) for done, count in zip(before, counts, strict=True)]))
        whole_pass = sum(weights.weights) * int(counts[neediest])
        return before[neediest] * self.samples_per_epoch % whole_pass * stratum.samples // whole_pass

    def _cuts(self, readings: list[_Reading], epoch: int) -> NDArray[np.int64]:
        """Return where each stratum's draws are cut into pieces, int64 [strata, pieces + 1]."""
        draws = np.array([len(reading.positions) for reading in readings])
        places = bounds(self._lane_lengths[self._lanes_of_piece(epoch)].sum(axis=1))
        if self.samples_per_draw > 1:
            return np.clip(places - bounds(draws)[:-1, None], 0, draws[:, None])
        return cut_interleaved(draws, self._merge_offsets(epoch), places)

    def _progress(self, readings: list[_Reading], epoch: int) -> list[tuple[float, float]]:
        """Return the place of each stratum's first draw in the merged order, and the distance between its draws."""
        draws = np.array([len(reading.positions) for reading in readings])
        if self.samples_per_draw > 1:
            return [(float(before), 1.0) for before in bounds(draws)[:-1]]
        apart = self.draws / np.maximum(draws, 1)
        return list(zip(self._merge_offsets(epoch) * apart, apart, strict=True))

    def _merge_offsets(self, epoch: int) -> NDArray[np.float64]:
        return uniforms(len(self._strata), seed=self.seed, stream=Stream.MERGE, major=epoch)

    @cached_property
    def _lane_lengths(self) -> NDArray[np.int64]:
        return lane_lengths(self.draws, self.lanes)

    def _lanes_of_piece(self, epoch: int) -> NDArray[np.int64]:
        """The lanes that take turns at each piece of the merged order, int64 [pieces, lanes of a piece].

        Draws of k images make the stretches k times as long with k lanes at each. Lanes of one piece are as
        far apart as can be, so that they belong to one rank as long as there are no more ranks than pieces.
        """
        together = gcd(self.lanes, self.samples_per_draw)
        pieces = self.lanes // together
        if self.draws <= self.lanes * self.shuffle_window:
            # A small set is read whole by everyone: which lane has which piece may change, for better mixing.
            first = permutation(pieces, seed=self.seed, stream=Stream.MERGE, major=epoch, minor=1)
        elif together > 1:
            first = spread(pieces)
        else:
            first = np.arange(pieces)
        return first[:, None] + pieces * np.arange(together)

    def _digest(self, epoch: int) -> str:
        """Name everything that the plan of an epoch depends on."""
        parts = {
            "version": VERSION,
            "split": self.split.record.model_dump(mode="json"),
            "weights": [str(weight) for weight in self.weights(epoch).weights],
            "before": [str(weight) for weight in self.weights(epoch).before],
            "samples_per_draw": self.samples_per_draw,
            "draws": self.draws,
            "seed": self.seed,
            "epoch": epoch,
            "lanes": self.lanes,
            "shuffle_window": self.shuffle_window,
        }
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _draws_in_a_row(positions: NDArray[np.int64], tape: NDArray[np.unsignedinteger], size: int) -> NDArray[np.int64]:
    """Group positions into draws of `size` consecutive images of a class, in order of their first; [draws, size]."""
    if size == 1:
        return positions[:, None]
    by_class = positions[np.argsort(tape[positions % len(tape)], kind="stable")].reshape(-1, size)
    return by_class[np.argsort(by_class[:, 0], kind="stable")]


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
