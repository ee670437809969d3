"""Weight balancing: cRT whose weights stay in a ball."""

import pytest
import torch

from ltrsys.classifiers.retrained.crt import CRTConfig, RetrainedClassifier
from ltrsys.classifiers.retrained.weight_balancing import WeightBalancing, WeightBalancingConfig
from ltrsys.errors import DataError
from tests.classifiers.accuracies import few_and_all
from tests.classifiers.conftest import LongTail, context

SHORT = {"epochs": 8, "lr": 0.1, "batch_size": 64}


def fit(data: LongTail, **config: object) -> WeightBalancing:
    return WeightBalancing.fit(context(data.train), WeightBalancingConfig(**(SHORT | config)))


def test_in_a_ball_that_holds_all_weights_it_is_crt(long_tail: LongTail) -> None:
    crt = RetrainedClassifier.fit(context(long_tail.train), CRTConfig(**SHORT, weight_decay=0.01))
    wide = fit(long_tail, weight_decay=0.01, max_norm=1e3)
    torch.testing.assert_close(wide.weight_CD, crt.weight_CD)
    torch.testing.assert_close(wide.bias_C, crt.bias_C)


def test_no_weight_is_longer_than_was_said_and_the_last_step_is_brought_back_too(long_tail: LongTail) -> None:
    radius = 0.8
    free, held = (fit(long_tail, max_norm=one, weight_decay=0.0) for one in (1e3, radius))
    assert (free.weight_CD.norm(dim=1) > radius).all(), "or nothing would have to be brought back"
    lengths = held.weight_CD.norm(dim=1)
    torch.testing.assert_close(lengths, torch.full_like(lengths, radius), rtol=0.1, atol=0)
    assert lengths.max() <= radius * (1 + 1e-5)
    assert held.params() == {"max_norm": radius, "bias": True}


def test_it_helps_the_rare_classes(long_tail: LongTail) -> None:
    few, everything = few_and_all(fit(long_tail, weight_decay=5e-4, max_norm=2.0), long_tail)
    joint_few, joint_all = few_and_all(long_tail.joint, long_tail)
    assert few >= joint_few + 8
    assert everything > joint_all


def test_divergence_names_the_key_to_lower(long_tail: LongTail) -> None:
    with pytest.raises(DataError, match=r"Lower balance\.weight_balancing\.lr"):
        fit(long_tail, lr=1e38, max_norm=1e38)
