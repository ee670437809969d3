"""Calibrations: what they depend on, and how they are kept."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ltrsys.calibration import fitting
from ltrsys.calibration.calibration import Calibration, load_calibration
from ltrsys.calibration.fitting import Calibrator
from ltrsys.classifiers.base import ValSplit
from ltrsys.classifiers.joint import Joint
from ltrsys.errors import DataError
from ltrsys.features.bank import BankSplit
from ltrsys.runs.folder import RunFolder
from ltrsys.second_stage import held_out
from ltrsys.second_stage.fitting import Fitter
from ltrsys.second_stage.store import Fitted, save_fitted
from ltrsys.second_stage.temperature import fit_temperature
from tests.calibration.banks import fitter_of
from tests.classifiers.conftest import NUM_CLASSES, LongTail, gaussian_split

VAL = ValSplit("val")
NO_VAL = ValSplit(None)


def fitter(data: LongTail, folder: Path, val: ValSplit = VAL, identity: str = "model") -> Fitter:
    return fitter_of(data, folder, val=val, identity=identity)


@pytest.fixture
def calibrated(long_tail: LongTail, tmp_path: Path) -> tuple[Calibration, Fitted]:
    fits = fitter(long_tail, tmp_path)
    fitted = fits.fitted("joint")
    return Calibrator(fits).calibrated(fitted), fitted


def test_it_is_what_numpy_makes_of_the_val_images(calibrated: tuple[Calibration, Fitted], long_tail: LongTail) -> None:
    found, _ = calibrated
    val, train = long_tail.val, long_tail.train
    scores = long_tail.joint.scores(torch.from_numpy(val.features))
    assert (found.fitted_on, found.num_images) == ("val", len(val))
    assert found.temperature == pytest.approx(fit_temperature(scores, torch.from_numpy(val.labels)))
    powers = np.exp(scores.double().numpy() / found.temperature)
    chances = powers / powers.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found.probabilities(scores).numpy(), chances, rtol=1e-9)
    own, shares = chances[np.arange(len(val)), val.labels], train.class_counts / len(train)
    lifts = own / shares[val.labels]
    np.testing.assert_allclose(found.plain.rising_n.numpy(), np.sort(own), rtol=1e-9)
    np.testing.assert_allclose(found.adjusted.rising_n.numpy(), np.sort(lifts), rtol=1e-9)
    correct = chances.argmax(axis=1) == val.labels
    assert (found.curve.images_K[-1], found.curve.right_K[-1]) == (len(val), correct.sum())
    assert correct[chances.max(axis=1) >= found.threshold(0.7)].mean() > 0.7
    rank = int(np.ceil(0.9 * (len(val) + 1)))
    for adjusted, conformity, of_label in ((False, chances, own), (True, chances / shares, lifts)):
        sets = found.prediction_sets(torch.from_numpy(chances), 0.9, adjusted=adjusted).numpy()
        np.testing.assert_array_equal(sets, conformity >= np.sort(of_label)[::-1][rank - 1] * (1 - 1e-9))
        assert sets[np.arange(len(val)), val.labels].sum() == rank


def test_novelty_is_told_among_the_val_images(calibrated: tuple[Calibration, Fitted], long_tail: LongTail) -> None:
    found, _ = calibrated
    features = torch.from_numpy(long_tail.val.features)
    usual = found.novelty(features, long_tail.joint.scores(features))
    for share in (usual.energy_share_N, usual.distance_share_N):
        np.testing.assert_allclose(share.sort().values, np.arange(1, 501) / 500, atol=1e-3)
    means = np.stack([long_tail.train.features[long_tail.train.labels == c].mean(axis=0) for c in range(NUM_CLASSES)])
    expected = np.linalg.norm(long_tail.val.features[:, None].astype(float) - means[None], axis=2).min(axis=1)
    np.testing.assert_allclose(usual.distance_N.numpy(), expected, rtol=1e-4)
    far = 9 - features
    strange = found.novelty(far, long_tail.joint.scores(far))
    assert float(strange.distance_share_N.max()) < 0.01


def test_it_comes_back_to_the_last_bit(calibrated: tuple[Calibration, Fitted], tmp_path: Path) -> None:
    found, _ = calibrated
    back = load_calibration(RunFolder(tmp_path), "joint")
    for key, value in vars(found).items():
        other = getattr(back, key)
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, other), key
            assert value.dtype == other.dtype
        elif key in ("plain", "adjusted"):
            assert torch.equal(value.rising_n, other.rising_n)
        elif key == "curve":
            assert all(
                np.array_equal(one, two) for one, two in zip(vars(value).values(), vars(other).values(), strict=True)
            )
        else:
            assert value == other, key


def test_what_is_current_is_not_fitted_again(
    calibrated: tuple[Calibration, Fitted], long_tail: LongTail, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, fitted = calibrated

    def fail(*_: object) -> float:
        raise AssertionError

    monkeypatch.setattr(held_out, "fit_temperature", fail)
    assert Calibrator(fitter(long_tail, tmp_path)).calibrated(fitted).fingerprint == found.fingerprint


def test_it_depends_on_the_fit_and_on_the_images_that_it_is_fitted_on(
    calibrated: tuple[Calibration, Fitted], long_tail: LongTail, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, fitted = calibrated
    same = Calibrator(fitter(long_tail, tmp_path)).fingerprint(fitted)
    assert same == found.fingerprint
    others = [
        Calibrator(fitter(long_tail, tmp_path)).fingerprint(replace(fitted, fingerprint="another")),
        Calibrator(fitter(long_tail, tmp_path, NO_VAL)).fingerprint(fitted),
        Calibrator(fitter(long_tail, tmp_path, ValSplit("test", is_reported=True))).fingerprint(fitted),
        Calibrator(fitter(long_tail, tmp_path, ValSplit("test"))).fingerprint(fitted),
    ]
    monkeypatch.setattr(fitting, "VERSION", 99)
    others.append(Calibrator(fitter(long_tail, tmp_path)).fingerprint(fitted))
    assert len({same, *others}) == 6


def test_a_calibration_of_another_fit_is_refused(calibrated: tuple[Calibration, Fitted], tmp_path: Path) -> None:
    _, fitted = calibrated
    run = RunFolder(tmp_path)
    save_fitted(replace(fitted, fingerprint="newer"), run.classifiers)
    with pytest.raises(DataError, match=rf"belongs to another fit of joint than .* `ltrsys balance {tmp_path}"):
        load_calibration(run, "joint")
    (run.classifiers / "joint.safetensors").unlink()
    with pytest.raises(DataError, match=r"classifier that .* belongs to is missing"):
        load_calibration(run, "joint")


def test_a_missing_or_damaged_calibration_says_what_to_do(
    calibrated: tuple[Calibration, Fitted], long_tail: LongTail, tmp_path: Path
) -> None:
    run, (_, fitted) = RunFolder(tmp_path), calibrated
    unknown = rf"it is not known how sure ncm is: `ltrsys balance {tmp_path} --classifiers ncm"
    with pytest.raises(DataError, match=unknown):
        load_calibration(run, "ncm")
    path = run.calibration / "joint.safetensors"
    path.write_bytes(path.read_bytes()[:90])
    damaged = r"joint\.safetensors: not a saved calibration, or a damaged one .* Delete it"
    with pytest.raises(DataError, match=damaged):
        load_calibration(run, "joint")
    with pytest.raises(DataError, match=damaged):
        Calibrator(fitter(long_tail, tmp_path)).calibrated(fitted)


def test_where_the_reported_split_is_allowed_it_says_so(long_tail: LongTail, tmp_path: Path) -> None:
    fits = fitter(long_tail, tmp_path, ValSplit("test", is_reported=True))
    assert Calibrator(fits).fit(fits.fitted("joint")).fitted_on == "test, which is reported"


@pytest.mark.parametrize("name", ["joint", "ncm", "tau", "logit_adjusted"])
def test_without_val_it_comes_from_train(name: str, long_tail: LongTail, tmp_path: Path) -> None:
    fits = fitter(long_tail, tmp_path, NO_VAL)
    fitted = fits.fitted(name)
    found = Calibrator(fits).calibrated(fitted)
    assert found.fitted_on.startswith("train")
    assert found.num_images == len(long_tail.train)
    assert len(found.distances_n) == len(found.energies_n) == found.num_images
    assert torch.isfinite(found.distances_n).all()
    on_val = Calibrator(fitter(long_tail, tmp_path / "val")).fit(fitted)  # a balanced one
    if name == "ncm":
        assert found.temperature == pytest.approx(on_val.temperature, rel=0.15), "no backbone has seen these images"
    else:
        too_sure = found.temperature < on_val.temperature or found.temperature == 1.0
        assert too_sure, "as it says"
        assert found.temperature > 0.6 * on_val.temperature
        assert found.fitted_on.endswith("too sure")


def test_training_images_do_not_make_a_classifier_surer_than_its_training_did(
    long_tail: LongTail, tmp_path: Path
) -> None:
    """One whose logits are a fifth of what they should be: val says so, and train is not believed."""
    joint = Joint(long_tail.joint.weight_CD / 5, long_tail.joint.bias_C / 5)
    data = replace(long_tail, joint=joint)
    temperatures = {}
    for val in (VAL, NO_VAL):
        fits = fitter(data, tmp_path / str(val.name), val)
        temperatures[val.name] = Calibrator(fits).calibrated(fits.fitted("joint")).temperature
    assert temperatures["val"] < 0.5
    assert temperatures[None] == 1.0


def test_a_class_without_training_images_is_never_sure_but_no_mistake(long_tail: LongTail, tmp_path: Path) -> None:
    train = long_tail.train
    seen = train.labels != 19
    data = replace(long_tail, train=BankSplit(train.features[seen], train.labels[seen], NUM_CLASSES))
    fits = fitter(data, tmp_path)
    found = Calibrator(fits).calibrated(fits.fitted("ncm"))
    assert 0 < found.temperature < 10
    assert len(found.class_means_PD) == NUM_CLASSES - 1
    assert float(found.class_shares_C[19]) == pytest.approx(1 / (seen.sum() + 1), rel=0.01)
    assert int((found.plain.rising_n == 0).sum()) == 25, "val images of that class"
    features = torch.from_numpy(long_tail.test.features)
    chances = found.probabilities(fits.fitted("ncm").classifier.scores(features))
    assert torch.isfinite(chances).all()
    assert (chances[:, 19] == 0).all()


@pytest.mark.parametrize("images", [1, 3])
def test_hardly_any_val_images_make_sets_of_all_classes_and_no_thresholds(
    images: int, long_tail: LongTail, tmp_path: Path
) -> None:
    val = BankSplit(long_tail.val.features[:images], long_tail.val.labels[:images], NUM_CLASSES)
    fits = fitter(replace(long_tail, val=val), tmp_path)
    found = Calibrator(fits).calibrated(fits.fitted("joint"))
    chances = found.probabilities(long_tail.joint.scores(torch.from_numpy(long_tail.test.features)))
    assert found.prediction_sets(chances, 0.9).all()
    assert found.threshold(0.9) is None
    assert f"cannot be shown on {images} images" in found.why_not(0.9)


def test_one_class_is_always_right(long_tail: LongTail, tmp_path: Path) -> None:
    split = gaussian_split(np.array([40]), spread=0.6, seed=0)
    joint = Joint(torch.ones(1, 16), torch.zeros(1))
    fits = fitter(LongTail(split, split, split, joint), tmp_path)
    found = Calibrator(fits).calibrated(fits.fitted("joint"))
    assert found.temperature == 1.0
    chances = found.probabilities(joint.scores(torch.from_numpy(split.features)))
    assert (chances == 1).all()
    assert found.prediction_sets(chances, 0.9).all()
    assert found.threshold(0.8) == 0.0


def test_val_without_few_shot_classes_is_no_mistake(long_tail: LongTail, tmp_path: Path) -> None:
    frequent = long_tail.val.labels < 8
    val = BankSplit(long_tail.val.features[frequent], long_tail.val.labels[frequent], NUM_CLASSES)
    fits = fitter(replace(long_tail, val=val), tmp_path)
    found = Calibrator(fits).calibrated(fits.fitted("joint"))
    chances = found.probabilities(long_tail.joint.scores(torch.from_numpy(val.features)))
    for adjusted in (False, True):
        sets = found.prediction_sets(chances, 0.9, adjusted=adjusted)
        covered = sets.gather(1, torch.from_numpy(val.labels)[:, None])
        assert int(covered.sum()) == int(np.ceil(0.9 * (len(val) + 1)))


def test_the_order_of_the_classes_changes_nothing(long_tail: LongTail, tmp_path: Path) -> None:
    order = np.random.default_rng(0).permutation(NUM_CLASSES)  # class i becomes class order[i]

    def moved(split: BankSplit) -> BankSplit:
        return BankSplit(split.features, order[split.labels], NUM_CLASSES)

    place = torch.from_numpy(order.argsort())
    joint = Joint(long_tail.joint.weight_CD[place], long_tail.joint.bias_C[place])
    one, other = (
        fitter(data, tmp_path / name)
        for name, data in (
            ("one", long_tail),
            ("other", LongTail(moved(long_tail.train), moved(long_tail.val), moved(long_tail.test), joint)),
        )
    )
    for name in ("joint", "ncm"):
        found, again = (Calibrator(fits).calibrated(fits.fitted(name)) for fits in (one, other))
        assert again.temperature == pytest.approx(found.temperature, rel=1e-4)
        for key in ("energies_n", "distances_n"):
            torch.testing.assert_close(getattr(again, key), getattr(found, key), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(again.adjusted.rising_n, found.adjusted.rising_n, rtol=1e-3, atol=1e-4)
        assert again.threshold(0.8) == pytest.approx(found.threshold(0.8), abs=1e-3)
