"""How well the plan mixes, beside shuffles of the same draws: over time, over ranks and from epoch to epoch.

Every row has the same measures of the plan and of true shuffles; where both agree, mixing costs the training nothing.
"""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.mixing_measures import (
    distance_of_distributions,
    distinct_classes,
    gaps,
    in_draws,
    parts_of_epoch,
    places_in_both,
    rank_of_position,
    share_scores,
    shuffled,
    span_probabilities,
    spans,
    together_again,
)
from benchmarks.plan import inaturalist_counts
from benchmarks.report import Table, main
from benchmarks.synthetic import synthetic_split
from ltrsys.data.config import make_sampler
from ltrsys.data.index.dataset import Split
from ltrsys.data.plan.planner import Planner
from ltrsys.data.plan.samplers.base import Sampler
from ltrsys.metrics.accuracy import shot_of_class
from ltrsys.metrics.config import ShotsConfig

LANES = 192
EPOCHS = 90
RANKS = (2, 4, 8, 16, 64)
MICRO_BATCHES = 8
PLACES_FILE = Path(__file__).parent / "places_lt_class_counts.json"
DIVISORS = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 192, 384, 576, 768, 960]
"""Of the number of lanes, and multiples of it: where anything evenly spaced would meet itself again."""


def places_lt_counts() -> NDArray[np.int64]:
    """Return the training images of each class of Places-LT."""
    return np.array(json.loads(PLACES_FILE.read_text())["counts"])


def divisor_counts() -> NDArray[np.int64]:
    """Return class counts that are all divisors or multiples of the number of lanes."""
    return np.repeat(DIVISORS, 30)


def samplers(class_counts: NDArray[np.int64], folder: Path) -> list[tuple[str, Sampler, int]]:
    """Return every sampler with its name and an epoch of 90; `folder` takes the file of class weights."""
    weights = folder / "weights.json"
    weights.write_text(json.dumps((1 / np.maximum(class_counts, 20) ** 0.5).tolist()))
    return [
        ("instance", make_sampler(), 45),
        ("power, q = 0.75", make_sampler(kind="power", q=0.75), 45),
        ("square_root", make_sampler(kind="square_root"), 45),
        ("power, q = 0.25", make_sampler(kind="power", q=0.25), 45),
        ("class_balanced", make_sampler(kind="class_balanced"), 45),
        ("progressive, epoch 1", make_sampler(kind="progressive"), 0),
        ("progressive, epoch 31", make_sampler(kind="progressive"), 30),
        ("progressive, epoch 84", make_sampler(kind="progressive"), 83),
        ("weights", make_sampler(kind="weights", weights=weights), 45),
        ("class_aware, k = 2", make_sampler(kind="class_aware", samples_per_draw=2), 45),
        ("class_aware, k = 4", make_sampler(kind="class_aware", samples_per_draw=4), 45),
    ]


def measure(quick: bool) -> list[Table]:
    """Measure every sampler at the counts of iNaturalist 2018 and Places-LT, and of divisors of the lanes' number."""
    counts = {"Places-LT": (places_lt_counts(), 256)}
    if not quick:
        counts = {"iNaturalist 2018 (fitted)": (inaturalist_counts(), 512), **counts}
        counts["divisors and multiples of 192"] = (divisor_counts(), 512)
    epochs = 1 if quick else 5
    tables = []
    with tempfile.TemporaryDirectory() as folder:
        for name, (class_counts, batch_size) in counts.items():
            mixed = [
                Mixing(sampler_name, synthetic_split(class_counts), sampler, batch_size=batch_size, first=epoch)
                for sampler_name, sampler, epoch in samplers(class_counts, Path(folder))
            ]
            tables += [
                _table(f"Over time: {name}, batches of {batch_size}", [one.over_time(epochs) for one in mixed], TIME),
                _table(f"Over ranks: {name}", [one.over_ranks(epochs) for one in mixed], OVER_RANKS),
                _table(f"From epoch to epoch: {name}", [one.over_epochs() for one in mixed], OVER_EPOCHS),
            ]
    return tables


