"""Few-shot learning without forgetting, on Gaussian classes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ltrsys.classifiers.base import Classifier
from ltrsys.classifiers.retrained.cosine import CosineClassifier, CosineConfig
from ltrsys.classifiers.retrained.fslwf import FSLwF, FSLwFConfig
from ltrsys.config.reading import load_config
from ltrsys.errors import DataError, UsageError
from ltrsys.features.bank import BankSplit
from ltrsys.features.episodes import Episodes
from ltrsys.metrics.accuracy import accuracy_by_shot, shot_of_class
from ltrsys.metrics.config import ShotsConfig
from tests.classifiers.conftest import LongTail, context, gaussian_split, trained_joint

SHORT = {"epochs": 1, "episodes": 5, "episode_novel": 3, "batch_size": 64}
DEMO = Path(__file__).parents[3] / "configs/glyphs/demo.yaml"


@pytest.fixture(scope="module")
def plentiful() -> LongTail:
    """30 classes of 60 training images and 10 of 5."""
    counts = np.repeat([60, 5], [30, 10])
    train = gaussian_split(counts, spread=0.6, seed=0)
    balanced = np.full(40, 25)
    val, test = (gaussian_split(balanced, spread=0.6, seed=seed) for seed in (1, 2))
    return LongTail(train, val, test, trained_joint(train, steps=100, lr=0.2))


def accuracies(classifier: Classifier, data: LongTail) -> tuple[float, float, float]:
    """Return accuracy on medium-shot and few-shot classes, and over all."""
    predictions = classifier.rank(torch.from_numpy(data.test.features), 1)[:, 0].numpy()
    shots = shot_of_class(data.train.class_counts, ShotsConfig())
    found = accuracy_by_shot(data.test.labels, predictions, shots)
    medium, few, everything = (found[shot] or 0.0 for shot in ("medium", "few", "all"))
    return medium, few, everything


def test_classes_of_few_images_are_learned_and_those_of_many_not_forgotten(plentiful: LongTail) -> None:
    config = FSLwFConfig(lr=0.1, episodes=200, batch_size=64)
    medium, few, everything = accuracies(FSLwF.fit(context(plentiful.train), config), plentiful)
    joint_medium, joint_few, joint_all = accuracies(plentiful.joint, plentiful)
    assert few > 100 / 40 + 20
    assert few > joint_few + 20
    assert medium > joint_medium - 15
    assert everything > joint_all


def test_classes_of_few_images_have_no_part_in_what_is_learned(plentiful: LongTail) -> None:
    train = plentiful.train
    moved = train.features.copy()
    moved[train.labels >= 30] = 1e3 * moved[train.labels >= 30][::-1]
    first, other = (
        FSLwF.fit(context(bank), FSLwFConfig(**SHORT)) for bank in (train, BankSplit(moved, train.labels, 40))
    )
    assert torch.equal(first.weight_CD[:30], other.weight_CD[:30])
    assert torch.equal(first.scale, other.scale)
    assert not torch.equal(first.weight_CD[30:], other.weight_CD[30:])
    torch.testing.assert_close(first.weight_CD.norm(dim=1), torch.ones(40))
    assert first.params() == {"scale": float(first.scale), "base_classes": 30}


def test_base_classes_go_on_learning_in_episodes(plentiful: LongTail) -> None:
    base_C = plentiful.train.class_counts > 20
    begun = CosineClassifier.fit_on(context(plentiful.train), FSLwFConfig(**SHORT), base_C, section="fslwf")
    fitted = FSLwF.fit(context(plentiful.train), FSLwFConfig(**SHORT))
    assert bool((fitted.weight_CD[:30] != begun.weight_CD[:30]).any(dim=1).all())
    assert not torch.equal(fitted.scale, begun.scale)


def test_with_base_classes_alone_it_is_the_cosine_classifier(plentiful: LongTail) -> None:
    fitted = FSLwF.fit(context(plentiful.train), FSLwFConfig(base_min=4, shots=4, epochs=2))
    cosine = CosineClassifier.fit(context(plentiful.train), CosineConfig(epochs=2))
    assert torch.equal(fitted.weight_CD, cosine.weight_CD)
    assert torch.equal(fitted.scale, cosine.scale)


def test_scores_are_scaled_cosines_that_follow_the_order_of_the_classes(plentiful: LongTail) -> None:
    fitted = FSLwF.fit(context(plentiful.train), FSLwFConfig(**SHORT))
    features = torch.from_numpy(plentiful.test.features)
    expected = fitted.scale.double() * torch.nn.functional.cosine_similarity(
        features[:, None].double(), fitted.weight_CD[None].double(), dim=2
    )
    torch.testing.assert_close(fitted.scores(features).double(), expected, rtol=1e-5, atol=1e-5)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    moved = replace(fitted, weight_CD=fitted.weight_CD[order], present_C=fitted.present_C[order])
    torch.testing.assert_close(moved.scores(features), fitted.scores(features)[:, order])


@pytest.mark.parametrize(("base_min", "num_base"), [(4, 40), (5, 30), (59, 30)])
def test_a_class_without_an_image_is_never_predicted(plentiful: LongTail, base_min: int, num_base: int) -> None:
    train = BankSplit(plentiful.train.features, plentiful.train.labels + 1, 42)  # classes 0 and 41 have none
    fitted = FSLwF.fit(context(train), FSLwFConfig(base_min=base_min, shots=4, **SHORT))
    assert fitted.num_base == num_base
    scores = fitted.scores(torch.from_numpy(plentiful.test.features))
    assert bool(scores[:, [0, 41]].isneginf().all())
    assert bool(scores[:, 1:41].isfinite().all())
    restored = FSLwF.restore(fitted.tensors(), fitted.params(), None)
    assert torch.equal(restored.scores(torch.from_numpy(plentiful.test.features)), scores)


def test_a_fit_repeats_to_the_bit_and_follows_the_seed(plentiful: LongTail) -> None:
    fits = [FSLwF.fit(context(plentiful.train, seed=seed), FSLwFConfig(**SHORT)) for seed in (0, 0, 1)]
    first, again, other = (list(fit.tensors().values()) for fit in fits)
    assert all(map(torch.equal, first, again))
    assert not torch.equal(first[0], other[0])


def test_episodes_are_drawn_as_configured_and_by_the_seed(plentiful: LongTail, monkeypatch) -> None:
    drawn, draw = [], Episodes.episode
    monkeypatch.setattr(Episodes, "episode", lambda self, number: drawn.append((self, number)) or draw(self, number))
    FSLwF.fit(context(plentiful.train, seed=7), FSLwFConfig(**SHORT))
    assert [number for _, number in drawn] == list(range(5))
    episodes = drawn[0][0]
    assert (episodes.num_novel, episodes.shots, episodes.queries, episodes.seed) == (3, 5, 2, 7)
    assert [len(rows) for rows in episodes.rows_of_class] == [60] * 30
    FSLwF.fit(context(plentiful.train), FSLwFConfig(epochs=1, episodes=1, batch_size=16))
    assert (drawn[-1][0].num_novel, drawn[-1][0].queries) == (15, 1)


def test_too_few_base_classes_for_an_episode_are_refused(plentiful: LongTail) -> None:
    message = (
        r"^fslwf: 30 classes have more than balance.fslwf.base_min=20 training images, and an episode needs 31 "
        r"\(balance.fslwf.episode_novel and one more\). Lower episode_novel or base_min.$"
    )
    with pytest.raises(DataError, match=message):
        FSLwF.fit(context(plentiful.train), FSLwFConfig(episode_novel=30))


def test_divergence_names_the_key_to_lower(plentiful: LongTail) -> None:
    with pytest.raises(DataError, match=r"^fslwf: the training of this classifier diverged. Lower balance.fslwf.lr.$"):
        FSLwF.fit(context(plentiful.train), FSLwFConfig(lr=1e30, episode_novel=3))


def test_more_shots_than_leave_an_image_to_ask_for_are_refused() -> None:
    assert FSLwFConfig(shots=20).shots == 20
    with pytest.raises(UsageError, match=r"balance.fslwf`: shots=21 may be all images .* base_min=20") as caught:
        load_config(DEMO, ["balance.fslwf.shots=21"])
    assert "\n" not in str(caught.value)
