"""The feature bank: what the frozen backbone says of every image, computed once and read by every classifier.

RUN/features/bank.json                    what it was made from, and which splits are complete
RUN/features/<split>/features.npy         float32 [n, D], memory-mapped; row i is sample i of the split
RUN/features/<split>/features_no_relu.npy the same without the last ReLU, where a classifier asks for it
RUN/features/<split>/labels.npy           int64 [n]
RUN/features/batch_norm.safetensors       with `balance.bn: recalibrate`, the statistics measured again
"""

import hashlib
import json
import mmap
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ltrsys.data.index.dataset import Dataset
from ltrsys.data.index.records import SplitName
from ltrsys.errors import DataError
from ltrsys.features.config import Featured, FeatureKind
from ltrsys.files import read_json, sha256_of, write_json
from ltrsys.models.config import ELSEWHERE, Views
from ltrsys.models.signature import Signature
from ltrsys.runs.folder import RunFolder

FORMAT = 1
FILES: dict[FeatureKind, str] = {"last": "features.npy", "no_relu": "features_no_relu.npy"}
"""What holds the features of each kind of a split."""

FIRST_AUGMENTATIONS = {"min_area", "aspect_ratio", "flip", "brightness", "contrast", "saturation"}
"""Keys of `data.augmentation` that are in every bank's record; later ones only where they are not the default."""

BLOCK_ROWS = 8192
"""Rows that are read at once: 64 MB of 2048 features. A bank may be larger than the memory."""


