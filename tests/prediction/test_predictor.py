"""The predictor sees and answers as `ltrsys balance` does, whatever it is given an image as."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import ltrsys
from ltrsys.classifiers.base import CLASSIFIERS
from ltrsys.config.reading import load_run_config
from ltrsys.data.index.dataset import Dataset
from ltrsys.errors import DataError, UsageError
from ltrsys.evaluation.split import EvaluatedSplit
from ltrsys.features.bank import FeatureBank
from ltrsys.prediction.images.collections import Samples
from ltrsys.prediction.predictor import Predictor
from ltrsys.runs.folder import RunFolder
from ltrsys.second_stage.store import load_fitted
from tests.conftest import TINY_COUNTS

pytestmark = pytest.mark.long

CPU = torch.device("cpu")


def test_features_of_shards_and_of_files_are_those_of_the_bank_to_the_bit(
    predictor: Predictor, named: RunFolder, tiny_shards: Path, test_files: list[str]
) -> None:
    samples = Samples(Dataset.open(tiny_shards).split("test"))
    of_shards = torch.cat([scored.features_BD for scored in predictor.run(samples, range(len(samples)))])
    bank = FeatureBank.open(named.features).split("test")
    assert np.array_equal(of_shards.numpy(), bank.features)
    assert torch.equal(predictor.features(test_files), of_shards)


@pytest.mark.parametrize("name", ["joint", "ncm", "crt", "tau", "logit_adjusted"])
def test_scores_and_ranking_are_those_of_the_evaluation(name: str, named: RunFolder, test_files: list[str]) -> None:
    bank, config = FeatureBank.open(named.features), load_run_config(named)
    fitted = load_fitted(named.classifiers, name, CPU)
    evaluated = EvaluatedSplit("test", bank.split("test"), bank.split("train").class_counts, config.shots, CPU)
    expected = evaluated.ranking(fitted.classifier)
    with Predictor.load(named.path, classifier=name, batch_size=64) as predictor:
        predictions = predictor.predict(test_files, top=5)
        scores = predictor.scores(test_files)
    assert [[answer.class_id for answer in prediction.answers] for prediction in predictions] == expected.tolist()
    features = torch.from_numpy(np.array(bank.split("test").features))
    in_batches = [fitted.classifier.scores(part) for part in features.split(64)]
    assert torch.equal(scores, torch.cat(in_batches))


def test_answers_carry_what_is_known_of_their_classes(predictor: Predictor, test_files: list[str]) -> None:
    (prediction,) = predictor.predict(test_files[7], top=12)
    known = predictor.signature.classes
    assert prediction.path == test_files[7]
    assert prediction.status == "ok"
    assert prediction.best is prediction.answers[0]
    for answer in prediction.answers:
        assert answer.name == known[answer.class_id].name
        assert answer.train_images == TINY_COUNTS[answer.class_id]
        assert answer.shot == ("many" if answer.train_images > 100 else "few" if answer.train_images < 20 else "medium")
    given = [answer.probability for answer in prediction.answers]
    assert given == sorted(given, reverse=True)
    assert sum(given) == pytest.approx(1, abs=1e-5)


def test_pixels_are_treated_as_a_png_file_of_them(predictor: Predictor, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    pixels = np.asarray(Image.fromarray(random.integers(0, 255, (7, 9, 3), np.uint8)).resize((45, 36)))
    path = tmp_path / "a.png"
    Image.fromarray(pixels).save(path)
    tensor = torch.from_numpy(pixels.copy()).permute(2, 0, 1)
    forms = [path, str(path), path.read_bytes(), Image.open(path), Image.fromarray(pixels), pixels, tensor]
    features = predictor.features(forms)
    assert torch.equal(features, features[:1].expand_as(features))
    assert torch.equal(predictor.features(pixels), predictor.features([pixels]))
    assert torch.equal(predictor.features(torch.stack([tensor, tensor])), predictor.features([path, path]))
    grey = pixels[:, :, 0]
    one, other = predictor.features([grey, torch.from_numpy(grey.copy())])
    assert torch.equal(one, other)


def test_an_image_of_pillow_is_turned_as_its_camera_says(predictor: Predictor, test_files: list[str]) -> None:
    upright = Image.open(test_files[0]).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    upright.transpose(Image.Transpose.ROTATE_90).save(buffer, "PNG", exif=exif)
    turned = Image.open(buffer)
    assert torch.equal(predictor.features(turned), predictor.features(upright))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "1", "CMYK", "I;16", "L"])
def test_images_of_pillow_of_any_mode_are_taken(predictor: Predictor, test_files: list[str], mode: str) -> None:
    image = Image.open(test_files[0])
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16))
    assert predictor.predict(image.convert(mode) if mode != "I;16" else image)[0].status == "ok"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (np.zeros((4, 4)), "is a ndarray of float64, [4, 4]. Give a path"),
        (torch.zeros(3, 4, 4), "is a Tensor of float32, [3, 4, 4]"),
        (np.zeros((4, 4, 7), np.uint8), "is a ndarray of uint8, [4, 4, 7]"),
        (np.zeros((0, 4, 3), np.uint8), "has no pixels"),
        (17, "is a int"),
        (None, "is a NoneType"),
    ],
)
def test_what_is_no_image_is_refused_with_what_would_be_one(predictor: Predictor, wrong: object, said: str) -> None:
    with pytest.raises(UsageError, match="image 1 ") as error:
        predictor.predict(["/no/such/file.jpg", wrong])  # type: ignore[list-item]
    assert said in str(error.value)


def test_what_cannot_be_read_is_said_of_the_image_and_ends_nothing(
    predictor: Predictor, test_files: list[str], tmp_path: Path
) -> None:
    text = tmp_path / "text.jpg"
    text.write_text("no image")
    cut = Path(test_files[1]).read_bytes()
    given = [test_files[0], tmp_path / "gone.jpg", text, b"", cut[: len(cut) // 2], cut[:-2], tmp_path, test_files[2]]
    predictions = predictor.predict(given)
    assert [prediction.status for prediction in predictions] == ["ok", *["unreadable"] * 6, "ok"]
    problems = [str(prediction.problem) for prediction in predictions[1:-1]]
    assert problems[0] == "there is no such file"
    assert problems[1] == "not an image of a known format"
    assert problems[2] == "the file is empty"
    assert problems[3].startswith("it cannot be decoded")
    assert problems[4].startswith("it cannot be decoded")
    assert problems[5] == "it cannot be read (Is a directory)"
    with pytest.raises(ValueError, match=r"gone\.jpg: there is no such file"):
        _ = predictions[1].best
    with pytest.raises(DataError, match=r"text\.jpg: not an image of a known format"):
        predictor.features(given[2:])


def test_where_nothing_can_be_read_the_network_is_not_asked(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(predictor.model.backbone), "forward", None)
    size = predictor.batch_size + 3
    predictions = predictor.predict([f"/gone/{number}.jpg" for number in range(size)])
    assert [(prediction.status, prediction.answers) for prediction in predictions] == [("unreadable", ())] * size


def test_an_image_has_the_same_features_whatever_is_wrong_with_its_neighbours(
    predictor: Predictor, test_files: list[str]
) -> None:
    whole = predictor.features(test_files[:64])
    cut = [Path(path).read_bytes()[:400] if place % 3 == 1 else path for place, path in enumerate(test_files[:64])]
    predictions = predictor.predict(cut, top=12)
    expected = predictor.predict(test_files[:64], top=12)
    assert len(whole) == 64
    for place, (one, other) in enumerate(zip(predictions, expected, strict=True)):
        assert one.answers == (() if place % 3 == 1 else other.answers)


def test_known_frequencies_follow_the_rule_of_bayes(named: RunFolder, test_files: list[str]) -> None:
    wanted = np.array([5.0, 0, 1, 1, 2, 0, 3, 1, 1, 1, 1, 4])
    trained = np.array(TINY_COUNTS) / sum(TINY_COUNTS)
    for name, own in (("joint", trained), ("crt", np.full(12, 1 / 12))):
        with Predictor.load(named.path, classifier=name) as plain, plain.with_frequencies(wanted) as adjusted:
            before = plain.probabilities(test_files[:40]).double().numpy()
            after = adjusted.probabilities(test_files[:40]).double().numpy()
            best = [prediction.best.class_id for prediction in adjusted.predict(test_files[:40])]
            assert len(adjusted.predict(test_files[0], top=12)[0].answers) == 10
        expected = before * wanted / own
        np.testing.assert_allclose(after, expected / expected.sum(axis=1, keepdims=True), rtol=1e-4, atol=1e-7)
        assert best == expected.argmax(axis=1).tolist()


def test_kept_to_some_classes_probabilities_are_shares_among_them(predictor: Predictor, test_files: list[str]) -> None:
    chosen = np.zeros(12, bool)
    chosen[[2, 3, 9]] = True
    before = predictor.probabilities(test_files[:30]).numpy()
    with predictor.only(chosen) as kept:
        after = kept.probabilities(test_files[:30]).numpy()
        frequencies = np.arange(12.0)
        with predictor.with_frequencies(frequencies).only(chosen) as both:
            shares = both.probabilities(test_files[:30]).numpy()
    expected = before * chosen
    np.testing.assert_allclose(after, expected / expected.sum(axis=1, keepdims=True), rtol=1e-4, atol=1e-7)
    expected = before * chosen * frequencies
    np.testing.assert_allclose(shares, expected / expected.sum(axis=1, keepdims=True), rtol=1e-4, atol=1e-7)


def test_no_class_left_is_refused(predictor: Predictor) -> None:
    with pytest.raises(UsageError, match="No class is left"):
        predictor.only(np.zeros(12, bool))


def test_without_a_name_the_first_that_was_fitted_of_a_stated_order_answers(named: RunFolder, again: RunFolder) -> None:
    assert ltrsys.Predictor.load(named.path).classifier == "crt"
    (again.classifiers / "crt.safetensors").unlink()
    assert ltrsys.Predictor.load(again.path).classifier == "tau"


def test_nothing_is_given_for_nothing(predictor: Predictor) -> None:
    assert predictor.predict([]) == []
    assert predictor.features([]).shape == (0, predictor.model.feature_dim)
    assert predictor.probabilities([]).shape == (0, 12)


def test_every_classifier_says_for_which_frequencies_its_probabilities_are(named: RunFolder) -> None:
    trained, counts = np.array(TINY_COUNTS) / sum(TINY_COUNTS), np.array(TINY_COUNTS)
    for name in ("joint", "ncm", "crt", "tau", "logit_adjusted"):
        assert name in CLASSIFIERS
        classifier = load_fitted(named.classifiers, name, CPU).classifier
        frequencies = classifier.class_frequencies(trained, counts)
        assert frequencies.sum() == pytest.approx(1)
        t = {"joint": 0.0, "logit_adjusted": classifier.params().get("t")}.get(name)
        expected = np.full(12, 1 / 12) if t is None else trained / counts**t / (trained / counts**t).sum()
        np.testing.assert_allclose(frequencies, expected)
