"""Classes that are added from a few images each."""

import numpy as np
import pytest
import torch

from ltrsys.classifiers.base import CLASSIFIERS, Classifier
from ltrsys.classifiers.nearest.knn import KNNConfig, NearestNeighbours
from ltrsys.classifiers.nearest.lda import LDAConfig, LinearDiscriminant
from ltrsys.classifiers.nearest.ncm import NCMConfig, NearestClassMean
from ltrsys.errors import UsageError
from ltrsys.features.bank import BankSplit
from tests.classifiers.conftest import NUM_CLASSES, LongTail, context
from tests.classifiers.test_modules import check
from tests.second_stage.test_store import make

NEW = 5
"""The last classes, of which there are few images, are the new ones."""
KINDS = [
    (NearestClassMean, NCMConfig()),
    (NearestClassMean, NCMConfig(feature="plain", distance="cosine")),
    (LinearDiscriminant, LDAConfig(shrinkage=0.1)),
    (LinearDiscriminant, LDAConfig(covariance="images")),
    (NearestNeighbours, KNNConfig()),
]


def of_classes(split: BankSplit, first: int, end: int) -> BankSplit:
    rows = (split.labels >= first) & (split.labels < end)
    return BankSplit(split.features[rows], split.labels[rows] - first, end - first)


def added(classifier: Classifier, new: BankSplit) -> Classifier:
    return classifier.with_classes(torch.from_numpy(new.features), torch.from_numpy(new.labels), new.num_classes)


@pytest.mark.parametrize(("kind", "config"), KINDS)
def test_one_by_one_is_all_at_once(kind, config, long_tail: LongTail) -> None:
    known = NUM_CLASSES - NEW
    before = kind.fit(context(of_classes(long_tail.train, 0, known)), config)
    at_once = added(before, of_classes(long_tail.train, known, NUM_CLASSES))
    one_by_one = before
    for class_id in range(known, NUM_CLASSES):
        one_by_one = added(one_by_one, of_classes(long_tail.train, class_id, class_id + 1))
    features = torch.from_numpy(long_tail.test.features)
    scores = at_once.scores(features)
    assert scores.shape == (len(features), NUM_CLASSES)
    torch.testing.assert_close(one_by_one.scores(features), scores, rtol=1e-5, atol=1e-5)
    assert torch.equal(one_by_one.rank(features, 1), at_once.rank(features, 1))
    new = long_tail.test.labels >= known
    right = at_once.rank(features, 1)[:, 0].numpy() == long_tail.test.labels
    assert right[new].mean() > 0.4, "a few images suffice"
    assert before.rank(features, 1).max() < known
    check(at_once, long_tail)


@pytest.mark.parametrize(("kind", "config"), [pair for pair in KINDS if pair[0] is not NearestClassMean])
def test_what_has_no_centre_becomes_what_is_fitted_on_all_classes(kind, config, long_tail: LongTail) -> None:
    known = NUM_CLASSES - NEW
    grown = added(
        kind.fit(context(of_classes(long_tail.train, 0, known)), config),
        of_classes(long_tail.train, known, NUM_CLASSES),
    )
    features = torch.from_numpy(long_tail.test.features)
    fitted = kind.fit(context(long_tail.train), config)
    if isinstance(fitted, LinearDiscriminant):  # the shrinkage stays that of the known classes
        fitted = LinearDiscriminant._of(fitted.spread, grown.shrinkage, config)
    found, expected = (one.scores(features).softmax(dim=1) for one in (grown, fitted))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_an_added_class_comes_back_from_disk(long_tail: LongTail) -> None:
    for kind, config in KINDS:
        grown = added(
            kind.fit(context(of_classes(long_tail.train, 0, 15)), config), of_classes(long_tail.train, 15, 20)
        )
        again = kind.restore(grown.tensors(), grown.params(), None)
        features = torch.from_numpy(long_tail.test.features)
        assert torch.equal(again.scores(features), grown.scores(features))


@pytest.mark.parametrize("name", ["joint", "crt", "tau", "mlp", "linear"])
def test_others_say_that_they_do_not_know_it_yet_and_which_do(name: str, long_tail: LongTail) -> None:
    able = [one.name for one, _ in KINDS]
    with pytest.raises(UsageError, match=rf"{name}: does not know the new classes yet.* as they are: ncm, lda, knn\.$"):
        added(make(name, long_tail), of_classes(long_tail.val, 0, 2))
    assert set(able) <= set(CLASSIFIERS.names())


def test_a_new_class_without_an_image_is_never_predicted(long_tail: LongTail) -> None:
    features = torch.from_numpy(long_tail.test.features)
    for kind, config in KINDS:
        new = of_classes(long_tail.val, 0, 2)
        only_first = BankSplit(new.features[new.labels == 0], new.labels[new.labels == 0], 2)
        scores = added(kind.fit(context(long_tail.train), config), only_first).scores(features)
        assert np.array_equal(scores.isneginf().any(dim=0).nonzero()[:, 0].numpy(), [NUM_CLASSES + 1])
