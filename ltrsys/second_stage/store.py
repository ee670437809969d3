"""Classifiers on disk: `RUN/classifiers/<name>.safetensors`, tensors and a JSON record in one file.

One file, so that tensors and record are always of the same fit. The record is the file's metadata under
`ltrsys`: classifier, params, what it was selected on, the feature bank, and the fingerprint of everything the
fit depends on. Beside it stands the model's signature, with the names of the classes.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from ltrsys.classifiers.base import CLASSIFIERS, Classifier, SelectedOn
from ltrsys.errors import DataError
from ltrsys.models.signature import Signature
from ltrsys.models.stored.weights import save_tensors
from ltrsys.second_stage.grids import Choice


@dataclass(frozen=True)
class Fitted:
    """A classifier and where it comes from."""

    classifier: Classifier[Any]
    bank: str
    """Fingerprint of the feature bank it was fitted on."""
    fingerprint: str
    """SHA-256 of all that the fit depends on."""
    choice: Choice | None = None
    """Settings that were chosen among others; None where those of the config were taken."""

    @property
    def params(self) -> dict[str, Any]:
        """What `results.json` says of it, as JSON values."""
        return self.classifier.params() | ({} if self.choice is None else self.choice.params())

    @property
    def selected_on(self) -> SelectedOn | None:
        """What its hyper-parameters were selected on."""
        return self.classifier.selected_on or (None if self.choice is None else self.choice.on)


def classifier_path(folder: Path, name: str) -> Path:
    """Return the file of a classifier."""
    return folder / f"{name}.safetensors"


def save_fitted(fitted: Fitted, folder: Path, signature: Signature | None = None) -> None:
    """Write a classifier, whole or not at all, with what its inputs and outputs are where that is known."""
    classifier = fitted.classifier
    record = {
        "classifier": classifier.name,
        "params": classifier.params(),
        "selected_on": classifier.selected_on,
        "bank": fitted.bank,
        "fingerprint": fitted.fingerprint,
    } | ({} if fitted.choice is None else {"choice": fitted.choice.record()})
    metadata = {"ltrsys": json.dumps(record)} | ({} if signature is None else signature.metadata())
    save_tensors(classifier.tensors(), classifier_path(folder, classifier.name), metadata)


def load_fitted(folder: Path, name: str, device: torch.device) -> Fitted:
    """Read a classifier back.

    Raises:
        DataError: Where the file is missing or damaged.
    """
    path = classifier_path(folder, name)
    if not path.exists():
        raise DataError(f"{path}: this classifier has not been fitted. Run `ltrsys balance {folder.parent}` first.")
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            record = json.loads(file.metadata()["ltrsys"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)
        classifier = CLASSIFIERS.get(name).restore(tensors, record["params"], record["selected_on"])
        choice = Choice(**record["choice"]) if "choice" in record else None
        return Fitted(classifier, record["bank"], record["fingerprint"], choice)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path}: not a saved classifier, or a damaged one ({error!r}). Delete it and balance again."
        ) from None
