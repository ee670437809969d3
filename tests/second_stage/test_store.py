"""Classifiers on disk."""

from pathlib import Path

import pytest
import torch

from ltrsys.classifiers.adjusted.disalign import DisAlign, DisAlignConfig
from ltrsys.classifiers.adjusted.logit_adjusted import LogitAdjusted, LogitAdjustedConfig
from ltrsys.classifiers.adjusted.lws import LearnableWeightScaling
from ltrsys.classifiers.adjusted.tau import TauNorm
from ltrsys.classifiers.base import CLASSIFIERS, Classifier, Member
from ltrsys.classifiers.ensemble import Ensemble
from ltrsys.classifiers.joint import Joint
from ltrsys.classifiers.nearest.knn import KNNConfig, NearestNeighbours
from ltrsys.classifiers.nearest.lda import LDAConfig, LinearDiscriminant
from ltrsys.classifiers.nearest.ncm import NCMConfig, NearestClassMean
from ltrsys.classifiers.retrained.balanced_softmax import BalancedSoftmaxClassifier, BalancedSoftmaxConfig
from ltrsys.classifiers.retrained.cosine import CosineClassifier, CosineConfig
from ltrsys.classifiers.retrained.cosine_no_relu import CosineBeforeLastReLU
from ltrsys.classifiers.retrained.crt import RetrainedClassifier
from ltrsys.classifiers.retrained.crt_memory import CRTMemoryConfig, RetrainedMemory
from ltrsys.classifiers.retrained.fslwf import FSLwF, FSLwFConfig
from ltrsys.classifiers.retrained.linear import LinearConfig, LinearProbe
from ltrsys.classifiers.retrained.mlp import MLPConfig, MultiLayerPerceptron
from ltrsys.classifiers.retrained.weight_balancing import WeightBalancing, WeightBalancingConfig
from ltrsys.errors import DataError
from ltrsys.features.config import RetrainConfig
from ltrsys.second_stage.store import Fitted, classifier_path, load_fitted, save_fitted
from tests.classifiers.conftest import CPU, LongTail, context

RETRAIN = RetrainConfig(epochs=1, batch_size=64)


def make(name: str, data: LongTail) -> Classifier:
    if name == "ncm":
        return NearestClassMean.fit(context(data.train), NCMConfig(feature="l2n"))
    if name == "crt":
        return RetrainedClassifier.fit(context(data.train), RETRAIN)
    if name == "lws":
        return LearnableWeightScaling.fit(context(data.train, joint=data.joint), RETRAIN)
    if name == "mlp":
        return MultiLayerPerceptron.fit(context(data.train), MLPConfig(epochs=1, layers=3, hidden=8, bias=False))
    if name == "cosine":
        return CosineClassifier.fit(context(data.train), CosineConfig(epochs=1))
    if name == "crt_memory":
        return RetrainedMemory.fit(context(data.train, joint=data.joint), CRTMemoryConfig(epochs=1))
    if name == "cosine_no_relu":
        return CosineBeforeLastReLU.fit(context(data.train), CosineConfig(epochs=1))
    if name == "fslwf":
        return FSLwF.fit(context(data.train), FSLwFConfig(epochs=1, episodes=2, episode_novel=3))
    if name == "linear":
        return LinearProbe.fit(context(data.train), LinearConfig(epochs=1))
    if name == "balanced_softmax":
        return BalancedSoftmaxClassifier.fit(context(data.train), BalancedSoftmaxConfig(epochs=1, bias=False))
    if name == "ensemble":
        members = {"tau": 0.7, "ncm": 0.05, "knn": 1.5}
        return Ensemble({of: Member(make(of, data), temperature) for of, temperature in members.items()})
    if name == "weight_balancing":
        return WeightBalancing.fit(context(data.train), WeightBalancingConfig(epochs=1, max_norm=0.3))
    if name == "disalign":
        return DisAlign.fit(context(data.train, joint=data.joint), DisAlignConfig(epochs=1, rho=0.7))
    if name == "knn":
        return NearestNeighbours.fit(context(data.train), KNNConfig(k=7))
    if name == "lda":
        return LinearDiscriminant.fit(context(data.train), LDAConfig(shrinkage=0.1, covariance="images"))
    if name == "logit_adjusted":
        return LogitAdjusted.fit(
            context(data.train, joint=data.joint, val=data.val, select_on="val"), LogitAdjustedConfig()
        )
    return TauNorm(data.joint.weight_CD, 0.7, "val", val_is_test=True) if name == "tau" else data.joint


@pytest.mark.parametrize("name", CLASSIFIERS.names())
def test_a_classifier_comes_back_to_the_last_bit(name: str, long_tail: LongTail, tmp_path: Path) -> None:
    classifier = make(name, long_tail)
    save_fitted(Fitted(classifier, "bank", "fingerprint"), tmp_path)
    loaded = load_fitted(tmp_path, classifier.name, CPU)
    features = torch.from_numpy(long_tail.test.features)
    assert (loaded.bank, loaded.fingerprint) == ("bank", "fingerprint")
    assert torch.equal(loaded.classifier.rank(features, 5), classifier.rank(features, 5))
    assert torch.equal(loaded.classifier.scores(features), classifier.scores(features))
    assert loaded.classifier.params() == classifier.params()
    assert loaded.classifier.selected_on == classifier.selected_on


@pytest.mark.parametrize(("head", "scale"), [("cosine", torch.tensor([7.0])), ("oltr_cosine", None)])
def test_a_joint_classifier_of_cosines_comes_back_to_the_last_bit(head, scale, long_tail, tmp_path):
    classifier = Joint(long_tail.joint.weight_CD, None, head, scale)
    save_fitted(Fitted(classifier, "bank", "fingerprint"), tmp_path)
    loaded = load_fitted(tmp_path, "joint", CPU).classifier
    features = torch.from_numpy(long_tail.test.features)
    assert torch.equal(loaded.scores(features), classifier.scores(features))
    assert not torch.equal(loaded.scores(features), long_tail.joint.scores(features))
    assert (loaded.params(), loaded.weight()) == ({"head": head}, None)


def test_a_missing_classifier_says_how_to_fit_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"crt\.safetensors: this classifier has not been fitted\. Run `ltrsys balance"):
        load_fitted(tmp_path / "classifiers", "crt", CPU)


def test_a_truncated_classifier_is_named(long_tail: LongTail, tmp_path: Path) -> None:
    save_fitted(Fitted(long_tail.joint, "bank", "fingerprint"), tmp_path)
    path = classifier_path(tmp_path, "joint")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match=r"joint\.safetensors: not a saved classifier"):
        load_fitted(tmp_path, "joint", CPU)
