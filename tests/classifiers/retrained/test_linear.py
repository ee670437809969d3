"""Fresh linear classifiers that see every image alike: the probe, and the balanced softmax."""

import numpy as np
import pytest
import torch

from ltrsys.classifiers.retrained.balanced_softmax import BalancedSoftmaxClassifier, BalancedSoftmaxConfig
from ltrsys.classifiers.retrained.linear import LinearConfig, LinearProbe
from ltrsys.errors import DataError
from ltrsys.features.bank import BankSplit
from tests.classifiers.accuracies import few_and_all
from tests.classifiers.conftest import NUM_CLASSES, LongTail, context

SHORT = {"epochs": 8, "lr": 0.1, "batch_size": 64}
BOTH = [(LinearProbe, LinearConfig), (BalancedSoftmaxClassifier, BalancedSoftmaxConfig)]


def test_the_probe_prefers_frequent_classes_and_the_balanced_softmax_does_not(long_tail: LongTail) -> None:
    probe = LinearProbe.fit(context(long_tail.train), LinearConfig(**SHORT))
    balanced = BalancedSoftmaxClassifier.fit(context(long_tail.train), BalancedSoftmaxConfig(**SHORT))
    probe_few, probe_all = few_and_all(probe, long_tail)
    few, everything = few_and_all(balanced, long_tail)
    assert few >= probe_few + 8
    assert everything > probe_all
    features = torch.from_numpy(long_tail.train.features)
    right = (probe.scores(features).argmax(dim=1).numpy() == long_tail.train.labels).mean()
    assert right > 0.7, "of the images that it was trained on"


def test_their_probabilities_are_right_for_the_frequencies_that_they_say(long_tail: LongTail) -> None:
    """With every image once, and nothing that holds them back, the mean probability of a class is its frequency."""
    config = {"epochs": 400, "lr": 0.2, "batch_size": 10**6, "weight_decay": 0.0}
    counts = long_tail.train.class_counts
    features = torch.from_numpy(long_tail.train.features)
    for kind, section in BOTH:
        fitted = kind.fit(context(long_tail.train), section(**config))
        frequencies = fitted.class_frequencies(np.full(NUM_CLASSES, np.nan), counts)
        shares = counts / counts.sum()
        logits = fitted.scores(features).double() + torch.from_numpy(np.log(shares / frequencies))
        np.testing.assert_allclose(logits.softmax(dim=1).mean(dim=0).numpy(), shares, atol=0.01)


@pytest.mark.parametrize(("kind", "section"), BOTH)
def test_a_fit_repeats_to_the_bit_and_follows_the_seed(long_tail: LongTail, kind, section) -> None:
    first, again, other = (kind.fit(context(long_tail.train, seed=seed), section(epochs=1)) for seed in (0, 0, 1))
    assert torch.equal(first.weight_CD, again.weight_CD)
    assert not torch.equal(first.weight_CD, other.weight_CD)
    without = kind.fit(context(long_tail.train), section(epochs=1, bias=False))
    assert (without.bias_C, without.params()) == (None, {"bias": False})


@pytest.mark.parametrize(("kind", "section"), BOTH)
def test_divergence_names_the_key_to_lower(long_tail: LongTail, kind, section) -> None:
    with pytest.raises(DataError, match=rf"{kind.name}: .* Lower balance\.{kind.name}\.lr"):
        kind.fit(context(long_tail.train), section(lr=1e30, epochs=2))


def test_a_class_without_an_image_breaks_nothing(long_tail: LongTail) -> None:
    present = long_tail.train.labels != 3
    train = BankSplit(long_tail.train.features[present], long_tail.train.labels[present], NUM_CLASSES)
    for kind, section in BOTH:
        scores = kind.fit(context(train), section(**SHORT)).scores(torch.from_numpy(long_tail.test.features))
        assert scores.isfinite().all()
        assert (scores.argmax(dim=1) == 3).float().mean() < 0.02
