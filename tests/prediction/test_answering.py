"""How sure an answer is, groups of classes, and sets of them: by hand on few classes."""

import numpy as np
import pytest
import torch
from torch import Tensor

from ltrsys.calibration.calibration import Calibration
from ltrsys.calibration.conformal import ConformalScores
from ltrsys.calibration.thresholds import PrecisionCurve
from ltrsys.data.index.records import ClassRecord
from ltrsys.errors import UsageError
from ltrsys.metrics.config import ShotsConfig
from ltrsys.models.signature import Preprocessing, Signature
from ltrsys.prediction.answering import Answerer, Scored
from ltrsys.prediction.answers import Answer, Prediction, Taxon, Unlikeness, Wanted

PREPROCESSING = Preprocessing(reduced_to=None, resize=16, image_size=16, mean=(0, 0, 0), std=(1, 1, 1))
COUNTS = [200, 50, 10, 5]
TAXONOMY = [
    {"kingdom": "Animalia", "family": "Prunellidae", "genus": "Prunella"},
    {"kingdom": "Animalia", "family": "Prunellidae", "genus": "Prunella"},
    {"kingdom": "Plantae", "family": "Lamiaceae", "genus": "Prunella"},
    {"kingdom": "Plantae", "family": "NA"},
]
NAMES = ["P. modularis", "P. collaris", "P. vulgaris", "moss"]


def signature(taxonomy: bool = True) -> Signature:
    classes = [
        ClassRecord(name=name, taxonomy=groups if taxonomy else {})
        for name, groups in zip(NAMES, TAXONOMY, strict=True)
    ]
    return Signature(classes=classes, train_counts=COUNTS, preprocessing=PREPROCESSING)


def calibration() -> Calibration:
    """One by which 0.6 is sure enough for 90 %, nothing for 99.9 %, and 90 % of sets need p of 0.3 or p/pi of 2."""
    confidence, correct = np.linspace(0.2, 1, 2001), np.ones(2001, bool)
    correct[:1001] = np.arange(1001) % 2 == 0  # below 0.6 every second answer is wrong
    conformity = torch.cat([torch.zeros(5), torch.full((5,), 0.3), torch.full((90,), 0.9)]).double()
    shares = torch.tensor(COUNTS).double() / sum(COUNTS)
    return Calibration(
        classifier="crt",
        temperature=1.0,
        curve=PrecisionCurve.of(confidence, correct),
        plain=ConformalScores(conformity),
        adjusted=ConformalScores(conformity / 0.15),
        energies_n=torch.linspace(-10, -1, 10).double(),
        distances_n=torch.linspace(0.1, 1, 10).double(),
        class_shares_C=shares,
        class_means_PD=torch.eye(4),
        fitted_on="val",
        num_images=2001,
        fit="",
        fingerprint="",
    )


def say(
    rows: list[list[float]], wanted: Wanted, of: Signature | None = None, known: Calibration | None = None
) -> list[Prediction]:
    probabilities = torch.tensor(rows, dtype=torch.float64)
    scored = Scored(range(len(rows)), [None] * len(rows), torch.eye(4)[: len(rows)], probabilities.log(), probabilities)
    answerer = Answerer(wanted, of or signature(), ShotsConfig(), known or calibration())
    ranking: Tensor = probabilities.argsort(dim=1, descending=True, stable=True)[:, : wanted.top]
    return answerer.predictions([f"{row}.jpg" for row in range(len(rows))], scored, ranking)


def named(prediction: Prediction) -> list[tuple[str, float]]:
    return [(answer.name, round(answer.probability, 6)) for answer in prediction.answers]


def test_the_best_classes_come_with_their_shots_and_groups() -> None:
    (prediction,) = say([[0.1, 0.6, 0.3, 0.0]], Wanted(top=2))
    assert prediction.answers == [
        Answer(1, "P. collaris", 0.6, 50, "medium", TAXONOMY[1]),
        Answer(2, "P. vulgaris", 0.3, 10, "few", TAXONOMY[2]),
    ]
    assert (prediction.status, prediction.taxon, prediction.unlikeness) == ("ok", None, None)


def test_below_the_threshold_of_a_precision_the_answer_is_not_sure() -> None:
    sure, unsure = say([[0.9, 0.1, 0, 0], [0.25, 0.25, 0.3, 0.2]], Wanted(min_precision=0.9))
    assert (sure.status, unsure.status) == ("ok", "not sure")
    assert named(unsure)[0] == ("P. vulgaris", 0.3), "what it may be is said all the same"


def test_where_nothing_shows_a_precision_no_answer_is_sure() -> None:
    assert say([[1.0, 0, 0, 0]], Wanted(min_precision=0.9999))[0].status == "not sure"


