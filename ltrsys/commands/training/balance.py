"""The second stage from end to end: feature bank → classifiers → calibration → evaluation → results, table, plots."""

import logging
import os
from collections.abc import Container, Sequence
from datetime import timedelta
from pathlib import Path

from ltrsys.calibration.fitting import Calibrator
from ltrsys.classifiers.base import CLASSIFIERS
from ltrsys.classifiers.joint import Joint
from ltrsys.commands.training.track_balancing import track_balancing
from ltrsys.config.schema import Config
from ltrsys.data.index.dataset import Dataset
from ltrsys.data.index.records import SPLITS
from ltrsys.data.reading.opening import open_dataset
from ltrsys.errors import DataError, UsageError
from ltrsys.evaluation.calibrating import with_calibration
from ltrsys.evaluation.opening import (
    changes_of_data,
    check_known,
    evaluated,
    open_bank,
    open_device,
    open_fitted,
    open_trained,
)
from ltrsys.evaluation.predictions import Predictions, tau_grid
from ltrsys.evaluation.results import Line, Results, read_results, write_results
from ltrsys.evaluation.split import EvaluatedSplit
from ltrsys.evaluation.tilting import Tilting
from ltrsys.features.config import BankConfig
from ltrsys.features.making.extraction import make_bank
from ltrsys.features.ranks import joined
from ltrsys.files import sync_folder
from ltrsys.reporting.balance_report import BalanceReport
from ltrsys.reporting.table import print_table
from ltrsys.runs.folder import RunFolder
from ltrsys.second_stage.applying import all_that_apply, check_applicable, kinds_of, with_members
from ltrsys.second_stage.fitting import (
    Fitter,
    evaluated_split,
    nothing_to_report_on,
    val_split,
)
from ltrsys.second_stage.reference import load_reference, reference_name
from ltrsys.second_stage.store import Fitted
from ltrsys.world import World

log = logging.getLogger("ltrsys")

ALL = "all"
"""In place of names: every classifier that applies to the run."""


def balance_run(
    folder: Path, overrides: Sequence[str], classifiers: str | None, as_json: bool, plugins: Sequence[str] = ()
) -> None:
    """Make the bank, fit and evaluate the classifiers that are missing or out of date, and report.

    Where the dataset has neither a test nor a val split, fit them and say that there is nothing to report on.

    Raises:
        UsageError: For a folder that is no finished run, an unknown classifier, a config that does not fit, or shards
            of other classes.
        DataError: For data, features or files that are damaged.
    """
    overrides, everything = list(overrides), classifiers == ALL
    if classifiers is not None and not everything:
        overrides.append(f"balance.classifiers=[{classifiers}]")
    run, config = open_trained(folder, overrides, plugins)
    if everything:
        names = all_that_apply(config.balance, config.model)
        config = config.model_copy(update={"balance": config.balance.model_copy(update={"classifiers": names})})
    if run.results.exists():
        check_known(run, read_results(run.results))  # or they would be lost
    dataset = open_dataset(config.data)
    _compare_with_training(run, config, dataset)
    name, val = evaluated_split(dataset), val_split(config.balance, dataset)
    needed = with_members(config.balance)
    check_applicable(needed, config.model)
    if "no_relu" in kinds_of(needed) and config.bank != BankConfig():
        raise UsageError(
            "balance.classifiers: features before the last ReLU are those of one view, in float32. Give bank.views=one "
            "and bank.precision=float32, or leave cosine_no_relu out."
        )
    for classifier in needed:  # what may not be selected on is told before all work
        CLASSIFIERS.get(classifier).selects_on(config.balance.of(classifier), val)
    world = World.detect()
    device = open_device(world, config)
    with joined(world, timedelta(seconds=config.train.timeout_seconds)):
        kinds = kinds_of(needed)
        bank = make_bank(run, config, dataset, world=world, device=device, kinds=kinds)
    if not world.is_main:
        return
    fitter = Fitter(run, bank, config.balance, val, config.seed, device, config.model.head)
    if name is None:
        _fit_without_reporting(fitter, dataset, as_json, skip_failures=everything)
        return
    reported = evaluated(bank, name, config, device)
    predictions = Predictions(run.predictions, reported)
    joint = fitter.reference()
    old = _old_results(run, reported)
    fitted = _fitted(fitter, skip_failures=everything)
    fitted |= _still_current(old, fitter, reported, except_for=fitted.keys())
    for one in fitted.values():
        predictions.ranking(one)
    tilting = Tilting.of(reported, bank, val, config.balance, joint)
    calibrator = Calibrator(fitter)
    lines = []
    for one in fitted.values():
        calibration = calibrator.calibrated(one) if config.balance.calibrate else None
        line = tilting.with_tilt(_line_of(one, reported, old, joint), one)
        lines.append(with_calibration(line, one, calibration, reported))
    curve = None
    if "tau" in fitted:
        grid = tau_grid(config.balance)
        curve = reported.tau_curve(grid, predictions.by_tau(joint, bank, grid))
    results = reported.results(dataset, lines, curve, joint.name)
    report = BalanceReport(run.report, results)
    if results != old or not report.complete:
        classifiers_shown = [fitted[line.classifier].classifier for line in results.results]
        report.write(dataset, reported, classifiers_shown)
        beside = run.results.with_name(f".{run.results.name}.new")
        write_results(results, beside)
        track_balancing(run, config, dataset, reported, classifiers_shown, report, beside)
        os.replace(beside, run.results)  # last: until it is there, the same command sends the report again
        sync_folder(run.path)
    _show(results, as_json)
    if not as_json:
        print(f"Results: {run.results}   Plots and per-class table: {run.report}")


