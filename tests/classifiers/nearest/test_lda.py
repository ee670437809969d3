"""Linear discriminant analysis against scikit-learn's, and Ledoit and Wolf's shrinkage against its formula."""

import numpy as np
import pytest
import torch
from sklearn.covariance import ledoit_wolf
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from ltrsys.classifiers.nearest.lda import LDAConfig, LinearDiscriminant
from ltrsys.errors import DataError
from ltrsys.features import bank, covariance
from ltrsys.features.bank import BankSplit
from ltrsys.features.covariance import Spread
from tests.classifiers.accuracies import few_and_all
from tests.classifiers.conftest import CPU, NUM_CLASSES, NUM_FEATURES, LongTail, context


def fit(train: BankSplit, **config: object) -> LinearDiscriminant:
    return LinearDiscriminant.fit(context(train), LDAConfig(**config))


def deviations(train: BankSplit) -> np.ndarray:
    means = np.stack([train.features[train.labels == one].mean(axis=0, dtype=float) for one in range(NUM_CLASSES)])
    return train.features - means[train.labels]


@pytest.mark.parametrize("shrinkage", [0.0, 0.1, 1.0])
def test_it_is_scikit_learns_with_equal_priors(long_tail: LongTail, shrinkage: float, monkeypatch) -> None:
    monkeypatch.setattr(bank, "BLOCK_ROWS", 97)
    shifted = BankSplit(long_tail.train.features + 100, long_tail.train.labels, NUM_CLASSES)  # far from the origin
    theirs = LinearDiscriminantAnalysis(
        solver="lsqr", shrinkage=shrinkage, priors=np.full(NUM_CLASSES, 1 / NUM_CLASSES)
    ).fit(shifted.features.astype(float), shifted.labels)
    ours = fit(shifted, shrinkage=shrinkage)
    given = long_tail.test.features + 100
    probabilities = ours.scores(torch.from_numpy(given)).softmax(dim=1).numpy()
    np.testing.assert_allclose(probabilities, theirs.predict_proba(given.astype(float)), atol=2e-3)
    assert (probabilities.argmax(axis=1) == theirs.predict(given)).mean() > 0.99
    found = covariance.shrunk(ours.spread.covariance_DD, shrinkage).numpy()
    np.testing.assert_allclose(found, theirs.covariance_, atol=1e-8)


def test_where_each_image_counts_alike_it_is_ledoit_and_wolfs(long_tail: LongTail) -> None:
    train = long_tail.train
    spread = Spread.of_bank(train, CPU, each_class_alike=False)
    squares, shrinkage = ledoit_wolf(deviations(train), assume_centered=True)
    assert spread.ledoit_wolf(train) == pytest.approx(shrinkage, rel=1e-6)
    np.testing.assert_allclose(covariance.shrunk(spread.covariance_DD, shrinkage).numpy(), squares, atol=1e-8)
    assert fit(train, covariance="images").params()["shrinkage"] == pytest.approx(shrinkage, rel=1e-6)


def test_where_each_class_counts_alike_it_is_the_same_formula_with_weights(long_tail: LongTail, monkeypatch) -> None:
    train = long_tail.train
    spread, z = Spread.of_bank(train, CPU, each_class_alike=True), deviations(train)
    weights = 1 / (train.class_counts[train.labels] * NUM_CLASSES)
    squares = (weights[:, None] * z).T @ z
    np.testing.assert_allclose(spread.covariance_DD.numpy(), squares, atol=1e-10)
    error = sum(w**2 * ((np.outer(row, row) - squares) ** 2).sum() for w, row in zip(weights, z, strict=True))
    distance = ((squares - np.trace(squares) / NUM_FEATURES * np.eye(NUM_FEATURES)) ** 2).sum()
    exact = spread.ledoit_wolf(train)
    assert exact == pytest.approx(error / distance, rel=1e-6)
    monkeypatch.setattr(covariance, "SAMPLE", 20 * NUM_CLASSES)
    assert spread.ledoit_wolf(train) == pytest.approx(exact, rel=0.2), "a part of the images stands for all"
    assert spread.ledoit_wolf(train) != exact


def test_it_helps_the_rare_classes(long_tail: LongTail) -> None:
    few, everything = few_and_all(fit(long_tail.train), long_tail)
    joint_few, joint_all = few_and_all(long_tail.joint, long_tail)
    assert few >= joint_few + 8
    assert everything > joint_all


def test_a_class_without_an_image_is_never_predicted(long_tail: LongTail) -> None:
    present = long_tail.train.labels != 3
    scores = fit(BankSplit(long_tail.train.features[present], long_tail.train.labels[present], NUM_CLASSES)).scores(
        torch.from_numpy(long_tail.test.features)
    )
    assert scores[:, 3].isneginf().all()
    assert scores[:, torch.arange(NUM_CLASSES) != 3].isfinite().all()


def test_a_singular_covariance_says_what_to_give(long_tail: LongTail) -> None:
    constant = BankSplit(np.ones_like(long_tail.train.features), long_tail.train.labels, NUM_CLASSES)
    constant.features[:, 0] = long_tail.train.features[:, 0]
    with pytest.raises(DataError, match=r"singular with balance\.lda\.shrinkage=0\. Give a higher one, such as 0\.1"):
        fit(constant, shrinkage=0.0)
    assert fit(constant, shrinkage=0.1).weight_CD.isfinite().all()
