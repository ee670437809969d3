"""Fitting how sure classifiers are, and keeping what does not depend on anything that has changed."""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ltrsys.calibration.calibration import Calibration, current_calibration, save_calibration
from ltrsys.calibration.conformal import ConformalScores, prevalence_adjusted
from ltrsys.calibration.novelty import distance_to_nearest, energy, leave_one_out_distance
from ltrsys.calibration.thresholds import PrecisionCurve
from ltrsys.features.bank import BLOCK_ROWS, fingerprint
from ltrsys.features.class_means import means_of_bank
from ltrsys.features.config import FeatureKind
from ltrsys.second_stage.fitting import Fitter
from ltrsys.second_stage.held_out import HeldOut
from ltrsys.second_stage.store import Fitted
from ltrsys.second_stage.temperature import chunks, probabilities

VERSION = 1
"""Raised when the same inputs come to give another calibration: those of before are fitted anew."""


@dataclass(frozen=True)
class Calibrator:
    """Calibrates fitted classifiers, on the val split that may be selected on, or else on train."""

    fitter: Fitter
    _means: dict[FeatureKind, Tensor] = field(default_factory=dict)

    def calibrated(self, fitted: Fitted) -> Calibration:
        """Return the calibration of a classifier, fitting and saving it if it is missing or out of date.

        Raises:
            DataError: Where a saved one is damaged, or the classifier's scores are NaN.
        """
        current = current_calibration(self.fitter.run, fitted.classifier.name, self.fingerprint(fitted))
        if current is None:
            current = self.fit(fitted)
            save_calibration(current, self.fitter.run)
        return current

    def fingerprint(self, fitted: Fitted) -> str:
        """SHA-256 of all that a calibration depends on; the bank, and with it the images, is part of the fit's."""
        val = self.fitter.val
        on = [val.name, val.is_reported] if val.name else fitted.classifier.calibration_folds
        return fingerprint([VERSION, fitted.fingerprint, on])

    def fit(self, fitted: Fitted) -> Calibration:
        """Calibrate a classifier, without saving it."""
        classifier, val, device = fitted.classifier, self.fitter.val, self.fitter.device
        train = self.fitter.bank.split("train", classifier.features)
        shares_C = class_shares(train.class_counts)
        own = self.fitter.bank.split(val.name, classifier.features) if val.name else train
        held_out = self.fitter.held_out(fitted)
        means_CD = self._means_of(classifier.features)
        present_P = torch.from_numpy(np.flatnonzero(train.class_counts)).to(device)
        distances = []
        for first in range(0, len(held_out.rows_N), BLOCK_ROWS):
            features_ND, labels_N = own.rows(held_out.rows_N[first : first + BLOCK_ROWS], device)
            if val.name is not None:
                distances.append(distance_to_nearest(features_ND, means_CD[present_P]))
            else:
                counts_C = torch.from_numpy(train.class_counts).to(device)
                distances.append(leave_one_out_distance(features_ND, labels_N, means_CD, counts_C))
        return calibrate(
            held_out,
            torch.cat(distances),
            shares_C,
            means_CD[present_P],
            classifier=classifier.name,
            fit=fitted.fingerprint,
            fingerprint=self.fingerprint(fitted),
        )

    def _means_of(self, kind: FeatureKind) -> Tensor:
        if kind not in self._means:
            self._means[kind] = means_of_bank(self.fitter.bank.split("train", kind), self.fitter.device)
        return self._means[kind]


def class_shares(class_counts: np.ndarray) -> Tensor:
    """Return the share of each class in the training images, float64 [C]; a class of none counts as if it had one."""
    counts = torch.from_numpy(np.maximum(class_counts, 1).astype(np.float64))
    return counts / counts.sum()


def calibrate(
    held_out: HeldOut,
    distance_N: Tensor,
    shares_C: Tensor,
    means_PD: Tensor,
    *,
    classifier: str,
    fit: str,
    fingerprint: str,
) -> Calibration:
    """Fit the temperature; then, of the probabilities, all else.

    Args:
        held_out: The images and their scores.
        distance_N: Of their features to the nearest class mean.
        shares_C: Of the classes in the training images.
        means_PD: Class means.
        classifier: Its name.
        fit: Fingerprint of its fit.
        fingerprint: Of the calibration.
    """
    temperature = held_out.temperature()
    confidence, correct, plain, adjusted, energies = [], [], [], [], []
    first = 0
    for scores_NC in chunks(held_out.scores_NC):
        labels_N = held_out.labels_N[first : first + len(scores_NC)]
        first += len(scores_NC)
        probabilities_NC = probabilities(scores_NC, temperature)
        top_N, answer_N = probabilities_NC.max(dim=1)
        confidence.append(top_N)
        correct.append(answer_N == labels_N)
        plain.append(ConformalScores.of(probabilities_NC, labels_N).rising_n)
        adjusted.append(ConformalScores.of(prevalence_adjusted(probabilities_NC, shares_C), labels_N).rising_n)
        energies.append(energy(scores_NC, temperature))
    return Calibration(
        classifier=classifier,
        temperature=temperature,
        curve=PrecisionCurve.of(torch.cat(confidence).cpu().numpy(), torch.cat(correct).cpu().numpy()),
        plain=ConformalScores(torch.cat(plain).sort().values),
        adjusted=ConformalScores(torch.cat(adjusted).sort().values),
        energies_n=torch.cat(energies).sort().values,
        distances_n=distance_N.sort().values,
        class_shares_C=shares_C,
        class_means_PD=means_PD,
        fitted_on=held_out.fitted_on,
        num_images=len(held_out.labels_N),
        fit=fit,
        fingerprint=fingerprint,
    )
