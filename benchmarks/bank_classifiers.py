"""What each classifier of the second stage costs on a bank on disk: seconds, memory, reading, and kNN beside faiss.

At the size of iNaturalist 2018: 437,513 training images of 8,142 classes, 2,048 features; LTRSYS_BANK=40000,512,2000
is another (images, features, classes). What is trained is trained for one epoch, of the ten or five of its default. On
a GPU where there is one.
"""

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from benchmarks.memory import extra_memory
from benchmarks.report import Table, main
from benchmarks.timing import clocked
from ltrsys.classifiers.base import CLASSIFIERS, Classifier, FitContext, ValSplit
from ltrsys.classifiers.joint import Joint
from ltrsys.classifiers.nearest.knn import KNNConfig, NearestNeighbours
from ltrsys.classifiers.retrained.crt import CRTConfig
from ltrsys.features.bank import BLOCK_ROWS, BankSplit, give_back
from ltrsys.features.row_reading import MappedRows, RowReader, RowsReadAhead, bring_to_cache

CPU = torch.device("cpu")
LEFT_OUT = {"cosine_no_relu", "fslwf"}
"""The first is `cosine` on other features, the second `cosine` and then episodes, whose number says what they cost. An
ensemble costs what its members do."""
TRAINED_SHARE = 1 / 16
"""Of the images, on which what is trained in epochs is trained: each of their steps costs as much as any other."""
STEPS_READ = 48
"""Steps on rows at random, whose reading is measured."""
RANKED = 512
"""Images that are ranked, which is what kNN takes its time for."""


@dataclass(frozen=True)
class Size:
    """Of a bank."""

    images: int
    features: int
    classes: int

    @classmethod
    def of_environment(cls) -> "Size":
        """Return that of iNaturalist 2018, or the three numbers of LTRSYS_BANK."""
        return cls(*map(int, os.environ.get("LTRSYS_BANK", "437513,2048,8142").split(",")))


def measure(quick: bool) -> list[Table]:
    """Fit every classifier on one bank, rank some images, and search beside faiss."""
    size = Size(2048, 32, 50) if quick else Size.of_environment()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with tempfile.TemporaryDirectory() as folder:
        train = _bank(size, Path(folder))
        queries = _queries(train)
        share = 1.0 if quick else TRAINED_SHARE
        return [
            _costs(train, queries, device, share),
            _reading(train, device),
            _neighbours(train, queries, device),
        ]


def _bank(size: Size, folder: Path) -> BankSplit:
    """Write a bank whose features are as after a ReLU, around the directions of their classes, in random order."""
    random = np.random.default_rng(0)
    shares = 1 / np.arange(1, size.classes + 1) ** 0.9
    counts = np.maximum(1, (shares / shares.sum() * (size.images - size.classes)).astype(np.int64) + 1)
    counts[0] += size.images - counts.sum()
    labels = random.permutation(np.repeat(np.arange(size.classes), counts))
    directions = random.normal(size=(size.classes, size.features)).astype(np.float32)
    path = folder / "features.npy"
    features = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(size.images, size.features))
    for first in range(0, size.images, BLOCK_ROWS):
        own = labels[first : first + BLOCK_ROWS]
        noise = random.standard_normal(size=(len(own), size.features), dtype=np.float32)
        features[first : first + len(own)] = np.maximum(0.5 * directions[own] + noise - 0.3, 0)
    features.flush()
    del features
    return BankSplit(np.load(path, mmap_mode="r"), labels, size.classes)


def _queries(train: BankSplit) -> NDArray[np.float32]:
    """Return features near some of the training images, but none of them."""
    rows = np.random.default_rng(1).integers(0, len(train), RANKED)
    noise = np.random.default_rng(2).normal(scale=0.3, size=(RANKED, train.num_features))
    return (train.features[rows] + noise).astype(np.float32)


