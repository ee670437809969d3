"""Fitting the classifiers of the second stage, and keeping those whose inputs have not changed."""

from dataclasses import dataclass
from typing import Any

import torch

from ltrsys.classifiers.base import Classifier, ClassifierName, SelectedOn
from ltrsys.classifiers.crt import RetrainedClassifier
from ltrsys.classifiers.joint import Joint
from ltrsys.classifiers.lws import LearnableWeightScaling
from ltrsys.classifiers.ncm import NearestClassMean
from ltrsys.classifiers.tau import TauNorm
from ltrsys.data.index.dataset import Dataset
from ltrsys.data.index.records import SplitName
from ltrsys.errors import DataError, UsageError
from ltrsys.features.bank import FeatureBank, fingerprint
from ltrsys.runs.folder import RunFolder
from ltrsys.second_stage.config import BalanceConfig
from ltrsys.second_stage.store import Fitted, classifier_path, load_fitted, save_fitted

VERSION = 2
"""Raised when the same inputs come to give another classifier: saved ones are then fitted anew."""


@dataclass(frozen=True)
class TauSelection:
    """What tau is selected on."""

    select_on: SelectedOn
    split: SplitName | None
    """The split that serves as val, if it is selected on val."""
    val_is_test: bool


def evaluated_split(dataset: Dataset) -> SplitName:
    """Return the split that results are reported on: test, or val where there is no test (as on iNaturalist).

    Raises:
        DataError: Where there is neither.
    """
    for name in ("test", "val"):
        if dataset.has(name):
            return name
    raise DataError(f"{dataset.folder}: there is neither a test nor a val split to evaluate on. Build one.")


def tau_selection(config: BalanceConfig, dataset: Dataset) -> TauSelection:
    """Decide what tau is selected on; never on the split that is reported, unless the config says so by name.

    Raises:
        UsageError: Where val is asked for and there is none but the reported one.
    """
    reported = evaluated_split(dataset)
    val: SplitName | None = None
    if dataset.has("val") and reported != "val":
        val = "val"
    elif config.val_is_test:
        val = reported
    select_on = config.tau.select_on
    if select_on == "auto":
        select_on = "val" if val else "train"
    if select_on == "val" and val is None:
        raise UsageError(
            f"balance.tau.select_on=val: {dataset.folder} has no val split beside `{reported}`, which is reported. "
            "Select on train or learned; or, to tune on the reported images, set balance.val_is_test=true."
        )
    return TauSelection(select_on, val if select_on == "val" else None, select_on == "val" and val == reported)


@dataclass(frozen=True)
class Fitter:
    """Fits classifiers on one bank, or takes them from the run folder where they are current."""

    run: RunFolder
    bank: FeatureBank
    config: BalanceConfig
    selection: TauSelection
    seed: int
    device: torch.device

    def fitted(self, name: ClassifierName) -> Fitted:
        """Return a classifier, fitting and saving it if it is missing or out of date."""
        current = self.current(name)
        if current is None:
            current = Fitted(self._fit(name), self.bank.fingerprint, self.fingerprint(name))
            save_fitted(current, self.run.classifiers)
        return current

    def current(self, name: ClassifierName) -> Fitted | None:
        """Return a saved classifier; None if there is none, or its inputs have changed since."""
        if not classifier_path(self.run.classifiers, name).exists():
            return None
        saved = load_fitted(self.run.classifiers, name, self.device)
        return saved if saved.fingerprint == self.fingerprint(name) else None

    def fingerprint(self, name: ClassifierName) -> str:
        """SHA-256 of all that the fit of a classifier depends on."""
        inputs: dict[str, Any] = {"version": VERSION, "classifier": name, "bank": self.bank.fingerprint}
        if name != "joint":
            inputs["config"] = getattr(self.config, name).model_dump(mode="json")
        if name in ("crt", "lws", "tau"):
            inputs["seed"] = self.seed
        if name == "tau":
            inputs["selection"] = [self.selection.select_on, self.selection.split, self.selection.val_is_test]
        return fingerprint(inputs)

    def joint(self) -> Joint:
        """Return the classifier that was trained with the backbone."""
        return Joint.of_model(self.run.model, self.device)

    def _fit(self, name: ClassifierName) -> Classifier:
        if name == "joint":
            return self.joint()
        train = self.bank.split("train")
        if name == "ncm":
            return NearestClassMean.fit(train, self.config.ncm, self.device)
        if name == "crt":
            return RetrainedClassifier.fit(train, self.config.crt, seed=self.seed, device=self.device)
        if name == "lws":
            return LearnableWeightScaling.fit(self.joint(), train, self.config.lws, seed=self.seed, device=self.device)
        return TauNorm.fit(
            self.joint(),
            train,
            self.bank.split(self.selection.split) if self.selection.split else None,
            self.config.tau,
            select_on=self.selection.select_on,
            val_is_test=self.selection.val_is_test,
            seed=self.seed,
            device=self.device,
        )
