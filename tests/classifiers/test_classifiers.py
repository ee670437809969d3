"""What each classifier promises, on Gaussian classes with a long tail."""

from typing import get_args

import numpy as np
import pytest
import torch

from ltrsys.classifiers.adjusted.lws import LearnableWeightScaling
from ltrsys.classifiers.adjusted.tau import TauConfig, TauNorm, norms_follow_counts, sweep
from ltrsys.classifiers.base import Classifier
from ltrsys.classifiers.joint import Joint
from ltrsys.classifiers.nearest.ncm import NCMConfig, NearestClassMean
from ltrsys.classifiers.retrained.crt import RetrainedClassifier
from ltrsys.errors import DataError
from ltrsys.features.bank import BankSplit
from ltrsys.features.config import RetrainConfig
from ltrsys.metrics.accuracy import accuracy_by_column, accuracy_by_shot, percentage, shot_of_class
from ltrsys.metrics.class_mean import mean_class_accuracy
from ltrsys.metrics.config import SelectBy, ShotsConfig
from tests.classifiers.conftest import CPU, NUM_CLASSES, NUM_FEATURES, LongTail, context, gaussian_split

RETRAIN = RetrainConfig(epochs=8, lr=0.1, batch_size=64)
FEATURES, DISTANCES = ("plain", "l2n", "cl2n"), ("euclidean", "cosine")


def features_of(split: BankSplit) -> torch.Tensor:
    return torch.from_numpy(split.features)


def predictions(classifier: Classifier, split: BankSplit) -> np.ndarray:
    return classifier.rank(features_of(split), 1)[:, 0].numpy()


def few_and_all(classifier: Classifier, data: LongTail) -> tuple[float, float]:
    shots = shot_of_class(data.train.class_counts, ShotsConfig())
    accuracy = accuracy_by_shot(data.test.labels, predictions(classifier, data.test), shots)
    assert accuracy["few"] is not None
    assert accuracy["all"] is not None
    return accuracy["few"], accuracy["all"]


def fit_tau(data: LongTail, select_by: SelectBy = "mean_class_accuracy", **config: object) -> TauNorm:
    select_on = config.pop("select_on")
    return TauNorm.fit(
        context(data.train, joint=data.joint, val=data.val, select_on=select_on, select_by=select_by),
        TauConfig(**config),
    )


def test_every_classifier_helps_the_rare_classes(long_tail: LongTail) -> None:
    joint_few, joint_all = few_and_all(long_tail.joint, long_tail)
    for classifier in (
        NearestClassMean.fit(context(long_tail.train), NCMConfig()),
        RetrainedClassifier.fit(context(long_tail.train), RETRAIN),
        fit_tau(long_tail, select_on="val"),
        LearnableWeightScaling.fit(context(long_tail.train, joint=long_tail.joint), RETRAIN),
    ):
        few, everything = few_and_all(classifier, long_tail)
        assert few >= joint_few + 8, classifier.name
        assert everything > joint_all, classifier.name


def test_joint_is_the_linear_classifier_with_its_bias(long_tail: LongTail) -> None:
    weight, bias = long_tail.joint.weight_CD, long_tail.joint.bias_C
    expected = (features_of(long_tail.test) @ weight.T + bias).argmax(dim=1)
    np.testing.assert_array_equal(predictions(long_tail.joint, long_tail.test), expected)


def test_tau_zero_is_the_plain_classifier_without_bias(long_tail: LongTail) -> None:
    plain = Joint(long_tail.joint.weight_CD, None)
    tau = TauNorm(long_tail.joint.weight_CD, 0.0, "val")
    np.testing.assert_array_equal(predictions(tau, long_tail.test), predictions(plain, long_tail.test))
    assert (predictions(tau, long_tail.test) != predictions(long_tail.joint, long_tail.test)).any()


def test_tau_is_the_best_on_val_and_on_train_by_the_mean_over_classes(long_tail: LongTail) -> None:
    grid = TauConfig().grid
    chosen = {}
    for name, split in (("val", long_tail.val), ("train", long_tail.train)):
        accuracies = []
        for tau in grid:
            predicted = predictions(TauNorm(long_tail.joint.weight_CD, tau, None), split)
            accuracies.append(mean_class_accuracy(split.labels, predicted, NUM_CLASSES))
        chosen[name] = fit_tau(long_tail, select_on=name)
        assert chosen[name].tau == grid[int(np.argmax(accuracies))]
        assert chosen[name].selected_on == name
    by_images = [(row == long_tail.train.labels).mean() for row in sweep(long_tail.joint, long_tail.train, grid, CPU)]
    assert chosen["train"].tau > grid[int(np.argmax(by_images))], "the mean over images would prefer frequent classes"


def test_of_equal_taus_the_smallest_is_taken_whatever_the_order(long_tail: LongTail) -> None:
    weight = torch.nn.functional.normalize(long_tail.joint.weight_CD)  # no tau changes anything
    data = LongTail(long_tail.train, long_tail.val, long_tail.test, Joint(weight, None))
    assert fit_tau(data, select_on="val", grid=[1.0, 0.25, 0.5]).tau == 0.25


