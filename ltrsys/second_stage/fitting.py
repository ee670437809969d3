"""Fitting the classifiers of the second stage, and keeping those whose inputs have not changed."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from ltrsys.classifiers.base import CLASSIFIERS, Classifier, FitContext, Member, Selection, ValSplit
from ltrsys.classifiers.joint import Joint
from ltrsys.data.index.dataset import Dataset
from ltrsys.data.index.records import SplitName
from ltrsys.features.bank import BankSplit, FeatureBank, fingerprint
from ltrsys.models.config import HeadName
from ltrsys.registry import code_of
from ltrsys.runs.folder import RunFolder
from ltrsys.second_stage.config import BalanceConfig
from ltrsys.second_stage.grids import Choice
from ltrsys.second_stage.held_out import HeldOut, of_train, of_val
from ltrsys.second_stage.reference import STAND_IN, as_joint
from ltrsys.second_stage.selection import best_values, trial_on_val, trials_on_train
from ltrsys.second_stage.store import Fitted, classifier_path, load_fitted, save_fitted
from ltrsys.section import Section

VERSION = 2
"""Raised when the same inputs come to give another classifier: saved ones are then fitted anew."""


def evaluated_split(dataset: Dataset) -> SplitName | None:
    """Return the split that results are reported on: test, or val where there is no test (as on iNaturalist).

    None where there is neither.
    """
    splits: tuple[SplitName, ...] = ("test", "val")
    return next((name for name in splits if dataset.has(name)), None)


def nothing_to_report_on(dataset: Dataset) -> str:
    """Say, in one sentence for whoever trains or balances without them, which splits are missing and how to make them.

    Call it where `evaluated_split` returns None.
    """
    return (
        f"{dataset.folder}: there is neither a test nor a val split, so nothing can be reported on: build the shards "
        "with them (`ltrsys shards ... --val 0.1 --test 0.1`)."
    )


def val_split(config: BalanceConfig, dataset: Dataset) -> ValSplit:
    """Return what hyper-parameters may be selected on; never the split that is reported, unless the config says so."""
    reported = evaluated_split(dataset)
    name: SplitName | None = None
    if dataset.has("val") and reported != "val":
        name = "val"
    elif config.val_is_test:
        name = reported
    is_reported = name is not None and name == reported
    return ValSplit(name, is_reported=is_reported, reported=reported, dataset=str(dataset.folder))


@dataclass(frozen=True)
class Fitter:
    """Fits classifiers on one bank, or takes them from the run folder where they are current."""

    run: RunFolder
    bank: FeatureBank
    config: BalanceConfig
    val: ValSplit
    seed: int
    device: torch.device
    head: HeadName
    """Of the network: `model.head`."""

    def fitted(self, name: str) -> Fitted:
        """Return a classifier, fitting and saving it if it is missing or out of date."""
        current = self.current(name)
        if current is None:
            current = self.fit(name)
            save_fitted(current, self.run.classifiers, self.bank.signature)
        return current

    def fit(self, name: str) -> Fitted:
        """Fit a classifier, without saving it."""
        method, context, choice = CLASSIFIERS.get(name), self.context(name), self._choice(name)
        classifier = method.fit(context, self._section(name, choice))
        return Fitted(classifier, self.bank.fingerprint_of(method.features), self.fingerprint(name), choice)

    def held_out(self, fitted: Fitted) -> HeldOut:
        """Return scores of images that a classifier was not fitted on: of val, or of train by cross-validation."""
        classifier, val = fitted.classifier, self.val
        if val.name is None:
            train = self.bank.split("train", classifier.features)
            return of_train(classifier, train, partial(self._refit, fitted), self.bank.folder, self.device)
        where = f"{val.name}, which is reported" if val.is_reported else val.name
        return of_val(classifier, self.bank.split(val.name, classifier.features), self.device, where)

    def current(self, name: str) -> Fitted | None:
        """Return a saved classifier; None if there is none, or its inputs have changed since."""
        if not classifier_path(self.run.classifiers, name).exists():
            return None
        saved = load_fitted(self.run.classifiers, name, self.device)
        return saved if saved.fingerprint == self.fingerprint(name) else None

    def fingerprint(self, name: str) -> str:
        """SHA-256 of all that the fit of a classifier depends on, as the classifier declares it."""
        classifier, section = CLASSIFIERS.get(name), self.config.of(name)
        bank = self.bank.fingerprint_of(classifier.features)
        inputs: dict[str, Any] = {"version": VERSION, "classifier": name, "bank": bank}
        if self.head == "none" and classifier.uses_joint:
            inputs[STAND_IN] = self.fingerprint(STAND_IN)
        if type(section).model_fields:
            inputs["config"] = section.model_dump(mode="json")
        if code := code_of(classifier):
            inputs["code"] = code
        if classifier.depends_on_seed:
            inputs["seed"] = self.seed
        if selection := self.selection(name):
            inputs["selection"] = [selection.select_on, selection.split, selection.val_is_test]
            # those that were selected on val before this could be said were so by accuracy, and remain what they are
            if selection.split and self.config.select_by != "accuracy":
                inputs["select_by"] = self.config.select_by
        if grid := self.config.grid_of(name):
            inputs["choice"] = [grid, self.val.name, self.val.is_reported, self.val.name and self.config.select_by]
        if members := classifier.members(section):
            inputs["members"] = [*map(self.fingerprint, members), self.val.name, self.val.is_reported]
        return fingerprint(inputs)

    def reference(self) -> Joint:
        """Return the joint classifier, or the linear probe that stands in for it, fitted if need be."""
        if self.head == "none":
            return as_joint(self.fitted(STAND_IN).classifier)
        return Joint.of_model(self.run.model, self.device, self.head)

    def selection(self, name: str) -> Selection | None:
        """Return what the hyper-parameters of a classifier are selected on.

        Raises:
            UsageError: Where the config asks for a split that may not be selected on.
        """
        return CLASSIFIERS.get(name).selects_on(self.config.of(name), self.val)

    def context(self, name: str) -> FitContext:
        """Return what a classifier is fitted on."""
        selection, kind = self.selection(name), CLASSIFIERS.get(name).features
        return FitContext(
            train=self.bank.split("train", kind),
            val=self.bank.split(selection.split, kind) if selection and selection.split else None,
            selection=selection,
            joint=self.reference,
            seed=self.seed,
            device=self.device,
            select_by=self.config.select_by,
            member=self._member,
        )

    def _section(self, name: str, choice: Choice | None) -> Section:
        section = self.config.of(name)
        return section if choice is None else choice.applied(section)

    def _choice(self, name: str) -> Choice | None:
        """Choose among the settings that are tried of a classifier; None where there are none."""
        method, context, grid = CLASSIFIERS.get(name), self.context(name), self.config.grid_of(name)
        if not grid:
            return None
        fixed = self.config.of(name), grid, context
        if self.val.name is None:
            trials = trials_on_train(context, max(1, method.calibration_folds), self.bank.folder)
            return Choice(best_values(method, *fixed, trials, "mean_class_accuracy"), "train")
        trials = trial_on_val(context, self.bank.split(self.val.name, method.features))
        return Choice(best_values(method, *fixed, trials, self.config.select_by), "val", self.val.is_reported)

    def _member(self, name: str) -> Member:
        fitted = self.fitted(name)
        return Member(fitted.classifier, self.held_out(fitted).temperature())

    def _refit(self, fitted: Fitted, part: BankSplit) -> tuple[Classifier[Any], bool]:
        """Fit a classifier again on a part of train, with the settings that were chosen for all of it.

        Return whether that took the joint classifier, too, which was trained on all of it.
        """
        name, took_joint = fitted.classifier.name, False
        context = self.context(name)

        def joint() -> Joint:
            nonlocal took_joint
            took_joint = True
            return context.joint()

        def member(of: str) -> Member:
            nonlocal took_joint
            whole = self._member(of)
            refitted, took_its = self._refit(self.fitted(of), part)
            took_joint |= took_its
            return Member(refitted, whole.temperature)

        section = self._section(name, fitted.choice)
        refitted = CLASSIFIERS.get(name).fit(replace(context, train=part, joint=joint, member=member), section)
        return refitted, took_joint