def test_sets_hold_what_reaches_the_conformity_and_at_least_the_best() -> None:
    first, second = say([[0.4, 0.35, 0.2, 0.05], [0.28, 0.26, 0.24, 0.22]], Wanted(coverage=0.93))
    assert named(first) == [("P. modularis", 0.4), ("P. collaris", 0.35)]
    assert named(second) == [("P. modularis", 0.28)]


def test_adjusted_sets_take_rare_classes_with_a_smaller_probability() -> None:
    (prediction,) = say([[0.8, 0.1, 0.08, 0.02]], Wanted(coverage=0.93, adjusted=True))
    # p / pi: 1.06, 0.53, 2.12, 1.06 against 0.3 / 0.15 = 2
    assert named(prediction) == [("P. modularis", 0.8), ("P. vulgaris", 0.08)]


def test_groups_of_one_name_in_different_kingdoms_are_two() -> None:
    (prediction,) = say([[0.3, 0.25, 0.4, 0.05]], Wanted(rank="genus"))
    assert named(prediction) == [("Prunella", 0.55), ("Prunella", 0.4)]
    assert [answer.taxonomy["kingdom"] for answer in prediction.answers] == ["Animalia", "Plantae"]
    assert [(answer.class_id, answer.train_images, answer.shot) for answer in prediction.answers] == [
        (None, 250, None), (None, 10, None),
    ]  # fmt: skip
    assert named(say([[0.3, 0.25, 0.4, 0.05]], Wanted(rank="family", top=1))[0]) == [("Prunellidae", 0.55)]


@pytest.mark.parametrize(
    ("row", "taxon", "status"),
    [
        ([0.95, 0.05, 0, 0], Taxon("class", "P. modularis", 0.95), "ok"),
        ([0.5, 0.45, 0.05, 0], Taxon("genus", "Prunella", 0.95), "ok"),
        ([0.02, 0.03, 0.5, 0.45], Taxon("kingdom", "Plantae", 0.95), "ok"),
        ([0.4, 0.2, 0.2, 0.2], None, "not sure"),
    ],
)
def test_auto_is_the_finest_group_that_is_sure_enough(row: list[float], taxon: Taxon | None, status: str) -> None:
    (prediction,) = say([row], Wanted(rank="auto"))
    assert prediction.status == status
    if taxon is None:
        assert prediction.taxon is None
    else:
        assert prediction.taxon == Taxon(taxon.rank, taxon.name, pytest.approx(taxon.probability))


def test_unlikeness_is_the_share_of_known_images_that_are_as_unlike() -> None:
    prediction, other = say([[1.0, 0, 0, 0], [0.25, 0.25, 0.25, 0.25]], Wanted(novelty=True))
    # energies are 0 and 0, all known ones lower; distances to the means are 0
    assert prediction.unlikeness == Unlikeness(0.0, 1.0)
    assert other.unlikeness == Unlikeness(0.0, 1.0)


def test_what_cannot_be_read_says_so_and_nothing_else() -> None:
    probabilities = torch.full((1, 4), 0.25).double()
    scored = Scored([0], ["no image"], torch.zeros(1, 4), probabilities.log(), probabilities)
    answerer = Answerer(Wanted(rank="auto", novelty=True), signature(), ShotsConfig(), calibration())
    (prediction,) = answerer.predictions(["a.jpg"], scored, torch.tensor([[0, 1]]))
    assert prediction == Prediction("a.jpg", (), "unreadable", "no image")


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (Wanted(min_precision=0.9999), "--min-precision 0.9999: a precision of 0.9999 cannot be shown on 2,001 images"),
        (Wanted(min_precision=90), "--min-precision 90: give a number between 0 and 1"),
        (Wanted(coverage=1), "--coverage 1: give a number between 0 and 1"),
        (Wanted(adjusted=True), "--adjusted is for --coverage: give both"),
        (Wanted(rank="genu"), "--rank genu: no class has such a rank. Did you mean genus?"),
        (Wanted(rank="genus", coverage=0.9), "--rank genus goes with --top alone"),
        (Wanted(top=0), "--top 0: give 1 or more"),
    ],
)
def test_what_cannot_be_answered_is_refused(wanted: Wanted, said: str) -> None:
    with pytest.raises(UsageError) as error:
        Answerer(wanted, signature(), ShotsConfig(), calibration()).check_precision()
    assert said in str(error.value)


@pytest.mark.parametrize(
    "wanted", [Wanted(min_precision=0.9), Wanted(coverage=0.9), Wanted(rank="auto"), Wanted(novelty=True)]
)
def test_without_a_calibration_it_is_not_known_how_sure_it_is(wanted: Wanted) -> None:
    with pytest.raises(UsageError, match=r"needs to know how sure the classifier is\. Do this"):
        Answerer(wanted, signature(), ShotsConfig(), None, "Do this.")


def test_without_a_taxonomy_there_are_no_ranks() -> None:
    with pytest.raises(UsageError, match="the taxonomy of the classes is not known"):
        Answerer(Wanted(rank="auto"), signature(taxonomy=False), ShotsConfig(), calibration())