TIME = [
    "halves, quarters: standard deviation over the classes of their shares of halves and quarters of the epoch, in "
    "that of sampling without replacement.",
    "beyond 4: of 10,000 shares of halves, those more than 4 standard deviations off.",
    "in a quarter: classes of 24 or more draws that are all seen within a quarter of the epoch.",
    "narrowest: how probable it is that the class within least of the epoch, of all with 24 or more draws, is so by "
    "chance.",
    "gaps: largest distance of the cumulative distribution of the gaps between batches with a class from that of a "
    "shuffle; 'shuffled' is another shuffle's.",
]
OVER_RANKS = [
    "ranks W: the largest deviation of a rank's share of many-, medium- and few-shot images over an epoch, over all "
    "ranks, in standard deviations of independent dealing.",
    "classes: standard deviation of the ranks' shares of each class with 50 or more draws, in that of independent "
    f"dealing, largest over the numbers of ranks {', '.join(map(str, RANKS))}; below 1 is more even.",
    f"distinct: classes in a micro-batch, {MICRO_BATCHES} a batch; 'shuffled' deals the images of a batch at random.",
]
OVER_EPOCHS = [
    "+1, +2, +5: correlation of an image's place with that so many epochs later.",
    "move: the mean distance of an image's places in two epochs, 1/3 at random.",
    "together: pairs of images of two classes that share a batch and share one again in the next epoch, in what is "
    "expected by chance; error: the standard deviation of that.",
]


