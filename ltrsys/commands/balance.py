"""The second stage from end to end: feature bank → classifiers → calibration → evaluation → results, table, plots."""

import logging
import os
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed

from ltrsys.calibration.fitting import Calibrator
from ltrsys.classifiers.base import CLASSIFIERS
from ltrsys.classifiers.joint import Joint
from ltrsys.classifiers.tau import TauConfig
from ltrsys.commands.track_balancing import track_balancing
from ltrsys.config.changes import changeable_keys, may_change
from ltrsys.config.reading import load_run_config
from ltrsys.config.schema import Config
from ltrsys.data.index.dataset import Dataset
from ltrsys.data.index.records import SPLITS, SplitName
from ltrsys.data.reading.opening import open_dataset
from ltrsys.device import choose_device, set_up_gpu
from ltrsys.errors import DataError, UsageError
from ltrsys.evaluation.calibrating import with_calibration
from ltrsys.evaluation.results import Line, Results, read_results, write_results
from ltrsys.evaluation.split import EvaluatedSplit
from ltrsys.evaluation.tilting import Tilting
from ltrsys.features.bank import BankIdentity, FeatureBank
from ltrsys.features.extraction import make_bank
from ltrsys.files import sync_folder
from ltrsys.registry import load_plugin
from ltrsys.reporting.balance_report import BalanceReport
from ltrsys.reporting.table import print_table
from ltrsys.runs.folder import RunFolder
from ltrsys.runs.trained_on import changes_since
from ltrsys.second_stage.fitting import (
    Fitter,
    check_features,
    check_head,
    evaluated_split,
    kinds_of,
    nothing_to_report_on,
    val_split,
)
from ltrsys.second_stage.store import Fitted, load_fitted
from ltrsys.section import MayChange
from ltrsys.world import World

log = logging.getLogger("ltrsys")


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
    overrides = list(overrides)
    if classifiers is not None:
        overrides.append(f"balance.classifiers=[{classifiers}]")
    run, config = _open_run(folder, overrides, plugins)
    _check_known(run)
    dataset = open_dataset(config.data)
    _compare_with_training(run, config, dataset)
    name, val = evaluated_split(dataset), val_split(config.balance, dataset)
    check_head(config.balance.classifiers, config.model.head)
    check_features(config.balance.classifiers, config.model)
    for classifier in config.balance.classifiers:  # what may not be selected on is told before all work
        CLASSIFIERS.get(classifier).selects_on(config.balance.of(classifier), val)
    world = World.detect()
    device = _device(world, config)
    with _joined(world, config):
        kinds = kinds_of(config.balance.classifiers)
        bank = make_bank(run, config, dataset, world=world, device=device, kinds=kinds)
    if not world.is_main:
        return
    fitter = Fitter(run, bank, config.balance, val, config.seed, device, config.model.head)
    if name is None:
        _fit_without_reporting(fitter, dataset, as_json)
        return
    reported = _evaluated(bank, name, config, device)
    joint = Joint.of_model(run.model, device, config.model.head)
    old = _old_results(run, reported)
    fitted = {name: fitter.fitted(name) for name in CLASSIFIERS.names() if name in config.balance.classifiers}
    fitted |= _still_current(old, fitter, reported, except_for=fitted.keys())
    tilting = Tilting.of(reported, bank, val, config.balance, joint)
    calibrator = Calibrator(fitter)
    lines = []
    for one in fitted.values():
        calibration = calibrator.calibrated(one) if config.balance.calibrate else None
        line = tilting.with_tilt(_line_of(one, reported, old, joint), one)
        lines.append(with_calibration(line, one, calibration, reported))
    tau = config.balance.of("tau")
    curve = reported.tau_curve(joint, tau.grid) if "tau" in fitted and isinstance(tau, TauConfig) else None
    results = reported.results(dataset, lines, curve)
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


def _fit_without_reporting(fitter: Fitter, dataset: Dataset, as_json: bool) -> None:
    """Fit, calibrate and save the classifiers; none needs another split than train, or `selects_on` has refused it."""
    calibrator = Calibrator(fitter)
    for name in CLASSIFIERS.names():
        if name in fitter.config.classifiers:
            fitted = fitter.fitted(name)
            if fitter.config.calibrate:
                calibrator.calibrated(fitted)
    log.warning("%s The classifiers are in %s.", nothing_to_report_on(dataset), fitter.run.classifiers)
    if as_json:
        print("null")


