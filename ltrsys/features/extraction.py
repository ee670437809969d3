"""Making the feature bank: the frozen backbone runs over every split once, each rank over its own samples."""

import logging
import os
import shutil
from pathlib import Path

import numpy as np
import torch
import torch.distributed
from torch import nn

from ltrsys.data.index.dataset import Dataset, Split
from ltrsys.data.index.records import SPLITS
from ltrsys.data.loading.loader import EvaluationLoader
from ltrsys.data.reading.quarantine import Quarantine
from ltrsys.device import within_memory
from ltrsys.errors import DataError
from ltrsys.features.bank import BankIdentity, FeatureBank, split_folder
from ltrsys.features.config import Featured
from ltrsys.features.recalibration import recalibrate
from ltrsys.files import explained, write_array
from ltrsys.models.weights import load_network
from ltrsys.progress import track
from ltrsys.runs.folder import RunFolder
from ltrsys.world import World

log = logging.getLogger("ltrsys")


def make_bank(run: RunFolder, config: Featured, dataset: Dataset, *, world: World, device: torch.device) -> FeatureBank:
    """Return the feature bank of a trained run, computing only the splits that are missing.

    A bank made from another model, dataset or setting is made anew. Every rank must call this.

    Raises:
        DataError: For an image whose features are not finite (names it), or files that do not fit.
    """
    bank = _start(run, config, dataset, world)
    missing = [name for name in SPLITS if dataset.has(name) and name not in bank.complete]
    if missing:
        network = load_network(config.model, dataset.num_classes, run.model).to(device)
        if config.train.channels_last:
            network.to(memory_format=torch.channels_last)
        backbone = network.backbone.eval()
        if config.balance.bn == "recalibrate":
            recalibrate(backbone, config, dataset, run, world=world, device=device)
        for name in missing:
            _extract(backbone, network.feature_dim, dataset.split(name), run, config, world, device)
            bank = FeatureBank(bank.folder, bank.identity, bank.num_classes, (*bank.complete, name))
            if world.is_main:
                bank.save()
    return bank


def _start(run: RunFolder, config: Featured, dataset: Dataset, world: World) -> FeatureBank:
    """Open the bank if it is current, else begin an empty one in its place."""
    identity = BankIdentity.of(run, config, dataset)
    empty = FeatureBank(run.features, identity, dataset.num_classes, ())
    bank = empty
    if (run.features / "bank.json").exists():
        bank = FeatureBank.open(run.features)
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
    run: RunFolder,
    config: Featured,
    world: World,
    device: torch.device,
) -> None:
    folder = split_folder(run.features, split.name)
    beside, path = folder / "features.partial.npy", folder / "features.npy"
    if world.is_main:
        with explained(path):
            folder.mkdir(parents=True, exist_ok=True)
            np.lib.format.open_memmap(beside, mode="w+", dtype=np.float32, shape=(len(split), feature_dim))
        write_array(folder / "labels.npy", np.asarray(split.label, dtype=np.int64))
    barrier(world)
    quarantine = Quarantine.of(split, config.data, run.quarantine) if split.name == "train" else None
    write_features(backbone, split, beside, config, world=world, device=device, quarantine=quarantine)
    barrier(world)
    if world.is_main:
        os.replace(beside, path)
    barrier(world)


def write_features(
    backbone: nn.Module,
    split: Split,
    path: Path,
    config: Featured,
    *,
    world: World,
    device: torch.device,
    quarantine: Quarantine | None = None,
) -> None:
    """Write this rank's rows of a split's features into `path`, an .npy file that is already of full size.

    With a quarantine, the row of a bad image gets the features of another of its class.

    Raises:
        DataError: For an image whose features are NaN or infinite.
    """
    rows = np.lib.format.open_memmap(path, mode="r")
    header, row_bytes = rows.offset, rows.strides[0]
    loader = EvaluationLoader(
        split,
        config.data,
        batch_size=config.balance.feature_batch_size,
        world=world,
        device=device,
        channels_last=config.train.channels_last,
        quarantine=quarantine,
    )
    # written by position, not through a shared memory map: the rows of ranks on other nodes lie on the same pages
    size = config.balance.feature_batch_size
    fits = within_memory(size, world.rank, f"Lower balance.feature_batch_size (it is {size}).")
    with explained(path), open(path, "r+b", buffering=0) as file, torch.inference_mode(), fits:
        for batch in track(loader, f"features of {split.name}", len(loader), shown=world.is_main):
            features = backbone(batch.images).float().cpu().numpy()
            finite = np.isfinite(features).all(axis=1)
            if not finite.all():
                sample = int(batch.samples[int(np.argmin(finite))])
                raise DataError(
                    f"{split.describe(sample)}: the backbone gives NaN or infinite features for this image; look at "
                    "the training's loss, the model may have diverged."
                )
            for place, row in zip(batch.positions.tolist(), features, strict=True):
                os.pwrite(file.fileno(), row.tobytes(), header + place * row_bytes)
        os.fsync(file.fileno())
    loader.close()


def barrier(world: World) -> None:
    """Wait for all ranks."""
    if world.world_size > 1:
        torch.distributed.barrier()
