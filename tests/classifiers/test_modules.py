"""Classifiers as modules that can be traced."""

import pytest
import torch
from torch import Tensor, nn

from ltrsys.classifiers.base import CLASSIFIERS, Classifier
from ltrsys.classifiers.joint import Joint
from ltrsys.classifiers.nearest.ncm import NCMConfig, NearestClassMean
from ltrsys.features.bank import BankSplit
from ltrsys.models.memory import Memory
from tests.classifiers.conftest import NUM_CLASSES, NUM_FEATURES, LongTail, context
from tests.second_stage.test_store import make

LINEAR = {"joint", "linear", "crt", "balanced_softmax", "weight_balancing", "lda", "tau", "lws", "logit_adjusted"}


def check(classifier: Classifier, data: LongTail) -> nn.Module:
    """Compare a classifier's module, traced for any number of features, with the classifier; return the module."""
    module = classifier.module().eval()
    traced = torch.export.export(
        module, (torch.zeros(2, NUM_FEATURES),), dynamic_shapes=({0: torch.export.Dim("N")},)
    ).module()
    for number in (1, 7, 300):
        features = torch.from_numpy(data.test.features[:number])
        scores = classifier.scores(features)
        assert torch.equal(classifier.rank(features, 1)[:, 0], traced(features).argmax(dim=1))
        torch.testing.assert_close(traced(features).softmax(dim=1), scores.softmax(dim=1), rtol=0, atol=1e-5)
        assert torch.equal(traced(features).isneginf(), scores.isneginf())
    return module


@pytest.mark.parametrize("name", CLASSIFIERS.names())
@pytest.mark.long
def test_a_module_gives_the_probabilities_and_the_ranking_of_its_classifier(name: str, long_tail: LongTail) -> None:
    module = check(make(name, long_tail), long_tail)
    assert isinstance(module, nn.Linear) == (name in LINEAR)


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
@pytest.mark.parametrize("feature", ["plain", "l2n", "cl2n"])
def test_nearest_class_means_are_inner_products(feature, distance, long_tail: LongTail) -> None:
    present = long_tail.train.labels != 3
    train = BankSplit(long_tail.train.features[present], long_tail.train.labels[present], NUM_CLASSES)
    ncm = NearestClassMean.fit(context(train), NCMConfig(feature=feature, distance=distance))
    module = check(ncm, long_tail)
    assert isinstance(module, nn.Linear) == ((feature, distance) == ("plain", "euclidean"))


def heads(data: LongTail) -> dict[str, Joint]:
    weight_CD: Tensor = data.joint.weight_CD
    selector_DD = torch.eye(NUM_FEATURES)
    memory = Memory(weight_CD + 1, weight_CD, torch.zeros(NUM_CLASSES), selector_DD, torch.zeros(NUM_FEATURES))
    return {
        "cosine": Joint(weight_CD, None, "cosine", torch.tensor([7.0])),
        "oltr_cosine": Joint(weight_CD, None, "oltr_cosine"),
        "oltr_memory": Joint(weight_CD, None, "oltr_memory", memory=memory),
    }


@pytest.mark.parametrize("head", ["cosine", "oltr_cosine", "oltr_memory"])
def test_a_joint_head_that_is_not_linear_is_no_linear_layer(head: str, long_tail: LongTail) -> None:
    classifier = heads(long_tail)[head]
    assert classifier.as_linear() is None
    assert not isinstance(check(classifier, long_tail), nn.Linear)


def test_a_module_holds_its_tensors(long_tail: LongTail) -> None:
    classifier = make("crt_memory", long_tail)
    state = classifier.module().state_dict()
    assert len(state) == len(classifier.tensors())
    assert torch.equal(state["hallucinator_weight"], classifier.tensors()["hallucinator.weight"])
