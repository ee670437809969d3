"""The rows of a study: each classifier of each training, measured once and kept in the run folder.

RUN/rows/<classifier>-<fingerprint>.safetensors holds the line of `results.json`, the class that was predicted for each
image, and which few-shot images are right at each tilt. Another study that asks for the same row finds it there.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from ltrsys.classifiers.base import Classifier
from ltrsys.classifiers.joint import Joint
from ltrsys.config.schema import Config
from ltrsys.data.index.dataset import Dataset
from ltrsys.data.reading.opening import open_dataset
from ltrsys.device import choose_device
from ltrsys.errors import DataError
from ltrsys.evaluation.results import Line
from ltrsys.evaluation.split import EvaluatedSplit
from ltrsys.evaluation.tilting import Tilting
from ltrsys.features.bank import BankIdentity, FeatureBank, fingerprint
from ltrsys.features.making.extraction import make_bank
from ltrsys.models.stored.weights import save_tensors
from ltrsys.second_stage.applying import kinds_of
from ltrsys.second_stage.fitting import Fitter, evaluated_split, nothing_to_report_on, val_split
from ltrsys.second_stage.store import Fitted
from ltrsys.studies.study import OpenStudy, Row, Training
from ltrsys.world import World

VERSION = 2
"""Raised when a row comes to hold more: those of before are measured anew."""


@dataclass(frozen=True)
class Measured:
    """One row of one training."""

    line: Line
    labels: NDArray[np.int64]
    """Class of each image, [n]."""
    predictions: NDArray[np.int64]
    """Predicted class of each image, [n]."""
    is_few_shot: NDArray[np.bool_]
    """Whether the class of each image is few-shot, [n]."""
    few_shot_hits: NDArray[np.bool_]
    """Whether each few-shot image is right, at each tilt of the line's curve, [T, few-shot images]."""
    num_classes: int


@dataclass(frozen=True)
class OpenRow:
    """All that a row of one training is measured with."""

    row: Row
    config: Config
    dataset: Dataset
    bank: FeatureBank
    fitter: Fitter
    split: EvaluatedSplit
    """The reported one."""
    joint: Joint
    """The classifier that was trained with the backbone."""

    def classifier(self) -> Classifier[Any]:
        """Return the fitted classifier; fit it where the run folder holds another one of this name, or none."""
        fitted = self.fitter.current(self.row.classifier) or self.fitter.fit(self.row.classifier)
        return fitted.classifier


@dataclass(frozen=True)
class Measurer:
    """Measures rows of trainings; opens each run once."""

    study: OpenStudy
    device: torch.device
    _opened: dict[Path, tuple[Dataset, FeatureBank]] = field(default_factory=dict)

    @classmethod
    def of(cls, study: OpenStudy) -> "Measurer":
        """Measure on the device that the config of the first training asks for."""
        return cls(study, choose_device(study.trainings[0].config.train.device, World()))

    def measured(self, row: Row, training: Training, *, compute: bool) -> Measured | None:
        """Return a row of a training; None where it is not there and is not to be computed, or cannot be yet.

        Raises:
            DataError: Where the run's data or files are damaged, or there is nothing to evaluate on.
            UsageError: Where a setting of the row is wrong.
        """
        opened = self.open_row(row, training, compute=compute)
        if opened is None:
            return None
        fitter, split = opened.fitter, opened.split
        tilting = Tilting.of(split, opened.bank, fitter.val, opened.config.balance, opened.joint)
        current = fingerprint([VERSION, tilting.fingerprint(fitter.fingerprint(row.classifier))])
        path = training.run.path / "rows" / f"{row.classifier}-{current[:16]}.safetensors"
        if not path.exists():
            if not compute:
                return None
            # what has settings of its own must not take the place of the run's classifier
            fitted = fitter.fit(row.classifier) if row.settings else fitter.fitted(row.classifier)
            _save(path, tilting, fitted, tilting.with_tilt(split.line(fitted, opened.joint), fitted))
        return _load(path, split)

    def open_row(self, row: Row, training: Training, *, compute: bool) -> OpenRow | None:
        """Open what a row of a training is measured with; None where its bank is not there and is not to be made.

        Raises:
            DataError: Where the run's data or files are damaged, or there is nothing to evaluate on.
            UsageError: Where a setting of the row is wrong.
        """
        if training.state != "trained":
            return None
        config = self.study.config_of(row, training)
        opened = self._open(training, compute=compute)
        if opened is None:
            return None
        dataset, bank = opened
        name = evaluated_split(dataset)
        if name is None:
            raise DataError(nothing_to_report_on(dataset))
        val = val_split(config.balance, dataset)
        fitter = Fitter(training.run, bank, config.balance, val, config.seed, self.device, config.model.head)
        split = EvaluatedSplit(name, bank.split(name), bank.split("train").class_counts, config.shots, self.device)
        joint = fitter.reference()
        return OpenRow(row, config, dataset, bank, fitter, split, joint)

    def _open(self, training: Training, *, compute: bool) -> tuple[Dataset, FeatureBank] | None:
        """Return dataset and feature bank of a run; None where the bank is to be made first."""
        path = training.run.path
        if path not in self._opened:
            dataset = open_dataset(training.config.data)
            if compute:
                kinds = kinds_of(row.classifier for row in self.study.study.rows if row.run == training.key)
                bank = make_bank(training.run, training.config, dataset, world=World(), device=self.device, kinds=kinds)
            elif not (training.run.features / "bank.json").exists():
                return None
            else:
                bank = FeatureBank.open(training.run.features)
                now = BankIdentity.of(training.run, training.config, dataset)
                if bank.identity.difference(now):
                    return None
            self._opened[path] = dataset, bank
        return self._opened[path]


def _save(path: Path, tilting: Tilting, fitted: Fitted, measured: Line) -> None:
    predictions = tilting.reported.predictions(fitted.classifier).astype(np.int32)
    tensors = {"predictions": predictions, "few_shot_hits": tilting.few_shot_hits(fitted.classifier)}
    save_tensors(
        {name: torch.from_numpy(values) for name, values in tensors.items()},
        path,
        {"line": measured.model_dump_json()},
    )


def _load(path: Path, split: EvaluatedSplit) -> Measured:
    try:
        with safe_open(path, framework="pt") as file:
            line = Line.model_validate_json(file.metadata()["line"])
            predictions = file.get_tensor("predictions").numpy().astype(np.int64)
            hits = file.get_tensor("few_shot_hits").numpy()
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: not a row of a study ({reason}). Delete it and run the study again.") from None
    labels = split.split.labels
    return Measured(line, labels, predictions, split.shot_of_class[labels] == "few", hits, split.split.num_classes)
