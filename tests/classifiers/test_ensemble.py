"""Classifiers that answer together."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from ltrsys.classifiers.base import Member
from ltrsys.classifiers.ensemble import Ensemble, EnsembleConfig
from tests.classifiers.conftest import NUM_CLASSES, LongTail
from tests.second_stage.test_store import make


def ensemble(data: LongTail) -> Ensemble:
    return Ensemble({"joint": Member(data.joint, 2.0), "ncm": Member(make("ncm", data), 0.05)})


def test_the_scores_are_the_mean_of_the_log_probabilities_at_their_temperatures(long_tail: LongTail) -> None:
    features = torch.from_numpy(long_tail.test.features)
    both = ensemble(long_tail)
    logarithms = []
    for name, temperature in (("joint", 2.0), ("ncm", 0.05)):
        scores = both.parts[name].classifier.scores(features).double().numpy() / temperature
        logarithms.append(scores - np.log(np.exp(scores).sum(axis=1, keepdims=True)))
    np.testing.assert_allclose(both.scores(features).numpy(), np.mean(logarithms, axis=0), rtol=1e-4, atol=1e-4)
    assert Ensemble.describe(both.params(), None) == "Joint + NCM"


def test_its_probabilities_are_right_for_the_geometric_mean_of_the_frequencies(long_tail: LongTail) -> None:
    trained = np.linspace(1, 2, NUM_CLASSES) / np.linspace(1, 2, NUM_CLASSES).sum()
    found = ensemble(long_tail).class_frequencies(trained, long_tail.train.class_counts)
    np.testing.assert_allclose(found, np.sqrt(trained) / np.sqrt(trained).sum())


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        (["crt", "nmc"], r"`nmc`: unknown classifier\. Did you mean ncm\?"),
        (["crt", "ensemble"], "`ensemble`: each member stands here once, and an ensemble is none"),
        (["crt", "crt"], "`crt`: each member stands here once"),
        (["crt", "cosine_no_relu"], r"`cosine_no_relu`: takes features before the last ReLU.* Leave it out"),
    ],
)
def test_what_cannot_be_a_member_is_refused_with_a_reason(members: list[str], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        EnsembleConfig(classifiers=members)