def _costs(train: BankSplit, queries: NDArray[np.float32], device: torch.device, share: float) -> Table:
    reading = min(clocked(lambda: _read(train, device), device) for _ in range(3))
    context = _context(train, device)
    given = torch.from_numpy(queries).to(device)
    rows: list[dict[str, Any]] = [_row("reading the bank once", None, reading, None, reading, 0.0)]
    for name, fit, epochs in _fits(context, share):
        classifier, seconds, memory = _fitted(fit, device)
        ranking = min(clocked(partial(classifier.rank, given, 5), device) for _ in range(2))
        rows.append(_row(name, epochs, seconds / (share if epochs else 1), ranking, reading, memory))
    notes = (
        f"N = {len(train):,}, D = {train.num_features:,}, C = {train.num_classes:,}, on {device}; the bank has "
        f"{train.features.nbytes / 2**20:,.0f} MiB, in the operating system's cache.",
        f"Trained classifiers: one epoch, of as many as `epochs` says, from the time for {share:g} of the images. "
        f"Ranking: {RANKED} images. Memory: what the fit "
        "adds to the peak of what is resident, files that are mapped included.",
    )
    return Table("Classifiers on a bank", list(rows[0]), rows, notes)


def _context(train: BankSplit, device: torch.device) -> FitContext:
    # Of the size of trained ones. Shares by far larger logits are denormal numbers, with which a product takes 24 times
    # as long.
    weight = torch.randn(train.num_classes, train.num_features, device=device) / train.num_features**0.5
    joint = Joint(weight, torch.zeros(train.num_classes, device=device))
    return FitContext(train=train, val=None, selection=None, joint=lambda: joint, seed=0, device=device)


def _reading(train: BankSplit, device: torch.device) -> Table:
    """Compare steps of cRT on rows at random, read in each way, with steps on the same rows again and again."""
    config = CRTConfig()
    steps = max(1, round(len(train) / config.batch_size))
    batches = np.array_split(np.random.default_rng(3).permutation(len(train)), steps)[:STEPS_READ]
    assert isinstance(train.features, np.memmap)
    path = Path(str(train.features.filename))

    def asked() -> MappedRows:
        bringing.submit(bring_to_cache, path)
        return MappedRows(train, device)

    ways: dict[str, tuple[Callable[[], RowReader], bool]] = {
        "mapped, from the cache": (lambda: MappedRows(train, device), True),
        "read ahead, from the cache": (lambda: RowsReadAhead(train, path, device), True),
        "mapped, from disk": (lambda: MappedRows(train, device), False),
        "mapped, the file asked for in one piece, from disk": (asked, False),
        "read ahead, from disk": (lambda: RowsReadAhead(train, path, device), False),
    }
    same = MappedRows(train, device).rows(batches[0])

    def timed(make: Callable[[], RowReader], cached: bool) -> tuple[float, float]:
        """Return the seconds of the steps on the same rows, and of those on rows that are read."""
        bringing.submit(int).result()  # what an earlier round asked for has been asked for
        alone = clocked(partial(_steps, repeat(same, len(batches)), train.num_classes), device)
        if cached:
            _read(train, device)
        else:
            _forget(train, path)
        reader = make()
        return alone, clocked(lambda: _steps(reader.batches(batches), train.num_classes), device)

    rows: list[dict[str, Any]] = []
    with ThreadPoolExecutor(1) as bringing:
        for name, (make, cached) in ways.items():
            alone, reading = np.median([timed(make, cached) for _ in range(3)], axis=0)
            more = 100 * (reading / alone - 1)
            rows.append(
                {
                    "rows": name,
                    "a step, ms": 1000 * reading / len(batches),
                    "the same rows, ms": 1000 * alone / len(batches),
                    "more, of these steps, %": more,
                    "more, of an epoch, %": more * len(batches) / steps if make is asked else more,
                }
            )
    notes = (
        f"{len(batches)} steps of cRT, of {len(batches[0])} rows at random among {len(train):,} of "
        f"{train.num_features:,} features each. From disk: after the system was asked to forget the file.",
        f"Asked for in one piece, the file is in the cache after some seconds; an epoch has {steps} steps.",
    )
    return Table("Reading rows for gradient descent", list(rows[0]), rows, notes)


