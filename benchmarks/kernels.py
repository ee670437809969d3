"""The operations of the second stage beside what else would compute them, on a CPU: time, memory, and equal answers.

At the size of iNaturalist 2018: 24,426 test images, 8,142 classes, 2,048 features of a ResNet. Every case of a table
takes its turn in each round, with the same threads; a ratio is the median over the rounds of ratios within a round.
"""

import os
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import tau_logits
from benchmarks.memory import extra_memory
from benchmarks.report import Table, interleaved, main
from ltrsys.features.bank import BankSplit
from ltrsys.kernels import class_sums, ncm_search, norm_factor, tau_sweep
from ltrsys.kernels.cpu.bounded_products import fast_products

CLASSES, FEATURES = 8142, 2048
TEST_IMAGES, TRAIN_IMAGES = 24_426, 437_513
TAUS = torch.linspace(0, 2, 21)
ROWS_OF_A_PRODUCT = 1024
"""Peers multiply this many features at once, into the same memory: a whole product would be 795 MB of page faults."""
ROWS_IN_CACHE = 64
"""Features whose scores, 2 MiB, are scaled for every tau before those of others; of 1 to 1,024 this is the fastest."""


def measure(quick: bool) -> list[Table]:
    """Measure each operation, and a sweep over a bank on disk."""
    samples = [512] if quick else [TEST_IMAGES, 6144]
    rounds = 1 if quick else 5
    tables = [tau_logits.table(64 if quick else 512, CLASSES, _seconds, rounds, _machine())]
    for rows in samples:
        data = Data.structured(rows)
        tables += [_sweep(data, rounds), _search(data, rounds)]
    tables.append(_sums(Data.structured(samples[0]), rounds))
    tables.append(_by_data(rounds, Data.structured(samples[-1]), Data.noise(samples[-1])))
    tables.append(_bank(2048 if quick else TRAIN_IMAGES))
    return tables


class Data:
    """Features, labels, class weights and class means."""

    def __init__(self, name: str, features: Tensor, labels: Tensor, weight: Tensor) -> None:
        self.name = name
        self.features_ND = features
        self.labels_N = labels
        self.weight_CD = weight

    @classmethod
    def structured(cls, rows: int) -> "Data":
        """Make features as a network gives them after a ReLU: not negative, each around the direction of its class."""
        generator = torch.Generator().manual_seed(0)
        directions_CD = torch.randn(CLASSES, FEATURES, generator=generator)
        labels_N = torch.randint(0, CLASSES, (rows,), generator=generator)
        features_ND = torch.randn(rows, FEATURES, generator=generator)
        features_ND.add_(directions_CD[labels_N], alpha=0.5).sub_(0.3).relu_().mul_(0.6)
        lengths_C1 = torch.logspace(-0.3, 0.3, CLASSES)[:, None]
        noise_CD = torch.randn(CLASSES, FEATURES, generator=generator)
        weight_CD = directions_CD.mul_(0.03).add_(noise_CD, alpha=0.02).mul_(lengths_C1)
        return cls("features after a ReLU, around their classes", features_ND, labels_N, weight_CD)

    @classmethod
    def noise(cls, rows: int) -> "Data":
        """Make features and weights that have nothing to do with one another: no class stands out."""
        generator = torch.Generator().manual_seed(0)
        return cls(
            "Gaussian noise",
            torch.randn(rows, FEATURES, generator=generator),
            torch.randint(0, CLASSES, (rows,), generator=generator),
            torch.randn(CLASSES, FEATURES, generator=generator) * torch.logspace(-0.3, 0.3, CLASSES)[:, None],
        )