def test_on_a_balanced_val_split_either_measure_chooses_the_same_tau(long_tail: LongTail) -> None:
    grid = [round(0.001 * step, 3) for step in range(2001)]  # so fine that many are equally good
    accuracies = [percentage(row == long_tail.val.labels) for row in sweep(long_tail.joint, long_tail.val, grid, CPU)]
    assert accuracies.count(max(accuracies)) > 1
    best = grid[int(np.argmax(accuracies))]
    for select_by in get_args(SelectBy):
        assert fit_tau(long_tail, select_by, select_on="val", grid=grid).tau == best


def test_on_a_natural_tail_only_the_mean_over_the_classes_rebalances(natural_tail: LongTail) -> None:
    shots = shot_of_class(natural_tail.train.class_counts, ShotsConfig())
    chosen = {select_by: fit_tau(natural_tail, select_by, select_on="val") for select_by in get_args(SelectBy)}
    assert chosen["accuracy"].tau <= 0.1, "the frequent classes have most of the val images"
    assert chosen["mean_class_accuracy"].tau >= 0.5
    by_images, by_classes = (
        accuracy_by_column(natural_tail.test.labels, predictions(chosen[by], natural_tail.test), shots)
        for by in ("accuracy", "mean_class_accuracy")
    )
    assert by_classes["few"] >= by_images["few"] + 20
    assert by_classes["mean_class_accuracy"] >= by_images["mean_class_accuracy"] + 5
    assert by_classes["all"] < by_images["all"], "what the accuracy over all images takes for a loss"


def test_learned_tau_lowers_the_balanced_loss_and_rebalances(long_tail: LongTail) -> None:
    learned = fit_tau(long_tail, select_on="learned", learned=RetrainConfig(epochs=10, lr=0.1, weight_decay=0.0))
    assert learned.selected_on == "learned"
    assert 0 < learned.tau < 3
    assert few_and_all(learned, long_tail)[0] > few_and_all(long_tail.joint, long_tail)[0]


def test_lws_without_learning_is_joint(long_tail: LongTail) -> None:
    joint = long_tail.joint
    for scale_bias in (True, False):
        one = LearnableWeightScaling(joint.weight_CD, joint.bias_C, torch.ones(NUM_CLASSES), scale_bias)
        np.testing.assert_array_equal(predictions(one, long_tail.test), predictions(joint, long_tail.test))


@pytest.mark.parametrize("scale_bias", [True, False])
def test_lws_scales_the_bias_only_if_asked(long_tail: LongTail, scale_bias: bool) -> None:
    joint, scale = long_tail.joint, torch.linspace(0.5, 2, NUM_CLASSES)
    features = features_of(long_tail.test)
    product, bias = features @ joint.weight_CD.T, joint.bias_C
    expected = scale * (product + bias) if scale_bias else scale * product + bias
    scaled = LearnableWeightScaling(joint.weight_CD, joint.bias_C, scale, scale_bias)
    torch.testing.assert_close(scaled.scores(features), expected)


def test_lws_learns_only_the_scales_and_weight_decay_draws_them_to_zero(long_tail: LongTail) -> None:
    before = {name: tensor.clone() for name, tensor in long_tail.joint.tensors().items()}
    free, decayed = (
        LearnableWeightScaling.fit(
            context(long_tail.train, joint=long_tail.joint), RETRAIN.model_copy(update={"weight_decay": decay})
        )
        for decay in (0.0, 0.5)
    )
    assert torch.equal(free.weight_CD, before["weight"])
    assert torch.equal(free.bias_C, before["bias"])
    assert decayed.scale_C.norm() < 0.7 * free.scale_C.norm()


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("feature", FEATURES)
def test_ncm_is_perfect_on_separated_classes(feature: str, distance: str) -> None:
    counts = np.arange(2, 2 + NUM_CLASSES)
    train, test = (gaussian_split(counts, spread=0.01, seed=seed) for seed in (0, 1))
    ncm = NearestClassMean.fit(context(train), NCMConfig(feature=feature, distance=distance))
    np.testing.assert_array_equal(predictions(ncm, test), test.labels)


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("feature", FEATURES)
def test_ncm_follows_its_definition(long_tail: LongTail, feature: str, distance: str) -> None:
    train, test = (split.features.astype(np.float64) for split in (long_tail.train, long_tail.test))
    if feature == "cl2n":
        test, train = test - train.mean(axis=0), train - train.mean(axis=0)
    if feature != "plain":
        train, test = (values / np.linalg.norm(values, axis=1, keepdims=True) for values in (train, test))
    means = np.stack([train[long_tail.train.labels == class_id].mean(axis=0) for class_id in range(NUM_CLASSES)])
    if distance == "euclidean":
        scores = -np.linalg.norm(test[:, None] - means[None], axis=2)
    else:
        scores = test @ (means / np.linalg.norm(means, axis=1, keepdims=True)).T
    ncm = NearestClassMean.fit(context(long_tail.train), NCMConfig(feature=feature, distance=distance))
    np.testing.assert_array_equal(predictions(ncm, long_tail.test), scores.argmax(axis=1))


