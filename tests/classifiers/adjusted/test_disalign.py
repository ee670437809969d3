"""DisAlign: its formula, and what its weights do."""

import numpy as np
import pytest
import torch

from ltrsys.classifiers.adjusted.disalign import DisAlign, DisAlignConfig, class_weights
from ltrsys.classifiers.joint import Joint
from ltrsys.errors import DataError
from tests.classifiers.accuracies import few_and_all
from tests.classifiers.conftest import LongTail, context

SHORT = {"epochs": 20, "lr": 0.1, "batch_size": 64}


def fit(data: LongTail, **config: object) -> DisAlign:
    return DisAlign.fit(context(data.train, joint=data.joint), DisAlignConfig(**(SHORT | config)))


def test_the_scores_are_the_formula(long_tail: LongTail) -> None:
    fitted = fit(long_tail)
    features = torch.from_numpy(long_tail.test.features)
    z = (features @ long_tail.joint.weight_CD.T + long_tail.joint.bias_C).double().numpy()
    a, b, v = (one.double().numpy() for one in (fitted.scale_C, fitted.shift_C, fitted.confidence_D))
    sigma = 1 / (1 + np.exp(-(long_tail.test.features @ v + float(fitted.confidence_bias))))[:, None]
    np.testing.assert_allclose(
        fitted.scores(features).numpy(), sigma * (a * z + b) + (1 - sigma) * z, rtol=1e-4, atol=1e-4
    )
    assert not np.allclose(a, 1)
    assert not np.allclose(b, 0)
    assert sigma.std() > 0.01


def test_weights_are_powers_of_the_frequencies_and_1_over_the_images() -> None:
    counts = np.array([100, 10, 1, 0])
    weights = class_weights(counts, 0.5)
    np.testing.assert_allclose(weights[0] / weights[1], 10**-0.5, rtol=1e-6)
    assert weights[3] == weights[2]
    assert (weights * counts).sum() / counts.sum() == pytest.approx(1)
    np.testing.assert_array_equal(class_weights(counts, 0.0), 1)


def test_it_helps_the_rare_classes_and_more_with_a_higher_rho(long_tail: LongTail) -> None:
    joint_few, joint_all = few_and_all(long_tail.joint, long_tail)
    few, everything = few_and_all(fit(long_tail), long_tail)
    assert few >= joint_few + 8
    assert everything > joint_all
    assert few > few_and_all(fit(long_tail, rho=0.0), long_tail)[0]


def test_a_cosine_head_is_aligned_too(long_tail: LongTail) -> None:
    cosine = Joint(long_tail.joint.weight_CD, None, "cosine", torch.tensor([7.0]))
    fitted = DisAlign.fit(context(long_tail.train, joint=cosine), DisAlignConfig(**SHORT))
    again = DisAlign.restore(fitted.tensors(), fitted.params(), None)
    features = torch.from_numpy(long_tail.test.features)
    assert torch.equal(again.scores(features), fitted.scores(features))
    assert few_and_all(fitted, long_tail)[0] > few_and_all(cosine, long_tail)[0]


def test_divergence_names_the_key_to_lower(long_tail: LongTail) -> None:
    with pytest.raises(DataError, match=r"Lower balance\.disalign\.lr"):
        fit(long_tail, lr=1e38)
