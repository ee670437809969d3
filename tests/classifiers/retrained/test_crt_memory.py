"""cRT with OLTR's memory: its formula, what it begins with, and what it is good for."""

import numpy as np
import pytest
import torch

from ltrsys.classifiers.joint import Joint
from ltrsys.classifiers.retrained.crt_memory import CRTMemoryConfig, RetrainedMemory
from ltrsys.classifiers.tilt import log_prior, tilted_predictions
from ltrsys.errors import DataError, UsageError
from ltrsys.features.bank import BankSplit
from ltrsys.models.config import ModelConfig
from ltrsys.second_stage.applying import check_applicable
from tests.classifiers.conftest import CPU, NUM_CLASSES, LongTail, context
from tests.classifiers.test_heads import few_and_all

SHORT = {"epochs": 8, "lr": 0.1, "batch_size": 64}


def fitted(data: LongTail, seed: int = 0, **settings) -> RetrainedMemory:
    asked = context(data.train, joint=data.joint, seed=seed)
    return RetrainedMemory.fit(asked, CRTMemoryConfig(**(SHORT | settings)))


def class_means(split: BankSplit) -> np.ndarray:
    rows = [split.features[split.labels == label].astype(np.float64) for label in range(split.num_classes)]
    return np.stack([row.mean(axis=0) if len(row) else np.zeros(split.num_features) for row in rows])


def test_the_scores_are_the_formula_with_the_class_means_for_centroids(long_tail: LongTail) -> None:
    classifier = fitted(long_tail)
    tensors = {name: tensor.double().numpy() for name, tensor in classifier.tensors().items()}
    means = class_means(long_tail.train)
    np.testing.assert_allclose(tensors["centroids"], means, rtol=1e-6, atol=1e-6)
    expected = []
    for x in long_tail.test.features[:40].astype(np.float64):
        powers = np.exp(tensors["hallucinator.weight"] @ x + tensors["hallucinator.bias"])
        selector = np.tanh(tensors["selector.weight"] @ x + tensors["selector.bias"])
        nearest = np.sqrt(((x - means) ** 2).sum(axis=1)).min()
        x = 10 / nearest * (x + selector * (powers / powers.sum() @ means))
        length = np.linalg.norm(x)
        unit = tensors["weight"] / np.linalg.norm(tensors["weight"], axis=1, keepdims=True)
        expected.append(16 * length / (1 + length) * (unit @ x / length))
    found = classifier.scores(torch.from_numpy(long_tail.test.features[:40]))
    np.testing.assert_allclose(found.numpy(), np.array(expected), rtol=1e-4, atol=1e-4)


def test_the_hallucinator_begins_as_the_joint_classifier(long_tail: LongTail) -> None:
    nearly_still = fitted(long_tail, epochs=1, lr=1e-9)
    torch.testing.assert_close(nearly_still.memory.hallucinator_weight_CD, long_tail.joint.weight_CD)
    torch.testing.assert_close(nearly_still.memory.hallucinator_bias_C, long_tail.joint.bias_C)
    moved = fitted(long_tail)
    assert not torch.allclose(moved.memory.hallucinator_weight_CD, long_tail.joint.weight_CD)
    assert not torch.allclose(moved.memory.selector_weight_DD, nearly_still.memory.selector_weight_DD)


def test_it_helps_the_rare_classes_and_can_be_tilted(long_tail: LongTail) -> None:
    classifier = fitted(long_tail)
    few, everything = few_and_all(classifier, long_tail)
    joint_few, joint_all = few_and_all(long_tail.joint, long_tail)
    assert few >= joint_few + 8
    assert everything > joint_all
    rows = tilted_predictions(classifier, long_tail.test, log_prior(long_tail.train.class_counts), [0.0, 1.0], CPU)
    plain = classifier.rank(torch.from_numpy(long_tail.test.features), 1)[:, 0].numpy()
    assert np.array_equal(rows[0], plain)
    assert not np.array_equal(rows[1], plain)


def test_classes_of_one_image_and_of_none_break_nothing(long_tail: LongTail) -> None:
    """The one image is its class's centroid, at a distance of zero."""
    counts = np.array([9, 1, 0, *[4] * (NUM_CLASSES - 3)])
    labels = np.repeat(np.arange(NUM_CLASSES), counts)
    features = np.random.default_rng(0).normal(size=(len(labels), 16)).astype(np.float32)
    split = BankSplit(features, labels, NUM_CLASSES)
    classifier = RetrainedMemory.fit(context(split, joint=long_tail.joint), CRTMemoryConfig(**SHORT))
    assert classifier.scores(torch.from_numpy(features)).isfinite().all()
    assert not classifier.memory.centroids_CD[2].any()


def test_a_fit_repeats_to_the_bit_and_follows_the_seed(long_tail: LongTail) -> None:
    first, again, other = (
        list(fitted(long_tail, seed=seed, epochs=1).tensors().values()) for seed in (0, 0, 1)
    )  # fmt: skip
    assert all(map(torch.equal, first, again))
    assert not torch.equal(first[0], other[0])


def test_divergence_names_the_key_to_lower(long_tail: LongTail) -> None:
    with pytest.raises(DataError, match=r"training of this classifier diverged\. Lower balance\.crt_memory\.lr"):
        fitted(long_tail, lr=1e30, epochs=2)


def test_a_network_without_a_linear_head_is_refused_with_a_reason() -> None:
    with pytest.raises(UsageError, match=r"crt_memory does not apply to model\.head=cosine: its hallucinator begins"):
        check_applicable(["joint", "crt_memory"], ModelConfig(head="cosine"))


def test_the_joint_classifier_is_left_as_it_is(long_tail: LongTail) -> None:
    before = Joint(long_tail.joint.weight_CD.clone(), long_tail.joint.bias_C.clone())
    fitted(long_tail)
    assert torch.equal(long_tail.joint.weight_CD, before.weight_CD)
    assert torch.equal(long_tail.joint.bias_C, before.bias_C)
