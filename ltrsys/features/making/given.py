"""A bank of features that were made elsewhere, with labels of their images.

n images, D features.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
from numpy.typing import NDArray

from ltrsys.data.index.records import SPLITS, ClassRecord, DatasetRecord, SplitName, SplitRecord
from ltrsys.errors import DataError, UsageError
from ltrsys.features.bank import FILES, BankIdentity, FeatureBank, fingerprint, split_folder
from ltrsys.features.making.arrays import GivenFeatures
from ltrsys.files import explained, sha256_of, write_array
from ltrsys.progress import progress
from ltrsys.registry import nearest
from ltrsys.runs.folder import RunFolder
from ltrsys.runs.trained_on import kept_record

LABEL_COLUMNS = ("label", "class", "class_id", "category_id", "species", "name", "target", "y")
"""Names of the column of a table that holds the labels, unless another is named."""


@dataclass(frozen=True)
class GivenSplit:
    """Features of the images of a split, and a file of their labels."""

    features: GivenFeatures
    labels_file: Path
    labels: list[str] | NDArray[np.int64]
    """Names or ids, one a row."""


def open_split(features: Path, labels: Path, column: str | None) -> GivenSplit:
    """Look at the files of a split.

    Args:
        features: [n, D].
        labels: A table with a column of labels, a text file with one a line, or an .npy file of ids.
        column: Which column of a table it is; one of the usual names if not given.

    Raises:
        UsageError: For a file that is not there or not read, or a table without such a column.
        DataError: For files that are damaged, or of different numbers of rows.
    """
    opened, read = GivenFeatures.open(features), _read_labels(labels, column)
    if len(read) != opened.shape[0]:
        raise DataError(
            f"{labels}: holds {len(read)} labels, and {features} features of {opened.shape[0]} images. Give one label "
            "a row, in the same order."
        )
    return GivenSplit(opened, labels, read)


@dataclass(frozen=True)
class GivenBank:
    """What a bank is to be made of."""

    splits: Mapping[SplitName, GivenSplit]
    record: DatasetRecord
    """Of the images, of which there are no shards."""
    class_ids: Mapping[SplitName, NDArray[np.int64]]
    identity: BankIdentity

    @classmethod
    def of(cls, splits: Mapping[SplitName, GivenSplit], name: str) -> "GivenBank":
        """Number the classes; a run's own bank, given again, remains the bank that it was.

        Raises:
            DataError: Where splits have different numbers of features, or the training split lacks a class.
        """
        dims = {split.features.shape[1]: split.features.path for split in splits.values()}
        if len(dims) > 1:
            (one, here), (two, there), *_ = dims.items()
            raise DataError(f"{here} has {one} features an image and {there} has {two}. Give those of one network.")
        if (own := _own_bank(splits)) is not None:
            return own
        names, class_ids = _numbered({name: split.labels for name, split in splits.items()})
        record = DatasetRecord(
            name=name,
            source="features",
            seed=0,
            resize=None,
            bands_per_octave=1,
            classes=[ClassRecord(name=one) for one in names],
            splits={
                split: SplitRecord(
                    samples=len(ids),
                    shards=[],
                    strata=[],
                    class_counts=np.bincount(ids, minlength=len(names)).tolist(),
                    columns={},
                )
                for split, ids in class_ids.items()
            },
        )
        contents = {split: sha256_of(given.features.path) for split, given in splits.items()}
        labels = {split: fingerprint(ids.tolist()) for split, ids in class_ids.items()}
        identity = BankIdentity(fingerprint(contents), fingerprint([labels, names]), {"bn": "eval"})
        return cls(splits, record, class_ids, identity)

    def write(self, folder: Path, signature: Any = None) -> FeatureBank:
        """Copy the features into a bank.

        Raises:
            DataError: For a feature that is NaN or infinite.
        """
        rows = sum(split.features.shape[0] for split in self.splits.values())
        with explained(folder), progress("features", rows) as advance:
            for name, split in self.splits.items():
                own = split_folder(folder, name)
                own.mkdir(parents=True, exist_ok=True)
                copied = np.lib.format.open_memmap(
                    own / FILES["last"], mode="w+", dtype=np.float32, shape=split.features.shape
                )
                first = 0
                for block in split.features.blocks():
                    copied[first : first + len(block)] = block
                    first += len(block)
                    advance(len(block))
                copied.flush()
                write_array(own / "labels.npy", self.class_ids[name])
        complete = tuple(name for name in SPLITS if name in self.splits)
        bank = FeatureBank(folder, self.identity, len(self.record.classes), complete, signature=signature)
        bank.save()
        return bank


def _own_bank(splits: Mapping[SplitName, GivenSplit]) -> GivenBank | None:
    """Return the bank of a run, if it is that whose files were given, labels included."""
    folders = {split.features.path.resolve().parent.parent for split in splits.values()}
    folder = folders.pop()
    if folders or not (folder / "bank.json").exists():
        return None
    bank, record = FeatureBank.open(folder), kept_record(RunFolder(folder.parent))
    if record is None or set(bank.complete) != set(splits):
        return None
    class_ids = {}
    for name, split in splits.items():
        own = split_folder(folder, name)
        if split.features.path.resolve() != own / FILES["last"] or not isinstance(split.labels, np.ndarray):
            return None
        if not np.array_equal(bank.split(name).labels, split.labels):
            return None
        class_ids[name] = split.labels
    return GivenBank(splits, record, class_ids, bank.identity)


def _numbered(
    labels: Mapping[SplitName, list[str] | NDArray[np.int64]],
) -> tuple[list[str], dict[SplitName, NDArray[np.int64]]]:
    """Return the names of the classes, and the class ids of each split.

    Ids that are 0, 1, 2, ... without a gap remain what they are; other labels are numbered in their order.
    """
    texts = {split: [str(label) for label in own] for split, own in labels.items()}
    distinct = {label for own in texts.values() for label in own}
    whole = all(label.isdecimal() for label in distinct)
    names = sorted(distinct, key=(lambda label: (int(label), label)) if whole else str)
    number = {name: place for place, name in enumerate(names)}
    return names, {split: np.array([number[label] for label in own], dtype=np.int64) for split, own in texts.items()}


def _read_labels(path: Path, column: str | None) -> list[str] | NDArray[np.int64]:
    if not path.exists():
        raise UsageError(f"{path}: there is no such file of labels.")
    try:
        if path.suffix == ".npy":
            return _ids_in(path)
        if path.suffix == ".parquet":
            table = pyarrow.parquet.ParquetFile(path)
            name = _column(table.schema_arrow.names, column, path)
            return [str(value) for value in table.read(columns=[name]).column(0).to_pylist()]
        text = path.read_text(encoding="utf-8-sig")
    except (pyarrow.ArrowInvalid, UnicodeDecodeError, ValueError, OSError) as error:
        raise DataError(f"{path}: these labels cannot be read ({str(error).rstrip('.')}). Give it in UTF-8.") from None
    if path.suffix in (".csv", ".tsv"):
        return _column_of_text(text, "\t" if path.suffix == ".tsv" else ",", column, path)
    return _without_empty([line.strip() for line in text.splitlines()], path, first=1)


def _ids_in(path: Path) -> NDArray[np.int64]:
    ids = np.asarray(np.lib.format.open_memmap(path, mode="r"))
    if ids.ndim != 1 or ids.dtype.kind not in "iu" or (len(ids) and int(ids.min()) < 0):
        raise ValueError(f"holds {ids.dtype} of shape {list(ids.shape)}, not one class id an image")
    return ids.astype(np.int64)


def _column_of_text(text: str, separator: str, wanted: str | None, path: Path) -> list[str]:
    rows = csv.DictReader(text.splitlines(), delimiter=separator, restval="")
    name = _column(list(rows.fieldnames or []), wanted, path)
    return _without_empty([row[name].strip() for row in rows], path, first=2)


def _column(names: Sequence[str], wanted: str | None, path: Path) -> str:
    if wanted is not None:
        if wanted not in names:
            raise UsageError(f"--label-column {wanted}: {path} has no such column. {nearest(wanted, names)}")
        return wanted
    found = next((name for name in LABEL_COLUMNS if name in names), None)
    if found is None and len(names) == 1:
        return names[0]
    if found is None:
        raise UsageError(
            f"{path}: which column holds the labels? There are {', '.join(names[:10])}. Name it with --label-column."
        )
    return found


def _without_empty(labels: list[str], path: Path, first: int) -> list[str]:
    empty = next((row for row, label in enumerate(labels) if not label), None)
    if empty is not None:
        raise DataError(f"{path}, line {first + empty}: the label is empty. Give one, or leave the image out.")
    return labels
