"""All that is known of how sure the answers of one classifier are, and its file: `RUN/calibration/<name>.safetensors`.

One file, so that tensors and record are always of the same fit, as those of classifiers are. N images, C classes, D
features.
"""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ltrsys.calibration.conformal import ConformalScores, prevalence_adjusted
from ltrsys.calibration.novelty import Novelty, distance_to_nearest, energy, share_less_usual
from ltrsys.calibration.thresholds import PrecisionCurve
from ltrsys.errors import DataError
from ltrsys.models.stored.weights import metadata_of, save_tensors
from ltrsys.runs.folder import RunFolder
from ltrsys.second_stage.store import classifier_path
from ltrsys.second_stage.temperature import probabilities


@dataclass(frozen=True, eq=False)
class Calibration:
    """How sure the answers of a classifier are. All methods take tensors of one device, whichever."""

    classifier: str
    """Its name."""
    temperature: float
    """What scores are divided by before the softmax."""
    curve: PrecisionCurve
    plain: ConformalScores
    """Of the probabilities."""
    adjusted: ConformalScores
    """Of the probabilities over the shares of the classes."""
    energies_n: Tensor
    """Of the calibration images, float64 [n], ascending."""
    distances_n: Tensor
    """From the features of the calibration images to the nearest class mean, float64 [n], ascending."""
    class_shares_C: Tensor
    """pi: the share of each class in the training images, float64 [C]; a class of none counts as if it had one."""
    class_means_PD: Tensor
    """Mean features of the P classes that have a training image, float32 [P, D]."""
    fitted_on: str
    """The images: "val", or another way in words where there is no val split."""
    num_images: int
    """How many of them."""
    fit: str
    """Fingerprint of the fit of the classifier."""
    fingerprint: str
    """SHA-256 of all that this depends on."""

    def probabilities(self, scores_NC: Tensor) -> Tensor:
        """Return the calibrated probabilities of the classifier's scores, float64 [N, C]."""
        return probabilities(scores_NC, self.temperature)

    def threshold(self, precision: float) -> float | None:
        """Return the confidence from which on an answer is right with at least this precision, from 0 to 1.

        The confidence of an answer is its probability. None where no threshold shows that precision: `why_not` says
        why.
        """
        return self.curve.first(precision)

    def why_not(self, precision: float) -> str:
        """Say in one sentence why `threshold` returns None."""
        return self.curve.why_not(precision)

    def prediction_sets(self, probabilities_NC: Tensor, coverage: float, *, adjusted: bool = False) -> Tensor:
        """Return which classes are in the set of each image, bool [N, C]; it holds the right one as often as asked for.

        Args:
            probabilities_NC: Calibrated ones.
            coverage: The wanted probability that the right class is in the set, between 0 and 1.
            adjusted: Whether p / pi decides what is in a set, and not p: rare classes are then left out less often.

        Raises:
            UsageError: Where the coverage is not between 0 and 1.
        """
        if adjusted:
            return self.adjusted.sets(prevalence_adjusted(probabilities_NC, self.class_shares_C), coverage)
        return self.plain.sets(probabilities_NC, coverage)

    def novelty(self, features_ND: Tensor, scores_NC: Tensor) -> Novelty:
        """Return how unlike the calibration images each image is, by its scores and by its features.

        Args:
            features_ND: Of the kind that the classifier takes.
            scores_NC: The classifier's.
        """
        energy_N = energy(scores_NC, self.temperature)
        distance_N = distance_to_nearest(features_ND, self.class_means_PD.to(features_ND.device))
        return Novelty(
            energy_N,
            distance_N,
            share_less_usual(energy_N, self.energies_n),
            share_less_usual(distance_N, self.distances_n),
        )


def save_calibration(calibration: Calibration, run: RunFolder) -> None:
    """Write a calibration, whole or not at all."""
    curve = calibration.curve
    tensors = {
        "threshold": torch.from_numpy(curve.threshold_K),
        "images": torch.from_numpy(curve.images_K),
        "right": torch.from_numpy(curve.right_K),
        "plain": calibration.plain.rising_n,
        "adjusted": calibration.adjusted.rising_n,
        "energies": calibration.energies_n,
        "distances": calibration.distances_n,
        "class_shares": calibration.class_shares_C,
        "class_means": calibration.class_means_PD,
    }
    record = {key: getattr(calibration, key) for key in _RECORDED}
    save_tensors(tensors, _path(run, calibration.classifier), {"ltrsys": json.dumps(record)})


def load_calibration(run: RunFolder, classifier: str) -> Calibration:
    """Read the calibration of a fitted classifier, onto the CPU.

    Raises:
        DataError: Where it is missing or damaged, or belongs to another fit of the classifier than the run folder
        holds.
    """
    path, again = _path(run, classifier), f"Run `ltrsys balance {run.path} --classifiers {classifier}` again."
    if not path.exists():
        raise DataError(
            f"{path}: it is not known how sure {classifier} is: `ltrsys balance {run.path} --classifiers {classifier} "
            "balance.calibrate=true` fits that."
        )
    calibration = _read(run, classifier)
    fitted = classifier_path(run.classifiers, classifier)
    if not fitted.exists():
        raise DataError(f"{fitted}: the classifier that {path} belongs to is missing. {again}")
    if json.loads(metadata_of(fitted).get("ltrsys", "{}")).get("fingerprint") != calibration.fit:
        raise DataError(f"{path}: belongs to another fit of {classifier} than {fitted}. {again}")
    return calibration


def current_calibration(run: RunFolder, classifier: str, fingerprint: str) -> Calibration | None:
    """Return a saved calibration; None if there is none, or what it depends on has another fingerprint.

    Raises:
        DataError: Where the file is damaged.
    """
    if not _path(run, classifier).exists():
        return None
    saved = _read(run, classifier)
    return saved if saved.fingerprint == fingerprint else None


_RECORDED = ("classifier", "temperature", "fitted_on", "num_images", "fit", "fingerprint")


def _path(run: RunFolder, classifier: str) -> Any:
    return run.calibration / f"{classifier}.safetensors"


def _read(run: RunFolder, classifier: str) -> Calibration:
    path = _path(run, classifier)
    try:
        with safe_open(path, framework="pt") as file:
            record = json.loads(file.metadata()["ltrsys"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)
        return Calibration(
            **{key: record[key] for key in _RECORDED},
            curve=PrecisionCurve(*(np.asarray(tensors[key]) for key in ("threshold", "images", "right"))),
            plain=ConformalScores(tensors["plain"]),
            adjusted=ConformalScores(tensors["adjusted"]),
            energies_n=tensors["energies"],
            distances_n=tensors["distances"],
            class_shares_C=tensors["class_shares"],
            class_means_PD=tensors["class_means"],
        )
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path}: not a saved calibration, or a damaged one ({error!r}). Delete it and run `ltrsys balance "
            f"{run.path}` again."
        ) from None