def test_cosine_is_a_true_cosine(long_tail: LongTail) -> None:
    """The paper's code divides by the number of features instead of by the norms."""
    ncm = NearestClassMean.fit(context(long_tail.train), NCMConfig(feature="plain", distance="cosine"))
    features = features_of(long_tail.test)
    lengths = torch.linspace(0.1, 10, len(features))[:, None]
    assert torch.equal(ncm.rank(features, 3), ncm.rank(features * lengths, 3))


def test_l2_normalised_features_forget_their_length(long_tail: LongTail) -> None:
    ncm = NearestClassMean.fit(context(long_tail.train), NCMConfig(feature="l2n"))
    features = features_of(long_tail.test)
    assert torch.equal(ncm.rank(features, 3), ncm.rank(features * 4, 3))


def test_a_class_without_training_images_is_never_predicted(long_tail: LongTail) -> None:
    present = long_tail.train.labels != 3
    train = BankSplit(long_tail.train.features[present], long_tail.train.labels[present], NUM_CLASSES)
    ncm = NearestClassMean.fit(context(train), NCMConfig())
    ranking = ncm.rank(features_of(long_tail.test), NUM_CLASSES)
    assert ranking.shape == (len(long_tail.test), NUM_CLASSES - 1)
    assert not (ranking == 3).any()


def test_crt_starts_fresh_and_the_bias_can_be_left_out(long_tail: LongTail) -> None:
    no_steps = RETRAIN.model_copy(update={"epochs": 1, "lr": 1e-12})
    first, again, other = (RetrainedClassifier.fit(context(long_tail.train, seed=s), no_steps) for s in (0, 0, 1))
    assert first.weight_CD.abs().max() <= NUM_FEATURES**-0.5
    assert torch.equal(first.weight_CD, again.weight_CD)
    assert not torch.equal(first.weight_CD, other.weight_CD)
    without = RetrainedClassifier.fit(context(long_tail.train), RETRAIN.model_copy(update={"bias": False}))
    assert without.bias_C is None
    assert without.params() == {"bias": False}


def test_fitting_leaves_the_global_random_numbers_alone(long_tail: LongTail) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    RetrainedClassifier.fit(context(long_tail.train), RETRAIN)
    assert torch.equal(torch.rand(3), expected)


def test_a_training_that_diverges_names_the_setting(long_tail: LongTail) -> None:
    hot = RETRAIN.model_copy(update={"lr": 1e30})
    with pytest.raises(DataError, match=r"Lower balance\.crt\.lr"):
        RetrainedClassifier.fit(context(long_tail.train), hot)


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("feature", FEATURES)
def test_scores_of_ncm_rank_as_it_ranks(long_tail: LongTail, feature: str, distance: str) -> None:
    present = long_tail.train.labels != 3
    train = BankSplit(long_tail.train.features[present], long_tail.train.labels[present], NUM_CLASSES)
    ncm = NearestClassMean.fit(context(train), NCMConfig(feature=feature, distance=distance))
    features = features_of(long_tail.test)
    scores = ncm.scores(features)
    assert scores[:, 3].isneginf().all()
    assert torch.equal(scores.argmax(dim=1), ncm.rank(features, 1)[:, 0])


def test_linear_classifiers_are_the_linear_layers_that_they_say(long_tail: LongTail) -> None:
    features = features_of(long_tail.test)
    for classifier in (
        long_tail.joint,
        RetrainedClassifier.fit(context(long_tail.train), RETRAIN),
        fit_tau(long_tail, select_on="val"),
        LearnableWeightScaling.fit(context(long_tail.train, joint=long_tail.joint), RETRAIN),
    ):
        weight, bias = classifier.as_linear()
        torch.testing.assert_close(classifier.scores(features), torch.nn.functional.linear(features, weight, bias))
    assert NearestClassMean.fit(context(long_tail.train), NCMConfig()).as_linear() is None


def test_tau_warns_where_norms_do_not_go_with_the_class_frequencies(long_tail: LongTail, caplog) -> None:
    counts, directions = long_tail.train.class_counts, torch.nn.functional.normalize(long_tail.joint.weight_CD)
    with_frequencies = directions * torch.from_numpy(counts**0.3).float()[:, None]
    against_them = directions * torch.from_numpy(counts**-0.3).float()[:, None]
    assert norms_follow_counts(with_frequencies, counts) == pytest.approx(1)
    assert norms_follow_counts(against_them, counts) == pytest.approx(-1)
    assert norms_follow_counts(directions, counts) == 0, "equal norms but for rounding"
    assert norms_follow_counts(with_frequencies, np.full(NUM_CLASSES, 7)) is None, "equal counts"
    for weight, warned in ((with_frequencies, False), (against_them, True)):
        caplog.clear()
        fit_tau(LongTail(long_tail.train, long_tail.val, long_tail.test, Joint(weight, None)), select_on="val")
        told = [record.getMessage() for record in caplog.records]
        assert len(told) == warned
        assert all("(correlation of their logarithms -1.00), as in networks trained with Adam" in one for one in told)
        assert all("--classifiers logit_adjusted" in one for one in told)
