"""The feature bank: what the frozen backbone says of every image, computed once and read by every classifier.

RUN/features/bank.json                    what it was made from, and which splits are complete
RUN/features/<split>/features.npy         float32 [n, D], memory-mapped; row i is sample i of the split
RUN/features/<split>/labels.npy           int64 [n]
RUN/features/batch_norm.safetensors       with `balance.bn: recalibrate`, the statistics measured again
"""

import hashlib
import json
import mmap
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ltrsys.data.index.dataset import Dataset
from ltrsys.data.index.records import SplitName
from ltrsys.errors import DataError
from ltrsys.features.config import Featured
from ltrsys.files import read_json, write_json
from ltrsys.runs.folder import RunFolder

FORMAT = 1
BLOCK_ROWS = 8192
"""Rows that are read at once: 64 MB of 2048 features. A bank may be larger than the memory."""

SHARE_OF_A_GPU = 0.5
"""Part of a GPU's free memory that a copy of a split's features may take."""

RowReader = Callable[[NDArray[np.int64]], tuple[Tensor, Tensor]]
"""From row numbers, [k], to features, [k, D], and labels, [k], on a device."""


@dataclass(frozen=True)
class BankSplit:
    """One split of the bank."""

    features: NDArray[np.float32]
    """[n, D], memory-mapped."""
    labels: NDArray[np.int64]
    """[n]."""
    num_classes: int

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def num_features(self) -> int:
        """D."""
        return self.features.shape[1]

    @cached_property
    def class_counts(self) -> NDArray[np.int64]:
        """Images of each class, int64 [C]."""
        return np.bincount(self.labels, minlength=self.num_classes)

    @cached_property
    def rows_of_class(self) -> list[NDArray[np.int64]]:
        """The rows of the images of each class, C arrays, int64, ascending."""
        return np.split(np.argsort(self.labels, kind="stable"), np.cumsum(self.class_counts)[:-1])

    def rows(self, rows: NDArray[np.int64], device: torch.device) -> tuple[Tensor, Tensor]:
        """Return the features [k, D] and labels [k] of the given rows."""
        return torch.from_numpy(self.features[rows]).to(device), torch.from_numpy(self.labels[rows]).to(device)

    def reader(self, device: torch.device) -> RowReader:
        """Return what gives the features and labels of any rows; on a GPU that has room, from a copy that is there."""
        if device.type == "cuda" and self.features.nbytes <= SHARE_OF_A_GPU * torch.cuda.mem_get_info(device)[0]:
            return self.copied(device)
        return partial(self.rows, device=device)

    def copied(self, device: torch.device) -> RowReader:
        """Copy all rows to the device; return what gives the features and labels of any of them from there."""
        features = torch.empty(self.features.shape, dtype=torch.float32, device=device)
        first = 0
        for block, _ in self.blocks(device):
            features[first : first + len(block)] = block
            first += len(block)
        labels = torch.from_numpy(self.labels).to(device)

        def read(rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
            place = torch.from_numpy(rows).to(device)
            return features[place], labels[place]

        return read

    def blocks(self, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the features [<=BLOCK_ROWS, D] and labels of all rows, in their order.

        What was read is given back to the operating system: a pass takes the memory of a block, however large the bank.
        """
        mapping = getattr(self.features, "_mmap", None)  # of a numpy.memmap
        for first in range(0, len(self), BLOCK_ROWS):
            yield self.rows(np.arange(first, min(first + BLOCK_ROWS, len(self))), device)
            if mapping is not None:
                mapping.madvise(mmap.MADV_DONTNEED)


@dataclass(frozen=True)
class BankIdentity:
    """Everything that the features depend on."""

    model: str
    """SHA-256 of model.safetensors."""
    dataset: str
    """The dataset's fingerprint."""
    settings: dict[str, Any]
    """Network, evaluation transform and treatment of BatchNorm, as configured."""

    @classmethod
    def of(
        cls, run: RunFolder, config: Featured, dataset: Dataset, settings: dict[str, Any] | None = None
    ) -> "BankIdentity":
        """Read what a bank made now would be made from, with the config's settings unless others are given."""
        with open(run.model, "rb") as file:
            model = hashlib.file_digest(file, "sha256").hexdigest()
        return cls(model, dataset.fingerprint, _settings(config) if settings is None else settings)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all of it."""
        return fingerprint(asdict(self))

    def difference(self, other: "BankIdentity") -> str | None:
        """Say in a few words what is not the same in `other`; None if all is."""
        if self.model != other.model:
            return "the model has changed"
        if self.dataset != other.dataset:
            return "the dataset has changed"
        changed = [
            key for key in {**self.settings, **other.settings} if self.settings.get(key) != other.settings.get(key)
        ]
        return f"the setting {changed[0]} has changed" if changed else None


@dataclass(frozen=True)
class FeatureBank:
    """A bank on disk, with the splits that are complete."""

    folder: Path
    identity: BankIdentity
    num_classes: int
    complete: tuple[SplitName, ...]

    @classmethod
    def open(cls, folder: Path) -> "FeatureBank":
        """Open the bank in `folder`.

        Raises:
            DataError: Where there is none, or it is damaged.
        """
        path = folder / "bank.json"
        values = read_json(path, "feature bank", "`ltrsys balance` makes one where there is none.")
        try:
            if values["format"] != FORMAT:
                raise ValueError(f"format {values['format']} instead of {FORMAT}")
            return cls(folder, BankIdentity(**values["identity"]), values["num_classes"], tuple(values["complete"]))
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path}: not a feature bank's record ({error!r}). Delete the folder {folder}.") from None

    def save(self) -> None:
        """Write `bank.json`."""
        values = {
            "format": FORMAT,
            "identity": asdict(self.identity),
            "num_classes": self.num_classes,
            "complete": list(self.complete),
        }
        write_json(self.folder / "bank.json", values)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of what the bank was made from."""
        return self.identity.fingerprint

    def split(self, name: SplitName) -> BankSplit:
        """Open one split.

        Raises:
            DataError: Where the bank does not hold it, or its files do not fit one another.
        """
        if name not in self.complete:
            have = ", ".join(self.complete) or "none"
            raise DataError(f"{self.folder}: there is no `{name}` split in this feature bank (there is: {have}).")
        folder = split_folder(self.folder, name)
        features, labels = (_open_array(folder / file) for file in ("features.npy", "labels.npy"))
        if features.ndim != 2 or labels.shape != features.shape[:1]:
            raise DataError(
                f"{folder}: features {features.shape} and labels {labels.shape} do not fit. Delete {folder}."
            )
        return BankSplit(features, np.asarray(labels), self.num_classes)


def _settings(config: Featured) -> dict[str, Any]:
    """Network, evaluation transform and treatment of BatchNorm."""
    settings = {
        "backbone": config.model.backbone,
        "stem": config.model.stem,
        **config.data.model_dump(mode="json", include={"image_size", "resize", "mean", "std"}),
        "bn": config.balance.bn,
    }
    if config.balance.bn == "recalibrate":
        settings |= {
            "seed": config.seed,
            "feature_batch_size": config.balance.feature_batch_size,
            "augmentation": config.data.augmentation.model_dump(mode="json"),
        }
    return settings


def split_folder(bank: Path, name: SplitName) -> Path:
    """Return where the arrays of a split lie."""
    return bank / name


def fingerprint(value: Any) -> str:
    """SHA-256 of a JSON value, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _open_array(path: Path) -> NDArray[Any]:
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path}: this part of the feature bank cannot be read ({error}). Delete its folder.") from None