@dataclass(frozen=True)
class BankSplit:
    """One split of the bank."""

    features: NDArray[np.float32]
    """[n, D], memory-mapped."""
    labels: NDArray[np.int64]
    """[n]."""
    num_classes: int
    kind: FeatureKind = "last"
    """Of `features`."""
    features_by_kind: Mapping[FeatureKind, NDArray[np.float32]] = field(default_factory=dict)
    """All features that the bank holds of these images; empty for what is not from a bank."""

    def of(self, kind: FeatureKind) -> "BankSplit":
        """Return the same images with their features of another kind; `FeatureBank.require` says if they are there."""
        return self if kind == self.kind else replace(self, features=self.features_by_kind[kind], kind=kind)

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

    def blocks(self, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the features [<=BLOCK_ROWS, D] and labels of all rows, in their order.

        What was read is given back to the operating system: a pass takes the memory of a block, however large the bank.
        """
        for first in range(0, len(self), BLOCK_ROWS):
            yield self.rows(np.arange(first, min(first + BLOCK_ROWS, len(self))), device)
            give_back(self.features)


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
        """Read what a bank made now would be made from, with the config's settings unless others are given.

        Features from elsewhere remain what they are: nothing here could make them anew.
        """
        if config.model.backbone == ELSEWHERE:
            return FeatureBank.open(run.features).identity
        return cls(sha256_of(run.model), dataset.fingerprint, _settings(config) if settings is None else settings)

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
    """Those of which it holds the features of the kind `last`, and the labels."""
    complete_no_relu: tuple[SplitName, ...] = ()
    """Those of which it also holds the features before the last ReLU."""
    signature: Signature | None = None
    """Names of the classes and preprocessing; None in banks of older versions."""

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
            return cls(
                folder,
                BankIdentity(**values["identity"]),
                values["num_classes"],
                tuple(values["complete"]),
                tuple(values.get("complete_no_relu", ())),  # which banks of older versions lack, as what follows
                Signature.model_validate(values["signature"]) if values.get("signature") else None,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path}: not a feature bank's record ({error!r}). Delete the folder {folder}.") from None

    def save(self) -> None:
        """Write `bank.json`."""
        values = {
            "format": FORMAT,
            "identity": asdict(self.identity),
            "num_classes": self.num_classes,
            "complete": list(self.complete),
            "complete_no_relu": list(self.complete_no_relu),
            "signature": None if self.signature is None else self.signature.model_dump(mode="json"),
        }
        write_json(self.folder / "bank.json", values)

    def fingerprint_of(self, kind: FeatureKind) -> str:
        """SHA-256 of what the features of a kind were made from."""
        identity = self.identity.fingerprint
        return identity if kind == "last" else fingerprint([identity, kind])

    def splits(self, kind: FeatureKind) -> tuple[SplitName, ...]:
        """Return the splits of which the bank holds features of this kind."""
        return self.complete if kind == "last" else self.complete_no_relu

    @property
    def views(self) -> Views:
        """Over which views of an image the features are averaged."""
        views: Views = self.identity.settings.get("views", "one")
        return views

    def holds(self, kind: FeatureKind) -> bool:
        """Return whether it has features of this kind of every split that is in it."""
        return set(self.complete) == set(self.splits(kind))

    def with_split(self, name: SplitName, kinds: Collection[FeatureKind]) -> "FeatureBank":
        """Return a bank that holds features of these kinds of one more split."""
        return replace(
            self,
            complete=(*self.complete, name) if "last" in kinds else self.complete,
            complete_no_relu=(*self.complete_no_relu, name) if "no_relu" in kinds else self.complete_no_relu,
        )

    def require(self, name: SplitName, kind: FeatureKind) -> None:
        """Raise a DataError where the bank does not hold features of this kind of a split."""
        if name not in self.complete:
            have = ", ".join(self.complete) or "none"
            raise DataError(f"{self.folder}: there is no `{name}` split in this feature bank (there is: {have}).")
        if name not in self.splits(kind):
            raise DataError(
                f"{self.folder}: this feature bank has no features of the kind `{kind}` of the `{name}` split. "
                f"Run `ltrsys balance {self.folder.parent}` with a classifier that takes them."
            )

    def split(self, name: SplitName, kind: FeatureKind = "last") -> BankSplit:
        """Open one split, with its features of one kind; `of` of what is returned leads to its others.

        Raises:
            DataError: Where the bank does not hold it, or its files do not fit one another.
        """
        self.require(name, kind)
        folder = split_folder(self.folder, name)
        labels = _open_array(folder / "labels.npy")
        features = {one: _open_array(folder / file) for one, file in FILES.items() if name in self.splits(one)}
        for array in features.values():
            if array.ndim != 2 or labels.shape != array.shape[:1]:
                raise DataError(
                    f"{folder}: features {array.shape} and labels {labels.shape} do not fit. Delete {folder}."
                )
        return BankSplit(features[kind], np.asarray(labels), self.num_classes, kind, features)


def _settings(config: Featured) -> dict[str, Any]:
    """Network, evaluation transform and treatment of BatchNorm."""
    settings = {
        "backbone": config.model.backbone,
        "stem": config.model.stem,
        **config.data.model_dump(mode="json", include={"image_size", "resize", "mean", "std"}),
        "bn": config.balance.bn,
    }
    if config.bank.views != "one":
        settings["views"] = config.bank.views
    if config.bank.precision != "float32":
        settings["precision"] = config.bank.precision
    if config.data.interpolation != "bilinear":  # what all were before it could be chosen
        settings["interpolation"] = config.data.interpolation
    if config.balance.bn == "recalibrate":
        augmentation = config.data.augmentation
        settings |= {
            "seed": config.seed,
            "feature_batch_size": config.balance.feature_batch_size,
            "augmentation": augmentation.model_dump(mode="json", include=FIRST_AUGMENTATIONS)
            | augmentation.model_dump(mode="json", exclude_defaults=True),
        }
    return settings


def split_folder(bank: Path, name: SplitName) -> Path:
    """Return where the arrays of a split lie."""
    return bank / name


def give_back(array: NDArray[Any]) -> None:
    """Have the operating system take back the memory that was read of an array; nothing of one that is in no file."""
    mapping = getattr(array, "_mmap", None)  # of a numpy.memmap
    if mapping is not None:
        mapping.madvise(mmap.MADV_DONTNEED)


def fingerprint(value: Any) -> str:
    """SHA-256 of a JSON value, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _open_array(path: Path) -> NDArray[Any]:
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path}: this part of the feature bank cannot be read ({error}). Delete its folder.") from None