class Mixing:
    """The plan of one sampler at some class counts, and what is measured of it."""

    def __init__(self, name: str, split: Split, sampler: Sampler, *, batch_size: int, first: int) -> None:
        """Prepare the planner; epochs are counted from `first` on."""
        self.name, self.split, self.batch_size, self.first = name, split, batch_size, first
        self.labels = split.label.astype(np.int64)
        self.planner = Planner(split, sampler, seed=0, num_epochs=EPOCHS, lanes=LANES, batch_size=batch_size)
        self.in_a_row = self.planner.samples_per_draw
        self.random = np.random.default_rng(0)

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Return the sample ids of an epoch in global order."""
        plan = self.planner.epoch(self.first + epoch)
        return plan.samples(np.arange(len(plan)))

    def in_draws(self, order: NDArray[np.int64], labels: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return `order` with the images of each draw side by side."""
        return in_draws(order, labels, self.batch_size, self.in_a_row)

    def orders(self, epochs: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Yield the labels of each epoch in the order of the plan, and shuffled."""
        for epoch in range(epochs):
            order = self.order(epoch)
            draws = self.in_draws(order, self.labels[order])
            yield self.labels[order], self.labels[shuffled(draws, self.in_a_row, self.random)]

    def over_time(self, epochs: int) -> dict[str, Any]:
        """Measure how the draws of a class lie in time."""
        found: dict[str, list[NDArray[Any]]] = {}

        def add(name: str, values: NDArray[Any]) -> None:
            found.setdefault(name, []).append(values.reshape(-1))

        for plan, shuffle in self.orders(epochs):
            for who, labels in (("plan", plan), ("shuffle", shuffle)):
                draws = self.in_draws(labels, labels)[:: self.in_a_row]
                add(f"{who} halves", share_scores(draws, parts_of_epoch(len(draws), 2)))
                add(f"{who} quarters", share_scores(draws, parts_of_epoch(len(draws), 4)))
                add(f"{who} spans", span_probabilities(draws))
                add(f"{who} within", spans(draws)[0] < 1 / 4)
                add(f"{who} gaps", gaps(draws, self.batch_size // self.in_a_row))
            draws = self.random.permutation(self.in_draws(plan, plan)[:: self.in_a_row])
            add("other gaps", gaps(draws, self.batch_size // self.in_a_row))
        all_of = {name: np.concatenate(values) for name, values in found.items()}

        def columns(who: str) -> list[Any]:
            halves, probabilities = all_of[f"{who} halves"], all_of[f"{who} spans"]
            return [
                float(np.sqrt(np.mean(halves**2))),
                float(np.sqrt(np.mean(all_of[f"{who} quarters"] ** 2))),
                float(np.mean(abs(halves) > 4) * 1e4),
                int(all_of[f"{who} within"].sum()),
                float(1 - (1 - probabilities.min()) ** len(probabilities)) if len(probabilities) else None,
                distance_of_distributions(all_of[f"{who} gaps"], all_of["other gaps"]) if len(probabilities) else None,
            ]

        names = ["halves", "quarters", "beyond 4", "in a quarter", "narrowest", "gaps"]
        return _beside(self.name, names, columns("plan"), columns("shuffle"))

    def over_ranks(self, epochs: int) -> dict[str, Any]:
        """Measure what each rank gets of the epoch."""
        _, shots = np.unique(shot_of_class(self.split.class_counts, ShotsConfig()), return_inverse=True)
        worst = {who: dict.fromkeys(RANKS, 0.0) for who in ("plan", "shuffle")}
        evenness: dict[tuple[str, int], list[NDArray[np.float64]]] = {}
        distinct: dict[str, list[float]] = {"plan": [], "shuffle": []}
        for orders in self.orders(epochs):
            for who, labels in zip(("plan", "shuffle"), orders, strict=True):
                micro_batch = rank_of_position(self.batch_size, MICRO_BATCHES, LANES, len(labels), self.in_a_row)
                if who == "shuffle":
                    batches = micro_batch.reshape(-1, self.batch_size)
                    micro_batch = self.random.permuted(batches, axis=1).reshape(-1)
                distinct[who].append(distinct_classes(labels, self.batch_size, micro_batch))
                for ranks in RANKS:
                    rank = rank_of_position(self.batch_size, ranks, LANES, len(labels), self.in_a_row)
                    if who == "shuffle":
                        rank = self.random.permutation(rank)
                    used = labels[: len(rank)]
                    scores = share_scores(shots[used], rank)
                    worst[who][ranks] = max(worst[who][ranks], float(abs(scores).max()))
                    often = np.bincount(used)[used] >= 50
                    if often.any():
                        evenness.setdefault((who, ranks), []).append(share_scores(used[often], rank[often]).reshape(-1))

        def columns(who: str) -> list[Any]:
            deviations = [
                float(np.sqrt(np.mean(np.concatenate(values) ** 2)))
                for (whose, _), values in evenness.items()
                if whose == who
            ]
            return [*worst[who].values(), max(deviations, default=None), float(np.mean(distinct[who]))]

        names = [*(f"ranks {ranks}" for ranks in RANKS), "classes", "distinct"]
        return _beside(self.name, names, columns("plan"), columns("shuffle"))

    def over_epochs(self) -> dict[str, Any]:
        """Measure what an epoch has in common with later ones."""
        row: dict[str, Any] = {"sampler": self.name}
        one = self.order(0)
        both = {later: places_in_both(one, self.order(later), self.random) for later in (1, 2, 5)}
        for later, (_, place, other) in both.items():
            row[f"+{later}"] = float(np.corrcoef(place, other)[0, 1])
        samples, place, other = both[1]
        again, expected = together_again(self.labels[samples], place // self.batch_size, other // self.batch_size)
        move = float(abs(place - other).mean() / len(one))
        return row | {"move": move, "together": again / expected, "error": expected**-0.5}


def _beside(name: str, columns: list[str], plan: list[Any], shuffle: list[Any]) -> dict[str, Any]:
    """Return a row that has each measure of the plan and, after it, of the shuffle."""
    row: dict[str, Any] = {"sampler": name}
    for column, value, other in zip(columns, plan, shuffle, strict=True):
        row |= {column: value, f"{column}, shuffled": other}
    return row


def _table(title: str, rows: list[dict[str, Any]], notes: list[str]) -> Table:
    return Table(title, list(rows[0]), rows, notes)


if __name__ == "__main__":
    main("mixing", measure)