def _steps(batches: Iterable[tuple[Tensor, Tensor]], num_classes: int) -> None:
    weight_CD: Tensor | None = None
    for features_BD, labels_B in batches:
        if weight_CD is None:
            weight_CD = torch.zeros(num_classes, features_BD.shape[1], device=features_BD.device, requires_grad=True)
            optimizer = torch.optim.SGD([weight_CD], lr=0.2, momentum=0.9)
        loss = functional.cross_entropy(functional.linear(features_BD, weight_CD), labels_B)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def _forget(train: BankSplit, path: Path) -> None:
    """Have the system forget what it holds of the bank's file."""
    give_back(train.features)
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _fitted(fit: Callable[[], Classifier[Any]], device: torch.device) -> tuple[Classifier[Any], float, float]:
    """Fit once; return the classifier, the seconds, and the bytes of memory that it took."""
    found: list[Classifier[Any]] = []
    seconds: list[float] = []
    memory = extra_memory(lambda: seconds.append(clocked(lambda: found.append(fit()), device)))
    return found[0], seconds[0], memory


def _fits(context: FitContext, share: float) -> Iterator[tuple[str, Callable[[], Classifier[Any]], int | None]]:
    """Yield each classifier with what fits it, and the epochs of its default settings."""
    for method in CLASSIFIERS:
        config = method.Config()
        if method.name in LEFT_OUT or method.members(config):
            continue
        epochs = getattr(config, "epochs", None)
        if epochs is not None:
            config = config.model_copy(update={"epochs": 1})
        train = context.train if epochs is None else _first(context.train, share)
        own = replace(context, train=train, selection=method.selects_on(config, ValSplit(None)))
        yield method.name, partial(method.fit, own, config), epochs


def _first(train: BankSplit, share: float) -> BankSplit:
    """Return the first images, which are as good as any others: the bank is in random order."""
    number = max(1, round(share * len(train)))
    return replace(train, features=train.features[:number], labels=train.labels[:number])


def _row(
    what: str, epochs: int | None, seconds: float, ranking: float | None, reading: float, memory: float
) -> dict[str, Any]:
    return {
        "what": what,
        "epochs": epochs,
        "seconds": seconds,
        "readings of the bank": seconds / reading,
        "ranking, seconds": ranking,
        "memory, MiB": memory / 2**20,
    }


def _neighbours(train: BankSplit, queries: NDArray[np.float32], device: torch.device) -> Table:
    """Search the nearest training images of the queries, beside faiss on the CPU."""
    import faiss

    faiss.omp_set_num_threads(torch.get_num_threads())
    context = FitContext(train, None, None, _no_joint, 0, device)
    given, rows = torch.from_numpy(queries).to(device), []
    for distance, index in (
        ("cosine", faiss.IndexFlatIP(train.num_features)),
        ("euclidean", faiss.IndexFlatL2(train.num_features)),
    ):
        knn = NearestNeighbours.fit(context, KNNConfig.model_validate({"distance": distance}))
        normalised = distance == "cosine"
        for features, _ in train.blocks(CPU):
            index.add(_unit(features.numpy()) if normalised else features.numpy())
        asked = _unit(queries) if normalised else queries
        search, their_search = partial(knn.neighbours, given), partial(index.search, asked, knn.config.k)
        ours, theirs = search().cpu().numpy(), their_search()[1]
        rows.append(
            {
                "distance": distance,
                "ours, seconds": min(clocked(search, device) for _ in range(2)),
                "faiss, seconds": min(clocked(their_search, CPU) for _ in range(2)),
                "same ids, %": 100 * float((ours == theirs).mean()),
                "ours, MiB": extra_memory(search) / 2**20,
                "the bank, MiB": train.features.nbytes / 2**20,
            }
        )
        index.reset()
    notes = (
        f"k = {KNNConfig().k}, {len(queries)} queries on {device}; faiss holds all features in memory, on the CPU.",
        "Ids differ where distances differ by less than float32 can tell.",
    )
    return Table("Nearest training images", list(rows[0]), rows, notes)


def _unit(features: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths: NDArray[np.float32] = np.linalg.norm(features, axis=1, keepdims=True)
    return features / lengths


def _no_joint() -> Joint:
    raise AssertionError("nearest images need no joint classifier")


def _read(train: BankSplit, device: torch.device) -> None:
    for features, _ in train.blocks(device):
        features.sum()


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", str(len(os.sched_getaffinity(0))))
    main("bank_classifiers", measure)