def _fitted(fitter: Fitter, *, skip_failures: bool) -> dict[str, Fitted]:
    """Return the classifiers that are asked for, in their order; with `skip_failures`, those whose fit succeeds."""
    fitted = {}
    for name in CLASSIFIERS.names():
        if name in fitter.config.classifiers:
            try:
                fitted[name] = fitter.fitted(name)
            except DataError as error:
                if not skip_failures:
                    raise
                log.warning("left out of all classifiers: %s", error)
    return fitted


def _fit_without_reporting(fitter: Fitter, dataset: Dataset, as_json: bool, *, skip_failures: bool) -> None:
    """Fit, calibrate and save the classifiers; none needs another split than train, or `selects_on` has refused it."""
    calibrator = Calibrator(fitter)
    for fitted in _fitted(fitter, skip_failures=skip_failures).values():
        if fitter.config.calibrate:
            calibrator.calibrated(fitted)
    log.warning("%s The classifiers are in %s.", nothing_to_report_on(dataset), fitter.run.classifiers)
    if as_json:
        print("null")


def evaluate_run(
    folder: Path,
    overrides: Sequence[str],
    classifier: str | None,
    split: str,
    as_json: bool,
    plugins: Sequence[str] = (),
) -> None:
    """Evaluate a fitted classifier on one split of the bank; on the reported one this repeats its line.

    Raises:
        UsageError: For a folder that is no finished run, an unknown classifier or split.
        DataError: Where the bank or the classifier is missing or out of date.
    """
    if split not in SPLITS:
        raise UsageError(f"--split {split}: unknown split; choose from {', '.join(SPLITS)}.")
    run, config = open_trained(folder, overrides, plugins)
    name = CLASSIFIERS.get(
        classifier or reference_name(config.model.head)
    ).name  # only now are the plug-ins of the run known
    dataset = open_dataset(config.data)
    dataset.split(split)  # names the splits there are, if this is not one of them
    bank = open_bank(run, config, dataset)
    device = open_device(World.detect(), config)
    fitted = open_fitted(run, name, bank, device)
    bank.require(split, fitted.classifier.features)
    reported = evaluated(bank, split, config, device)
    joint = load_reference(run, config.model.head, device)
    _show(reported.results(dataset, [reported.line(fitted, joint)], reference=joint.name), as_json)


def _compare_with_training(run: RunFolder, config: Config, dataset: Dataset) -> None:
    """Say how the shards differ from those of the training; refuse them where the classes are others."""
    changes = changes_of_data(run, config, dataset)
    if changes is None:
        return
    log.warning("%s: data.shards=%s has changed since it was trained: %s.", run.path, config.data.shards, changes)


def _old_results(run: RunFolder, reported: EvaluatedSplit) -> Results | None:
    """Return the results of an earlier call, if they are of the same split."""
    if not run.results.exists():
        return None
    old = read_results(run.results)
    return old if old.split == reported.name else None


def _still_current(
    old: Results | None, fitter: Fitter, reported: EvaluatedSplit, except_for: Container[str]
) -> dict[str, Fitted]:
    """Return the classifiers that were not asked for now, but whose earlier lines still hold.

    They are shown by the plots too, so the bank has to hold their features.
    """
    kept = {}
    for line in old.results if old else []:
        if line.classifier in except_for or not fitter.bank.holds(CLASSIFIERS.get(line.classifier).features):
            continue
        current = fitter.current(line.classifier)
        if current and line.fingerprint == reported.line_fingerprint(current.fingerprint):
            kept[line.classifier] = current
    return kept


def _line_of(fitted: Fitted, reported: EvaluatedSplit, old: Results | None, joint: Joint) -> Line:
    """Return the line of a classifier: the one there is, or a new one."""
    line = old.line(fitted.classifier.name) if old else None
    if line and line.complete and line.fingerprint == reported.line_fingerprint(fitted.fingerprint):
        return line
    return reported.line(fitted, joint)


def _show(results: Results, as_json: bool) -> None:
    if as_json:
        print(results.model_dump_json(indent=1))
    else:
        print_table(results)
