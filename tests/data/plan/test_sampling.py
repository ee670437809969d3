import json
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltrsys.data.config import make_sampler
from ltrsys.data.plan.sampling import class_weights, quotas
from ltrsys.errors import UsageError

COUNTS = np.array([1000, 300, 20, 0, 5, 5, 1])


def probabilities(sampler, **epochs):
    return class_weights(COUNTS, sampler, **epochs).probabilities


@pytest.mark.parametrize(
    ("sampler", "q"),
    [
        (make_sampler(kind="instance"), 1),
        (make_sampler(kind="square_root"), 0.5),
        (make_sampler(kind="class_balanced"), 0),
        (make_sampler(kind="class_aware"), 0),
        (make_sampler(kind="power", q=0.3), 0.3),
        (make_sampler(kind="power", q=1.0), 1),
    ],
    ids=lambda value: getattr(value, "kind", value),
)
def test_weights_are_those_of_equation_1(sampler, q):
    expected = np.where(COUNTS > 0, np.maximum(COUNTS, 1).astype(float) ** q, 0)
    np.testing.assert_allclose(probabilities(sampler), expected / expected.sum(), rtol=1e-14)


def test_progressive_weights_are_those_of_equation_2():
    instance = probabilities(make_sampler(kind="instance"))
    balanced = probabilities(make_sampler(kind="class_balanced"))
    for epoch in (0, 3, 9):
        share = (epoch + 1) / 10  # the paper counts its epochs t from 1 to T
        found = probabilities(make_sampler(kind="progressive"), epoch=epoch, num_epochs=10)
        np.testing.assert_allclose(found, (1 - share) * instance + share * balanced, rtol=1e-14)


@pytest.mark.parametrize("kind", ["instance", "square_root", "progressive"])
def test_weights_before_an_epoch_are_the_sum_of_the_earlier_ones(kind):
    sampler = make_sampler(kind=kind)
    earlier = [class_weights(COUNTS, sampler, epoch=epoch, num_epochs=10).weights for epoch in range(6)]
    assert class_weights(COUNTS, sampler, epoch=6, num_epochs=10).before == [
        sum(row) for row in zip(*earlier, strict=True)
    ]


@pytest.mark.parametrize("kind", ["instance", "class_balanced", "square_root", "progressive"])
def test_an_empty_class_is_never_drawn(kind):
    assert class_weights(COUNTS, make_sampler(kind=kind), epoch=4, num_epochs=5).weights[3] == 0


def test_base_classes_are_drawn_by_their_counts_and_the_others_never():
    expected = np.array([1000, 300, 0, 0, 0, 0, 0]) / 1300  # a class of just 20 images is none
    np.testing.assert_allclose(probabilities(make_sampler(kind="base_classes", base_min=20)), expected, rtol=1e-14)
    assert np.array_equal(
        probabilities(make_sampler(kind="base_classes", base_min=0)), probabilities(make_sampler(kind="instance"))
    )


def test_without_a_base_class_the_key_to_lower_is_named():
    with pytest.raises(UsageError, match=r"^data.sampler.base_min=1000: no class .* \(the most: 1000\). Lower it.$"):
        class_weights(COUNTS, make_sampler(kind="base_classes", base_min=1000))


def test_weights_come_from_a_file(tmp_path):
    file = tmp_path / "weights.json"
    file.write_text(json.dumps([1, 2.5, 0, 9, 1, 1, 0.5]))
    found = probabilities(make_sampler(kind="weights", weights=file))
    np.testing.assert_allclose(found, np.array([1, 2.5, 0, 0, 1, 1, 0.5]) / 6, rtol=1e-14)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2]", "2 weights for 7 classes"),
        ('{"0": 1}', "JSON list of numbers"),
        ("[1, 2, 3, 4, 5, 6, -7]", "not negative"),
        ("[1, 2, 3, 4, 5, 6, NaN]", "finite"),
        ("[0, 0, 0, 1, 0, 0, 0]", "no class with a training image"),
        ("[1, 2", "cannot read class weights"),
    ],
)
def test_a_wrong_file_of_weights_is_refused(tmp_path, text, message):
    file = tmp_path / "weights.json"
    file.write_text(text)
    with pytest.raises(UsageError, match=message) as caught:
        class_weights(COUNTS, make_sampler(kind="weights", weights=file))
    assert str(file) in str(caught.value)


def test_no_training_image_at_all_is_an_error():
    with pytest.raises(UsageError, match="nothing to sample"):
        class_weights(np.zeros(3, dtype=np.int64), make_sampler())


@given(
    weights=st.lists(st.integers(0, 10**30), min_size=1, max_size=30).filter(any),
    draws=st.integers(0, 10**9),
    epoch=st.integers(0, 1000),
)
def test_quotas_round_each_share_and_sum_to_the_draws(weights, draws, epoch):
    quota = quotas(weights, draws, seed=5, epoch=epoch)
    assert quota.sum() == draws
    for weight, drawn in zip(weights, quota.tolist(), strict=True):
        share = Fraction(draws * weight, sum(weights))
        assert share // 1 <= drawn <= -(-share // 1)


def test_quotas_are_exact_in_expectation():
    weights = class_weights(COUNTS, make_sampler(kind="square_root")).weights
    epochs = 4000
    mean = sum(quotas(weights, 100, seed=1, epoch=epoch) for epoch in range(epochs)) / epochs
    expected = 100 * probabilities(make_sampler(kind="square_root"))
    # one rounding has a variance of at most 1/4
    assert abs(mean - expected).max() < 4 * 0.5 / epochs**0.5