def evaluate_run(
    folder: Path,
    overrides: Sequence[str],
    classifier: str,
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
    run, config = _open_run(folder, list(overrides), plugins)
    name = CLASSIFIERS.get(classifier).name  # only now are the plug-ins of the run known
    dataset = open_dataset(config.data)
    dataset.split(split)  # names the splits there are, if this is not one of them
    bank = FeatureBank.open(run.features)
    # BatchNorm and the like may have been set on the command line of `balance`: the bank's own settings hold
    difference = bank.identity.difference(BankIdentity.of(run, config, dataset, settings=bank.identity.settings))
    if difference:
        raise DataError(f"{run.features}: {difference} since this bank was made. Run `ltrsys balance {folder}` again.")
    device = _device(World.detect(), config)
    fitted = load_fitted(run.classifiers, name, device)
    kind = fitted.classifier.features
    if fitted.bank != bank.fingerprint_of(kind):
        raise DataError(
            f"{run.classifiers}: {name} was fitted on another feature bank. Run `ltrsys balance {folder}` again."
        )
    bank.require(split, kind)
    reported = _evaluated(bank, split, config, device)
    joint = Joint.of_model(run.model, device, config.model.head)
    _show(reported.results(dataset, [reported.line(fitted, joint)]), as_json)


def _open_run(folder: Path, overrides: list[str], plugins: Sequence[str]) -> tuple[RunFolder, Config]:
    run = RunFolder(folder)
    for plugin in plugins:
        load_plugin(plugin)
    trained = load_run_config(run)
    for override in overrides:
        if not may_change(trained, override.partition("=")[0], MayChange.AFTER_TRAINING):
            keys = ", ".join(changeable_keys(trained, MayChange.AFTER_TRAINING))
            raise UsageError(f"`{override}`: after training only these may be changed: {keys}.")
    config = load_run_config(run, overrides)
    if not run.model.exists():
        raise UsageError(
            f"{folder}: there is no model.safetensors yet: training has not finished. Start it again, it goes on "
            "from the last checkpoint."
        )
    return run, config


def _check_known(run: RunFolder) -> None:
    """Refuse to write results anew that hold a line of a classifier that nobody knows now."""
    for line in read_results(run.results).results if run.results.exists() else []:
        if line.classifier not in CLASSIFIERS:
            raise UsageError(
                f"{run.results}: holds a line of `{line.classifier}`, which comes from a plug-in that this call does "
                "not name. Name it by --plugin FILE.py, or move the file away: what is known is then reported anew."
            )


def _compare_with_training(run: RunFolder, config: Config, dataset: Dataset) -> None:
    """Say how the shards differ from those of the training; refuse them where the classes are others."""
    changes = changes_since(run, dataset)
    if changes is None:
        return
    if changes.classes:
        raise UsageError(
            f"{run.path}: data.shards={config.data.shards} has other classes than it was trained on: {changes}. Give "
            "the shards it was trained on, or train a new run on these."
        )
    log.warning("%s: data.shards=%s has changed since it was trained: %s.", run.path, config.data.shards, changes)


def _device(world: World, config: Config) -> torch.device:
    device = choose_device(config.train.device, world)
    set_up_gpu(device, cudnn_benchmark=config.train.cudnn_benchmark, tf32=config.train.tf32)
    return device


@contextmanager
def _joined(world: World, config: Config) -> Iterator[None]:
    """Join the ranks while the bank is made; gloo, since they only wait for one another and average buffers."""
    if world.world_size == 1:
        yield
        return
    torch.distributed.init_process_group("gloo", timeout=timedelta(seconds=config.train.timeout_seconds))
    try:
        yield
    finally:
        torch.distributed.destroy_process_group()


def _evaluated(bank: FeatureBank, name: SplitName, config: Config, device: torch.device) -> EvaluatedSplit:
    return EvaluatedSplit(name, bank.split(name), bank.split("train").class_counts, config.shots, device)


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
