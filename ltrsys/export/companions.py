"""What lies beside an exported model: its classes, its preprocessing, whose photographs it learned from, its record."""

import csv
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ltrsys import __version__
from ltrsys.data.shards.build_folder import ATTRIBUTION
from ltrsys.export.comparison import Comparison
from ltrsys.export.formats.base import Exporter
from ltrsys.export.metadata import preprocessing_of
from ltrsys.export.releasing import FORMAT, MARK
from ltrsys.export.subject import Subject
from ltrsys.files import replaced, sha256_of, write_json
from ltrsys.metrics.accuracy import shot_of_class
from ltrsys.models.signature import KEY

CLASSES, PREPROCESSING, CARD = "classes.csv", "preprocessing.json", "README.md"

Accuracies = Mapping[str, Mapping[str, float | None]]
"""Accuracies in per cent by column, by what they are of: `before` and `after`."""


def write_classes(subject: Subject, folder: Path) -> None:
    """Write `classes.csv`: a line a class, in the order of the outputs."""
    signature = subject.model.signature
    ranks = list(dict.fromkeys(rank for record in signature.classes for rank in record.taxonomy))
    counts = np.array(signature.train_counts, dtype=np.int64)
    shots = shot_of_class(counts, subject.model.config.shots).tolist()
    with replaced(folder / CLASSES, "w") as file:
        lines = csv.writer(file)
        lines.writerow(["id", "name", "training_images", "shot", "source_id", "supercategory", *ranks])
        rows = zip(signature.classes, signature.train_counts, shots, strict=True)
        for number, (record, count, shot) in enumerate(rows):
            known = (record.taxonomy.get(rank, "") for rank in ranks)
            lines.writerow(
                [number, record.name, count, shot, record.source_id or "", record.supercategory or "", *known]
            )


def write_preprocessing(subject: Subject, folder: Path) -> None:
    """Write `preprocessing.json`."""
    write_json(folder / PREPROCESSING, preprocessing_of(subject.model.signature.preprocessing, subject.folded))


def copy_attribution(shards: Path, folder: Path) -> None:
    """Copy the file that says whose photographs they are."""
    with open(shards / ATTRIBUTION, "rb") as source, replaced(folder / ATTRIBUTION) as file:
        shutil.copyfileobj(source, file)


def write_card(text: str, folder: Path) -> None:
    """Write the model card."""
    with replaced(folder / CARD, "w") as file:
        file.write(text)


def write_record(
    subject: Subject, exporter: type[Exporter], comparison: Comparison, accuracies: Accuracies | None, folder: Path
) -> None:
    """Write `export.json`, the last file: what was exported, how it was tried, and the SHA-256 of all other files."""
    model = subject.model
    record: dict[str, Any] = {
        "format": FORMAT,
        "ltrsys": __version__,
        "exported_as": exporter.name,
        "precision": subject.precision,
        "classifier": model.classifier.name,
        "params": model.fitted.params,
        "fit": model.fitted.fingerprint,
        "temperature": subject.folded.temperature,
        "signature": json.loads(model.signature.metadata()[KEY]),
        "signature_sha256": model.signature.sha256,
        "compared_on": comparison.images,
        "images": len(comparison.before_N),
        "same_top1": comparison.same,
        "largest_difference": comparison.largest_difference,
        "accuracy": accuracies,
        "files": {path.name: sha256_of(path) for path in sorted(folder.iterdir())},
    }
    write_json(folder / MARK, record)
