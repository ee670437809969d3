"""Opening a trained run: what its config may be changed in, its feature bank and its fitted classifiers, if current."""

from collections.abc import Sequence
from pathlib import Path

import torch

from ltrsys.classifiers.base import CLASSIFIERS
from ltrsys.config.changes import changeable_keys, may_change
from ltrsys.config.reading import load_run_config
from ltrsys.config.schema import Config
from ltrsys.data.index.dataset import Dataset
from ltrsys.data.index.difference import Difference
from ltrsys.data.index.records import SplitName
from ltrsys.device import choose_device, set_up_gpu
from ltrsys.errors import DataError, UsageError
from ltrsys.evaluation.results import Results
from ltrsys.evaluation.split import EvaluatedSplit
from ltrsys.features.bank import BankIdentity, FeatureBank
from ltrsys.registry import load_plugin
from ltrsys.runs.folder import RunFolder
from ltrsys.runs.trained_on import changes_since
from ltrsys.second_stage.store import Fitted, load_fitted
from ltrsys.section import MayChange
from ltrsys.world import World


def open_trained(folder: Path, overrides: Sequence[str], plugins: Sequence[str]) -> tuple[RunFolder, Config]:
    """Return a run whose training has finished, and its config with the changes that are allowed after training.

    Raises:
        UsageError: For a folder that is no finished run, or a change that is not allowed.
    """
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


def open_device(world: World, config: Config) -> torch.device:
    """Return what the second stage computes on, set up as the config says."""
    device = choose_device(config.train.device, world)
    set_up_gpu(device, cudnn_benchmark=config.train.cudnn_benchmark, tf32=config.train.tf32)
    return device


def changes_of_data(run: RunFolder, config: Config, dataset: Dataset) -> Difference | None:
    """Return how the shards differ from those of the training; None where they do not, or nobody knows.

    Raises:
        UsageError: Where the classes are others.
    """
    changes = changes_since(run, dataset)
    if changes is not None and changes.classes:
        raise UsageError(
            f"{run.path}: data.shards={config.data.shards} has other classes than it was trained on: {changes}. Give "
            "the shards it was trained on, or train a new run on these."
        )
    return changes


def open_bank(run: RunFolder, config: Config, dataset: Dataset) -> FeatureBank:
    """Open the run's feature bank.

    Raises:
        DataError: Where there is none, or what it was made from has changed since.
        UsageError: Where the shards have other classes than the training's had.
    """
    bank = FeatureBank.open(run.features)
    # BatchNorm and the like may have been set on the command line of `balance`: the bank's own settings hold
    difference = bank.identity.difference(BankIdentity.of(run, config, dataset, settings=bank.identity.settings))
    if difference:
        changes_of_data(run, config, dataset)  # balancing again would be refused where the classes are others
        raise DataError(
            f"{run.features}: {difference} since this bank was made. Run `ltrsys balance {run.path}` again."
        )
    return bank


def open_fitted(run: RunFolder, name: str, bank: FeatureBank, device: torch.device) -> Fitted:
    """Return a classifier that was fitted on this bank.

    Raises:
        DataError: Where it is missing or damaged, or was fitted on another bank.
    """
    fitted = load_fitted(run.classifiers, name, device)
    if fitted.bank != bank.fingerprint_of(fitted.classifier.features):
        raise DataError(
            f"{run.classifiers}: {name} was fitted on another feature bank. Run `ltrsys balance {run.path}` again."
        )
    return fitted


def evaluated(bank: FeatureBank, name: SplitName, config: Config, device: torch.device) -> EvaluatedSplit:
    """Return a split of the bank, to be evaluated as the config says."""
    return EvaluatedSplit(name, bank.split(name), bank.split("train").class_counts, config.shots, device)


def check_known(run: RunFolder, results: Results) -> None:
    """Refuse results that hold a line of a classifier that nobody knows now.

    Raises:
        UsageError: Names it.
    """
    for line in results.results:
        if line.classifier not in CLASSIFIERS:
            raise UsageError(
                f"{run.results}: holds a line of `{line.classifier}`, which comes from a plug-in that this call does "
                "not name. Name it by --plugin FILE.py, or move the file away: what is known is then reported anew."
            )
