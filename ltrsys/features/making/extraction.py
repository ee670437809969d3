"""Making the feature bank: the frozen backbone runs over every split once, each rank over its own samples."""

import logging
import os
import shutil
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ltrsys.data.index.dataset import Dataset, Split
from ltrsys.data.index.records import SPLITS, SplitName
from ltrsys.data.loading.loader import EvaluationLoader
from ltrsys.data.reading.quarantine import Quarantine
from ltrsys.device import within_memory
from ltrsys.errors import DataError
from ltrsys.features.bank import FILES, BankIdentity, FeatureBank, split_folder
from ltrsys.features.config import Featured, FeatureKind, data_of_bank
from ltrsys.features.making.recalibration import recalibrate, restore
from ltrsys.features.making.rows import RowFile
from ltrsys.features.making.writing import WriterThread
from ltrsys.features.ranks import barrier
from ltrsys.files import explained, write_array
from ltrsys.models.last_relu import features_around_last_relu
from ltrsys.models.signature import Signature
from ltrsys.models.stored.weights import load_network
from ltrsys.models.views import in_precision, with_views
from ltrsys.progress import track
from ltrsys.runs.folder import RunFolder
from ltrsys.world import World

log = logging.getLogger("ltrsys")


def make_bank(
    run: RunFolder,
    config: Featured,
    dataset: Dataset,
    *,
    world: World,
    device: torch.device,
    kinds: Collection[FeatureKind] = (),
) -> FeatureBank:
    """Return the feature bank of a trained run, computing only the splits and kinds of features that are missing.

    A bank made from another model, dataset or setting is made anew. What a split lacks of several kinds is made in one
    pass over its images. Every rank must call this.

    Args:
        run: The run, with its model.
        config: Of the run.
        dataset: The images.
        world: Which rank of how many this is.
        device: Where it is computed.
        kinds: The features that are wanted beside those of the kind `last`, which a bank always holds: all classifiers
            are compared with the joint one, which takes these.

    Raises:
        DataError: For an image whose features are not finite (names it), or files that do not fit.
    """
    bank = _start(run, config, dataset, world)
    missing = _missing(bank, dataset, {"last", *kinds})
    if missing:
        network = load_network(config.model, dataset.num_classes, run.model).to(device)
        if config.train.in_channels_last:
            network.to(memory_format=torch.channels_last)
        backbone = network.backbone.eval()
        if config.balance.bn == "recalibrate" and bank.complete:
            restore(backbone, run)  # measured by another number of ranks they would differ in the last bits
        elif config.balance.bn == "recalibrate":
            recalibrate(backbone, config, dataset, run, world=world, device=device)
        backbone = in_precision(backbone, config.bank.precision)
        backbone = with_views(backbone, config.bank.views, config.data.image_size)
        for name, lacking in missing.items():
            _extract(backbone, network.feature_dim, dataset.split(name), lacking, run, config, world, device)
            bank = bank.with_split(name, lacking)
            if world.is_main:
                bank.save()
    return bank


def _missing(bank: FeatureBank, dataset: Dataset, kinds: Collection[FeatureKind]) -> dict[SplitName, list[FeatureKind]]:
    """Return the kinds of features that each split of the dataset lacks, without those that lack none."""
    lacking = {
        name: [kind for kind in FILES if kind in kinds and name not in bank.splits(kind)]
        for name in SPLITS
        if dataset.has(name)
    }
    return {name: own for name, own in lacking.items() if own}


def _start(run: RunFolder, config: Featured, dataset: Dataset, world: World) -> FeatureBank:
    """Open the bank if it is current, else begin an empty one in its place."""
    identity = BankIdentity.of(run, config, dataset)
    signature = Signature.of(dataset.record, data_of_bank(config.data, config.bank.views))
    empty = FeatureBank(run.features, identity, dataset.num_classes, (), signature=signature)
    bank = empty
    if (run.features / "bank.json").exists():
        bank = replace(FeatureBank.open(run.features), signature=signature)  # which banks of older versions lack
        difference = bank.identity.difference(identity)
        if difference:
            bank = empty
            if world.is_main:
                log.info("The feature bank is out of date (%s): it is made again.", difference)
    barrier(world)  # nobody may begin the new one while another still reads the old one
    if world.is_main and not bank.complete:
        with explained(run.features):
            shutil.rmtree(run.features, ignore_errors=True)
        bank.save()
    barrier(world)
    return bank


