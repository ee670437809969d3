"""The nearest training images: which they are, and what their votes come to."""

from functools import partial
from pathlib import Path

import faiss
import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from ltrsys.classifiers.base import predicted
from ltrsys.classifiers.nearest.knn import KNNConfig, NearestNeighbours
from ltrsys.classifiers.tilt import log_prior
from ltrsys.features import bank
from ltrsys.features.bank import BankSplit
from tests.classifiers.accuracies import few_and_all
from tests.classifiers.conftest import CPU, NUM_CLASSES, NUM_FEATURES, LongTail, context
from tests.classifiers.test_modules import check


def fit(train: BankSplit, **config: object) -> NearestNeighbours:
    return NearestNeighbours.fit(context(train), KNNConfig(**config))


def features_of(split: BankSplit) -> torch.Tensor:
    return torch.from_numpy(split.features)


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
@pytest.mark.parametrize("k", [1, 20, 1190])
@pytest.mark.long
def test_the_neighbours_are_those_of_faiss(long_tail: LongTail, distance, k: int, monkeypatch) -> None:
    monkeypatch.setattr(bank, "BLOCK_ROWS", 211)  # several blocks, the last one smaller
    train, queries = long_tail.train, long_tail.test.features
    index, given = faiss.IndexFlatL2(NUM_FEATURES), (train.features, queries)
    if distance == "cosine":
        index = faiss.IndexFlatIP(NUM_FEATURES)
        given = tuple(one / np.linalg.norm(one, axis=1, keepdims=True) for one in given)
    index.add(given[0])
    _, theirs = index.search(given[1], k)
    ours = fit(train, k=k, distance=distance).neighbours(torch.from_numpy(queries)).numpy()
    assert ours.shape == (len(queries), k)
    # float32 orders near ties in its own way: of more than a thousand neighbours some differ by its last bit
    assert (ours == theirs).mean() == 1 if k <= 20 else (ours == theirs).mean() > 0.995


def test_without_gamma_the_votes_are_scikit_learns(long_tail: LongTail) -> None:
    ours = fit(long_tail.train, k=15, gamma=0.0, distance="euclidean")
    theirs = KNeighborsClassifier(15).fit(long_tail.train.features, long_tail.train.labels)
    counted = 15 * theirs.predict_proba(long_tail.test.features)
    scores = ours.scores(features_of(long_tail.test)).exp().numpy()
    shares = long_tail.train.class_counts / len(long_tail.train)
    np.testing.assert_allclose(scores, np.maximum(counted, shares), rtol=1e-5)
    np.testing.assert_array_equal(scores.argmax(axis=1), theirs.predict(long_tail.test.features))


def test_gamma_is_a_tilt_of_the_votes(long_tail: LongTail) -> None:
    plain, divided = (fit(long_tail.train, gamma=gamma).scores(features_of(long_tail.test)) for gamma in (0.0, 0.7))
    tilted = plain - 0.7 * log_prior(long_tail.train.class_counts)
    torch.testing.assert_close(divided.softmax(dim=1), tilted.softmax(dim=1))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0])
def test_a_class_with_a_vote_stands_above_all_without(long_tail: LongTail, gamma: float) -> None:
    knn = fit(long_tail.train, k=3, gamma=gamma)
    scores, rows = knn.scores(features_of(long_tail.test)), knn.neighbours(features_of(long_tail.test))
    voted = torch.zeros_like(scores, dtype=torch.bool).scatter(1, knn.labels_n[rows], True)
    worst = scores.masked_fill(~voted, torch.inf).amin(dim=1)
    best_without = scores.masked_fill(voted, -torch.inf).amax(dim=1)
    assert (worst > best_without).all()


def test_dividing_votes_helps_the_rare_classes(long_tail: LongTail) -> None:
    plain, divided = (few_and_all(fit(long_tail.train, gamma=gamma), long_tail) for gamma in (0.0, 0.5))
    assert divided[0] >= plain[0] + 8
    assert divided[1] > plain[1]


def test_a_class_without_an_image_is_never_predicted(long_tail: LongTail) -> None:
    present = long_tail.train.labels != 3
    train = BankSplit(long_tail.train.features[present], long_tail.train.labels[present], NUM_CLASSES)
    knn = fit(train)
    scores = knn.scores(features_of(long_tail.test))
    assert scores[:, 3].isneginf().all()
    assert scores[:, torch.arange(NUM_CLASSES) != 3].isfinite().all()
    check(knn, long_tail)


def test_of_fewer_images_than_k_all_vote(long_tail: LongTail) -> None:
    few = BankSplit(long_tail.val.features[:8], long_tail.val.labels[:8], NUM_CLASSES)
    knn = fit(few, k=20, gamma=0.0)
    assert knn.neighbours(features_of(long_tail.test)).shape == (len(long_tail.test), 8)
    votes = np.bincount(few.labels, minlength=NUM_CLASSES).astype(np.float32)
    np.testing.assert_allclose(knn.scores(features_of(long_tail.test)).exp().numpy()[0], votes, rtol=1e-6)
    check(knn, long_tail)


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_its_module_searches_by_one_product(long_tail: LongTail, distance) -> None:
    shifted = BankSplit(long_tail.train.features + 10, long_tail.train.labels, NUM_CLASSES)
    test = BankSplit(long_tail.test.features + 10, long_tail.test.labels, NUM_CLASSES)
    check(fit(shifted, k=5, distance=distance), LongTail(shifted, test, test, long_tail.joint))


def test_the_features_stay_in_the_file_of_the_bank(long_tail: LongTail, tmp_path: Path) -> None:
    np.save(tmp_path / "features.npy", long_tail.train.features)
    mapped = np.load(tmp_path / "features.npy", mmap_mode="r")
    knn = fit(BankSplit(mapped, long_tail.train.labels, NUM_CLASSES))
    assert knn.features_nD.data_ptr() == mapped.ctypes.data
    in_memory = fit(long_tail.train)
    features = features_of(long_tail.test)
    assert torch.equal(knn.scores(features), in_memory.scores(features))
    assert torch.equal(knn.scores(features), in_memory.scores(features)), "what was given back is read again"


def test_a_sweep_predicts_as_each_fit_does(long_tail: LongTail) -> None:
    configs = [
        KNNConfig(k=k, gamma=gamma, distance=d)
        for k, gamma, d in ((1, 0, "cosine"), (9, 0.5, "euclidean"), (30, 1, "cosine"))
    ]
    swept = NearestNeighbours.sweep(context(long_tail.train), configs, long_tail.val)
    for predictions, config in zip(swept, configs, strict=True):
        alone = predicted(partial(NearestNeighbours.fit, context(long_tail.train), config), long_tail.val, CPU)
        np.testing.assert_array_equal(predictions, alone)
