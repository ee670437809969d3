"""Heads that are no linear classifier, and the joint one adjusted to the class frequencies."""

import numpy as np
import pytest
import torch

from ltrsys.classifiers.adjusted.logit_adjusted import LogitAdjusted, LogitAdjustedConfig
from ltrsys.classifiers.base import ValSplit
from ltrsys.classifiers.joint import Joint
from ltrsys.classifiers.retrained.cosine import CosineClassifier, CosineConfig
from ltrsys.classifiers.retrained.mlp import MLPConfig, MultiLayerPerceptron
from ltrsys.classifiers.tilt import log_prior, tilted_predictions
from ltrsys.errors import DataError, UsageError
from ltrsys.features.bank import BankSplit
from tests.classifiers.accuracies import few_and_all
from tests.classifiers.conftest import CPU, NUM_CLASSES, NUM_FEATURES, LongTail, context

SHORT = {"epochs": 8, "lr": 0.1, "batch_size": 64}


@pytest.mark.parametrize("layers", [2, 3])
def test_a_perceptron_helps_the_rare_classes(long_tail: LongTail, layers: int) -> None:
    config = MLPConfig(layers=layers, hidden=64, **SHORT)
    few, everything = few_and_all(MultiLayerPerceptron.fit(context(long_tail.train), config), long_tail)
    joint_few, joint_all = few_and_all(long_tail.joint, long_tail)
    assert few >= joint_few + 8
    assert everything > joint_all


def test_a_perceptron_is_torchs_own(long_tail: LongTail) -> None:
    config = MLPConfig(layers=3, hidden=8, epochs=1)
    fitted = MultiLayerPerceptron.fit(context(long_tail.train), config)
    layers = [torch.nn.Linear(a, b) for a, b in ((NUM_FEATURES, 8), (8, 8), (8, NUM_CLASSES))]
    relu = torch.nn.ReLU()
    network = torch.nn.Sequential(layers[0], relu, layers[1], relu, layers[2])
    with torch.no_grad():
        for layer, weight, bias in zip(layers, fitted.weights, fitted.biases, strict=True):
            layer.weight.copy_(weight)
            layer.bias.copy_(bias)
        features = torch.from_numpy(long_tail.test.features)
        assert torch.equal(network(features), fitted.scores(features))
    assert fitted.as_linear() is None
    assert fitted.weight() is None


def test_the_cosine_head_helps_the_rare_classes_and_forgets_lengths(long_tail: LongTail) -> None:
    fitted = CosineClassifier.fit(context(long_tail.train), CosineConfig(**SHORT))
    few, everything = few_and_all(fitted, long_tail)
    joint_few, joint_all = few_and_all(long_tail.joint, long_tail)
    assert few >= joint_few + 8
    assert everything > joint_all
    assert float(fitted.scale) != 10.0
    features = torch.from_numpy(long_tail.test.features)
    expected = fitted.scale.double() * torch.nn.functional.cosine_similarity(
        features[:, None].double(), fitted.weight_CD[None].double(), dim=2
    )
    torch.testing.assert_close(fitted.scores(features).double(), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(fitted.scores(3 * features), fitted.scores(features), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("kind", "config"), [(MultiLayerPerceptron, MLPConfig), (CosineClassifier, CosineConfig)])
def test_a_fit_repeats_to_the_bit_and_follows_the_seed(long_tail: LongTail, kind, config) -> None:
    fits = [kind.fit(context(long_tail.train, seed=seed), config(epochs=1)) for seed in (0, 0, 1)]
    first, again, other = (list(fit.tensors().values()) for fit in fits)
    assert all(map(torch.equal, first, again))
    assert not torch.equal(first[0], other[0])


def test_divergence_names_the_key_to_lower(long_tail: LongTail) -> None:
    with pytest.raises(DataError, match=r"mlp: the training of this classifier diverged. Lower balance.mlp.lr"):
        MultiLayerPerceptron.fit(context(long_tail.train), MLPConfig(lr=1e30, epochs=2))


def test_adjusted_logits_are_the_joint_ones_less_the_log_prior(long_tail: LongTail) -> None:
    fitted = LogitAdjusted.fit(context(long_tail.train, joint=long_tail.joint), LogitAdjustedConfig(select_on="none"))
    features = torch.from_numpy(long_tail.test.features)
    prior = np.log(long_tail.train.class_counts / long_tail.train.class_counts.sum())
    expected = long_tail.joint.scores(features).numpy() - prior
    np.testing.assert_allclose(fitted.scores(features).numpy(), expected, rtol=1e-5, atol=1e-5)
    assert (fitted.t, fitted.selected_on) == (1.0, None)


def test_t_is_the_best_on_val_and_the_smallest_of_equals(long_tail: LongTail) -> None:
    asked = context(long_tail.train, joint=long_tail.joint, val=long_tail.val, select_on="val")
    fitted = LogitAdjusted.fit(asked, LogitAdjustedConfig())
    scores = {}
    for t in LogitAdjustedConfig().grid:
        adjusted = Joint(
            long_tail.joint.weight_CD, long_tail.joint.bias_C - t * log_prior(long_tail.train.class_counts)
        )
        predictions = adjusted.rank(torch.from_numpy(long_tail.val.features), 1)[:, 0].numpy()
        scores[t] = asked.score(predictions)
    assert fitted.t == min(t for t, score in scores.items() if score == max(scores.values()))
    assert fitted.t > 0
    assert few_and_all(fitted, long_tail)[0] > few_and_all(long_tail.joint, long_tail)[0] + 8
    assert LogitAdjusted.describe(fitted.params(), "val") == f"t = {fitted.t:.4g}, chosen on val"


def test_equal_frequencies_change_nothing(long_tail: LongTail) -> None:
    balanced = BankSplit(long_tail.val.features, long_tail.val.labels, NUM_CLASSES)
    rows = tilted_predictions(long_tail.joint, balanced, log_prior(balanced.class_counts), [0.0, 1.0, 2.0], CPU)
    assert np.array_equal(rows[0], rows[1])
    assert np.array_equal(rows[0], rows[2])


def test_a_class_without_an_image_has_the_prior_of_one() -> None:
    expected = torch.tensor([10 / 12, 1 / 12, 1 / 12], dtype=torch.float64).log().float()
    assert torch.equal(log_prior(np.array([10, 0, 1])), expected)


def test_without_a_val_split_t_is_1_unless_val_is_asked_for() -> None:
    none = ValSplit(None, dataset="shards")
    assert LogitAdjusted.selects_on(LogitAdjustedConfig(), none) is None
    with pytest.raises(UsageError, match=r"balance.logit_adjusted.select_on=val: shards has no val split"):
        LogitAdjusted.selects_on(LogitAdjustedConfig(select_on="val"), none)
