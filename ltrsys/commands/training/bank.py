"""A run without a first stage: a feature bank made by a pretrained backbone, or of features from elsewhere."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch

from ltrsys.config.reading import config_of, load_run_config, save_config
from ltrsys.config.schema import Config
from ltrsys.data.index.dataset import Dataset
from ltrsys.data.index.records import SplitName, write_record
from ltrsys.data.reading.opening import open_dataset
from ltrsys.errors import UsageError
from ltrsys.evaluation.opening import open_device
from ltrsys.features.bank import FeatureBank
from ltrsys.features.making.extraction import make_bank
from ltrsys.features.making.given import GivenBank, open_split
from ltrsys.features.ranks import barrier, joined
from ltrsys.files import sha256_of
from ltrsys.first_stage.from_run import STARTED_FROM
from ltrsys.models.config import ELSEWHERE
from ltrsys.models.image_size import check_image_size
from ltrsys.models.network import build_network
from ltrsys.models.signature import Signature
from ltrsys.models.stored.pretrained import load_pretrained
from ltrsys.models.stored.weights import save_network, save_tensors
from ltrsys.registry import load_plugin
from ltrsys.runs.folder import RunFolder
from ltrsys.runs.trained_on import keep_record
from ltrsys.second_stage.reference import STAND_IN
from ltrsys.world import World

CLASSIFIERS_WITHOUT_JOINT = (STAND_IN, "ncm", "crt", "tau", "lws", "lda", "mlp", "crt_memory")
"""The default of `balance.classifiers` where no classifier was trained with the backbone: the paper's, and the three
that did best on two sets of images with a pretrained backbone (docs/pretrained.md), of those that did well on both."""

DATASET = "dataset"
"""Folder of a run of features from elsewhere: the record of their images, of which there are no shards."""


@dataclass(frozen=True)
class GivenFiles:
    """Features and labels of a split."""

    features: Path
    labels: Path


def bank_of_backbone(
    shards: str,
    out: Path,
    *,
    backbone: str,
    pretrained: str,
    by_order: bool,
    views: str,
    overrides: Sequence[str],
    plugins: Sequence[str],
) -> None:
    """Make a run folder with a pretrained backbone, and its feature bank; go on with one that was begun.

    Args:
        shards: The dataset's folder, or its URL.
        out: The run folder.
        backbone: `model.backbone`.
        pretrained: `model.pretrained`, as YAML.
        by_order: `model.pretrained_by_order`.
        views: `bank.views`.
        overrides: Other changes to the config.
        plugins: Methods of one's own.

    Raises:
        UsageError: For a config that does not load, a network that does not take its image size, weights that cannot be
            had, or a folder that holds another run.
        DataError: For damaged weights or images.
    """
    for plugin in plugins:
        load_plugin(plugin)
    model = {"backbone": backbone, "pretrained_by_order": by_order}
    values = _values(out, str(shards), model, plugins) | {"bank": {"views": views}}
    config = config_of(values, [f"model.pretrained={pretrained}", *overrides])
    run = RunFolder(out)
    _check_folder(run, config)
    check_image_size(config.model, config.data.image_size)
    dataset = open_dataset(config.data)
    world = World.detect()
    device = open_device(world, config)
    with joined(world, timedelta(seconds=config.train.timeout_seconds)):
        if world.is_main and not run.model.exists():
            _begin(run, config, dataset)
        barrier(world)
        bank = make_bank(run, config, dataset, world=world, device=device)
    if world.is_main:
        print(_conclusion(run, bank))


def bank_of_features(
    given: Mapping[SplitName, GivenFiles], out: Path, *, column: str | None, overrides: Sequence[str]
) -> None:
    """Make a run folder with a feature bank of features that were made elsewhere.

    Args:
        given: Files of each split; `train` is among them.
        out: The run folder.
        column: Which column of a table holds the labels.
        overrides: Changes to the config.

    Raises:
        UsageError: For a file that is not there or not read, or a folder that holds a run.
        DataError: For files that are damaged or do not fit one another.
    """
    run = RunFolder(out)
    config = config_of(_values(out, str((out / DATASET).absolute()), {"backbone": ELSEWHERE}, ()), overrides)
    if run.model.exists():
        raise UsageError(f"{out}: there is a run already. Choose another folder with --out, or move it away.")
    _check_folder(run, config)
    bank_given = GivenBank.of(
        {name: open_split(files.features, files.labels, column) for name, files in given.items()}, out.name
    )
    signature = Signature.of(bank_given.record, config.data)
    bank = bank_given.write(run.features, signature)
    (out / DATASET).mkdir(exist_ok=True)
    write_record(out / DATASET, bank_given.record)
    write_record(out, bank_given.record)
    save_config(config, run.config_file)
    # last: with it, this is a run
    save_tensors({}, run.model, {STARTED_FROM: bank_given.identity.model} | signature.metadata())
    print(_conclusion(run, bank))


def _values(out: Path, shards: str, model: dict[str, Any], plugins: Sequence[str]) -> dict[str, Any]:
    """Return the config that a run without a first stage begins with."""
    absolute = out.absolute()
    return {
        "name": absolute.name,
        "runs": str(absolute.parent),
        "plugins": list(plugins),
        "data": {"shards": shards},
        "model": {"head": "none", **model},
        "balance": {"classifiers": list(CLASSIFIERS_WITHOUT_JOINT)},
    }


def _check_folder(run: RunFolder, config: Config) -> None:
    """Refuse a folder that holds anything but the beginning of this very run."""
    if run.checkpoints.exists() or (run.model.exists() and not run.config_file.exists()):
        raise UsageError(f"{run.path}: there is a run already. Choose another folder with --out, or move it away.")
    if run.model.exists() and load_run_config(run).model_dump() != config.model_dump():
        raise UsageError(
            f"{run.path}: there is a run with another config already ({run.config_file}). Choose another folder with "
            "--out, or move it away."
        )


def _begin(run: RunFolder, config: Config, dataset: Dataset) -> None:
    """Write the config, the dataset's record and the backbone; the last makes it a run."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = build_network(config.model, dataset.num_classes)
    origin = {}
    if config.model.pretrained:
        found = load_pretrained(network, config.model)
        origin = {STARTED_FROM: sha256_of(found.path), "pretrained": json.dumps(found.origin)}
    save_config(config, run.config_file)
    keep_record(run, dataset)
    save_network(network, run.model, origin | Signature.of(dataset.record, config.data).metadata())


def _conclusion(run: RunFolder, bank: FeatureBank) -> str:
    splits = {name: bank.split(name) for name in bank.complete}
    images = ", ".join(f"{name} {len(split):,}" for name, split in splits.items())
    features = next(iter(splits.values())).num_features
    return (
        f"{run.path}: {features} features of each image ({images}), {bank.num_classes} classes.\n"
        f"Fit classifiers on them with `ltrsys balance {run.path}`."
    )