def _sweep(data: Data, rounds: int) -> Table:
    features, weight = data.features_ND, data.weight_CD
    answers: dict[str, Tensor] = {}

    def ours() -> None:
        answers["ours"] = tau_sweep(features, weight, TAUS)

    def one_product() -> None:
        answers["one product"] = _scaled_in_cache(features, weight)

    def tau_by_tau() -> None:
        answers["tau by tau"] = _tau_by_tau(features, weight, 0.7)

    cases: dict[str, Callable[[], Any]] = {
        "tau_sweep, 21 values of tau": ours,
        "one float32 product": partial(_product, features, weight, lambda rows, scores: None),
        "one float32 product and arg max": partial(_product, features, weight, lambda rows, scores: scores.argmax(1)),
        "one float32 product, 21 scalings and arg maxima": one_product,
        "tau by tau (1 of 21, times 21)": tau_by_tau,
    }
    times = _times(cases, rounds)
    times["tau by tau (1 of 21, times 21)"] = [21 * one for one in times["tau by tau (1 of 21, times 21)"]]
    equal = float((answers["ours"] == answers["one product"]).double().mean())
    equal_at_7 = float((answers["ours"][7] == answers["tau by tau"]).double().mean())
    memory = extra_memory(lambda: tau_sweep(features, weight, TAUS))
    notes = (
        f"N = {len(features):,}, C = {CLASSES:,}, D = {FEATURES:,}; {data.name}; {_machine()}",
        f"tau_sweep needs {memory / 2**20:.0f} MiB beyond its inputs and its result.",
        f"{100 * equal:.3f} % of its answers are those of the scaled float32 product; at tau = 0.7, "
        f"{100 * equal_at_7:.3f} % those of the float32 product of normalised weights.",
        f"Scalings and arg maxima are taken {ROWS_IN_CACHE} features at a time, while their scores are in the caches.",
        "Tau by tau is a loop over the classes to normalise them, the product and the arg max, for each tau.",
    )
    return Table(f"tau_sweep, {len(features):,} features", *_rows(times, "ours / this"), notes)


def _search(data: Data, rounds: int) -> Table:
    import faiss

    faiss.omp_set_num_threads(torch.get_num_threads())
    features = torch.nn.functional.normalize(data.features_ND)
    means = torch.nn.functional.normalize(data.weight_CD)
    index = faiss.IndexFlatIP(FEATURES)
    index.add(means.numpy())
    rows = []
    for k in (1, 5, 100):
        cases: dict[str, Callable[[], Any]] = {
            "ncm_search": partial(ncm_search, features, means, k),
            "faiss IndexFlatIP": partial(index.search, features.numpy(), k),
            "float32 product and topk": partial(_product, features, means, partial(_topk, k)),
        }
        times = _times(cases, rounds)
        same = float((ncm_search(features, means, k)[1].numpy() == index.search(features.numpy(), k)[1]).mean())
        columns, lines = _rows(times, "ours / this")
        rows += [{"k": k, **line, "same ids, %": 100 * same} for line in lines]
    columns = ("k", *columns, "same ids, %")
    notes = (
        f"N = {len(features):,}, C = {CLASSES:,}, D = {FEATURES:,}, cosine; {data.name}; {_machine()}",
        "Same ids: as faiss, whose order of near ties is that of float32's rounding; ours is that of float64.",
    )
    return Table(f"ncm_search, {len(features):,} features", columns, rows, notes)


def _sums(data: Data, rounds: int) -> Table:
    features, labels = data.features_ND, data.labels_N
    index = labels[:, None].expand(-1, FEATURES)
    cases: dict[str, Callable[[], Any]] = {
        "class_sums": lambda: class_sums(features, labels, CLASSES),
        "class_sums, normalised": lambda: class_sums(features, labels, CLASSES, normalize=True),
        "index_add_": lambda: torch.zeros(CLASSES, FEATURES).index_add_(0, labels, features),
        "scatter_reduce_": lambda: torch.zeros(CLASSES, FEATURES).scatter_reduce_(0, index, features, "sum"),
        "mean by mask, class by class": lambda: _means_by_mask(features, labels),
    }
    times = _times(cases, rounds)
    notes = (
        f"N = {len(features):,}, C = {CLASSES:,}, D = {FEATURES:,}; {_machine()}",
        "The peers add float32 in the order of the rows; class_sums also looks for NaN, and its additions are exact.",
    )
    return Table("class_sums", *_rows(times, "ours / this"), notes)


def _by_data(rounds: int, *all_data: Data) -> Table:
    """What screening leaves open depends on the data, and with it the time that a search takes."""
    rows = []
    for data in all_data:
        features, weight = data.features_ND[:ROWS_OF_A_PRODUCT], data.weight_CD
        cases: dict[str, Callable[[], Any]] = {
            "float32 product": partial(_product, features, weight, lambda rows, scores: None),
            "tau_sweep": partial(tau_sweep, features, weight, TAUS),
            **{f"ncm_search, k = {k}": partial(ncm_search, features, weight, k) for k in (1, 5, 100)},
        }
        times = _times(cases, rounds)
        product = times.pop("float32 product")
        rows += [
            {
                "data": data.name,
                "operation": name,
                "over the float32 product": median(a / b for a, b in zip(seconds, product, strict=True)),
            }
            for name, seconds in times.items()
        ]
    return Table(f"By data, {len(features):,} features", list(rows[0]), rows)