def _extract(
    backbone: nn.Module,
    feature_dim: int,
    split: Split,
    kinds: Sequence[FeatureKind],
    run: RunFolder,
    config: Featured,
    world: World,
    device: torch.device,
) -> None:
    folder = split_folder(run.features, split.name)
    paths = {kind: folder / FILES[kind] for kind in kinds}
    beside = {kind: path.with_suffix(".partial.npy") for kind, path in paths.items()}
    if world.is_main:
        with explained(folder):
            folder.mkdir(parents=True, exist_ok=True)
            for path in beside.values():
                np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(len(split), feature_dim))
        if "last" in kinds:  # or they are there
            write_array(folder / "labels.npy", np.asarray(split.label, dtype=np.int64))
    barrier(world)
    quarantine = Quarantine.of(split, config.data, run.quarantine) if split.name == "train" else None
    write_features(backbone, split, beside, config, world=world, device=device, quarantine=quarantine)
    barrier(world)
    if world.is_main:
        for kind, path in paths.items():
            os.replace(beside[kind], path)
    barrier(world)


def images_of_bank(
    split: Split, config: Featured, *, world: World, device: torch.device, quarantine: Quarantine | None = None
) -> EvaluationLoader:
    """Return what reads this rank's images of a split as a bank is made of them: each once, as in evaluation."""
    return EvaluationLoader(
        split,
        data_of_bank(config.data, config.bank.views),
        batch_size=config.balance.feature_batch_size,
        world=world,
        device=device,
        channels_last=config.train.in_channels_last,
        quarantine=quarantine,
    )


def write_features(
    backbone: nn.Module,
    split: Split,
    paths: Mapping[FeatureKind, Path],
    config: Featured,
    *,
    world: World,
    device: torch.device,
    quarantine: Quarantine | None = None,
) -> None:
    """Write this rank's rows of a split's features, each kind into an .npy file that is already of full size.

    All kinds come from one pass over the images. With a quarantine, the row of a bad image gets the features of
    another of its class.

    Args:
        backbone: On the device, `with_views`. Features before the last ReLU are those of a residual network
            (`ltrsys.models.last_relu`).
        split: The images.
        paths: A file for each kind of features that is wanted, float32 [n, D].
        config: How images are read and decoded.
        world: Which rank of how many this is.
        device: Where it is computed.
        quarantine: Of the training images, if bad ones may be replaced.

    Raises:
        DataError: For an image whose features are NaN or infinite.
    """
    loader = images_of_bank(split, config, world=world, device=device, quarantine=quarantine)
    size = config.balance.feature_batch_size
    fits = within_memory(size, world.rank, f"Lower balance.feature_batch_size (it is {size}).")
    with ExitStack() as opened, explained(next(iter(paths.values()))), torch.inference_mode(), fits:
        files = {kind: opened.enter_context(closing(RowFile(path))) for kind, path in paths.items()}
        with WriterThread() as writer:
            for batch in track(loader, f"features of {split.name}", len(loader), shown=world.is_main):
                features = features_of(backbone, batch.images, files.keys())
                writer.add(features, partial(_write, files, split, batch.positions, batch.samples))
        for file in files.values():
            file.sync()
    loader.close()


def _write(
    files: Mapping[FeatureKind, RowFile],
    split: Split,
    positions_B: NDArray[np.int64],
    samples_B: Tensor,
    features: Mapping[FeatureKind, NDArray[np.float32]],
) -> None:
    """Check and write the features of a batch, [B, D] by kind."""
    for kind, rows_BD in features.items():
        _check_finite(rows_BD, split, samples_B)
        files[kind].write(positions_B.tolist(), rows_BD)


def features_of(backbone: nn.Module, images: Tensor, kinds: Collection[FeatureKind]) -> dict[FeatureKind, Tensor]:
    """Return the features of images, float32 [B, 3, H, W], by kind, each [B, D]."""
    if "no_relu" not in kinds:
        return {"last": backbone(images)}
    last, no_relu = features_around_last_relu(backbone, images)
    features: dict[FeatureKind, Tensor] = {"last": last, "no_relu": no_relu}
    return {kind: features[kind] for kind in kinds}


def _check_finite(rows_BD: NDArray[np.float32], split: Split, samples: Tensor) -> None:
    finite = np.isfinite(rows_BD).all(axis=1)
    if not finite.all():
        sample = int(samples[int(np.argmin(finite))])
        raise DataError(
            f"{split.describe(sample)}: the backbone gives NaN or infinite features for this image; look at "
            "the training's loss, the model may have diverged."
        )