def _bank(num_rows: int) -> Table:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "features.npy"
        data = Data.structured(min(num_rows, 8192))
        features = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(num_rows, FEATURES))
        for first in range(0, num_rows, len(data.features_ND)):
            count = min(len(data.features_ND), num_rows - first)
            features[first : first + count] = data.features_ND[:count]
        features.flush()
        del features
        split = BankSplit(np.load(path, mmap_mode="r"), np.zeros(num_rows, dtype=np.int64), CLASSES)

        def sweep() -> None:
            for block, _ in split.blocks(torch.device("cpu")):
                tau_sweep(block, data.weight_CD, TAUS)

        started = time.perf_counter()
        memory = extra_memory(sweep)
        seconds = time.perf_counter() - started
    mebibytes = num_rows * FEATURES * 4 / 2**20
    row = {"rows": num_rows, "seconds": seconds, "bank, MiB": mebibytes, "memory, MiB": memory / 2**20}
    return Table("One sweep over a bank on disk", list(row), [row], (f"21 values of tau; {_machine()}",))


def _product(features: Tensor, vectors: Tensor, use: Callable[[slice, Tensor], Any]) -> None:
    """Multiply in blocks into the same memory, and do something with each block."""
    scores = torch.empty(min(ROWS_OF_A_PRODUCT, len(features)), len(vectors))
    for first in range(0, len(features), ROWS_OF_A_PRODUCT):
        rows = slice(first, min(first + ROWS_OF_A_PRODUCT, len(features)))
        part = scores[: rows.stop - rows.start]
        torch.mm(features[rows], vectors.T, out=part)
        use(rows, part)


def _topk(k: int, rows: slice, scores: Tensor) -> None:
    scores.topk(k, dim=1)


def _scaled_in_cache(features: Tensor, weight: Tensor) -> Tensor:
    """Multiply once; scale the scores and take the best, for every tau, while a few rows of them are in the caches."""
    factors_TC = norm_factor(weight, TAUS[:, None])
    classes_TN = torch.empty(len(TAUS), len(features), dtype=torch.int64)
    scaled = torch.empty(ROWS_IN_CACHE, len(weight))

    def best(rows: slice, scores: Tensor) -> None:
        blocks = zip(scores.split(ROWS_IN_CACHE), classes_TN[:, rows].split(ROWS_IN_CACHE, dim=1), strict=True)
        for part, found in blocks:
            for factor, classes in zip(factors_TC, found, strict=True):
                torch.mul(part, factor, out=scaled[: len(part)])
                torch.argmax(scaled[: len(part)], dim=1, out=classes)

    _product(features, weight, best)
    return classes_TN


def _tau_by_tau(features: Tensor, weight: Tensor, tau: float) -> Tensor:
    """Normalise class by class, multiply, and take the best: what a sweep costs for one tau without `tau_sweep`."""
    scaled = torch.stack([vector / vector.norm() ** tau for vector in weight])
    classes = torch.empty(len(features), dtype=torch.int64)

    def best(rows: slice, scores: Tensor) -> None:
        classes[rows] = scores.argmax(dim=1)

    _product(features, scaled, best)
    return classes


def _means_by_mask(features: Tensor, labels: Tensor) -> Tensor:
    means = torch.zeros(CLASSES, FEATURES)
    for class_id in range(CLASSES):
        mask = labels == class_id
        if mask.any():
            means[class_id] = features[mask].mean(dim=0)
    return means


def _times(cases: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    for case in cases.values():
        case()  # once, to have everything loaded and compiled
    return interleaved({name: partial(_seconds, case) for name, case in cases.items()}, rounds)


def _rows(times: Mapping[str, list[float]], ratio: str) -> tuple[tuple[str, ...], list[dict[str, Any]]]:
    ours = next(iter(times.values()))
    return ("way", "seconds", ratio), [
        {
            "way": name,
            "seconds": median(seconds),
            ratio: median(one / other for one, other in zip(ours, seconds, strict=True)),
        }
        for name, seconds in times.items()
    ]


def _seconds(task: Callable[[], Any]) -> float:
    """Time a task: with one thread its CPU time, which others on a shared machine lengthen least."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    started = clock()
    task()
    return clock() - started


def _machine() -> str:
    threads = torch.get_num_threads()
    clock = "1 thread, CPU time" if threads == 1 else f"{threads} threads"
    return f"instructions for {', '.join(sorted(fast_products()))}; {clock}."


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", str(len(os.sched_getaffinity(0))))
    main("kernels", measure)
