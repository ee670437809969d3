"""Classes that a run was not trained with, from a few pictures each: `RUN/added_classes.safetensors`.

The file holds the features of their pictures; nothing else of the run changes. A classifier that can, takes the classes
in when it is loaded (`Classifier.with_classes`), so that one by one they give the same as all at once. N pictures, D
features.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ltrsys.calibration.calibration import Calibration
from ltrsys.classifiers.base import CLASSIFIERS, Classifier
from ltrsys.data.index.records import ClassRecord
from ltrsys.errors import DataError
from ltrsys.features.bank import fingerprint
from ltrsys.models.signature import Signature
from ltrsys.models.stored.weights import save_tensors
from ltrsys.runs.folder import RunFolder
from ltrsys.second_stage.store import Fitted

KEY = "ltrsys"
SHOWN = 3
"""Names of classes that a line tells."""


@dataclass(frozen=True, eq=False)
class AddedClasses:
    """Classes, in the order in which they were added, and the features of their pictures."""

    names: tuple[str, ...]
    features_ND: Tensor
    """float32, on the CPU."""
    labels_N: Tensor
    """Which of the classes, int64."""
    digests: tuple[str, ...]
    """SHA-256 of each picture, [N]: none counts twice."""
    bank: str
    """Fingerprint of the features that classifiers were fitted on."""

    @classmethod
    def none(cls, bank: str, feature_dim: int) -> "AddedClasses":
        """Return what a run begins with."""
        return cls((), torch.zeros(0, feature_dim), torch.zeros(0, dtype=torch.int64), (), bank)

    @property
    def images(self) -> list[int]:
        """Pictures of each class."""
        counts: list[int] = torch.bincount(self.labels_N, minlength=len(self.names)).tolist()
        return counts

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all of it."""
        return fingerprint([self.names, self.digests, self.labels_N.tolist(), self.bank])

    def with_pictures(self, name: str, features_ND: Tensor, digests: Sequence[str]) -> "AddedClasses":
        """Return these with pictures of one class more, or with more of one of them."""
        names = self.names if name in self.names else (*self.names, name)
        label = names.index(name)
        places = {digest: place for place, digest in reversed(list(enumerate(digests)))}  # the first of equals
        new = sorted(place for digest, place in places.items() if digest not in self.digests)
        return replace(
            self,
            names=names,
            features_ND=torch.cat([self.features_ND, features_ND[new]]),
            labels_N=torch.cat([self.labels_N, torch.full((len(new),), label)]),
            digests=(*self.digests, *(digests[place] for place in new)),
        )

    def told(self) -> str:
        """Say how many classes there are, and the first names."""
        more = f", ... and {len(self.names) - SHOWN} more" if len(self.names) > SHOWN else ""
        return f"{', '.join(self.names[:SHOWN])}{more}"

    def taken_in_by(self, fitted: Fitted) -> Fitted:
        """Return a classifier that knows these classes, too: one of those that `can_take_classes`.

        Raises:
            DataError: Where it was fitted on other features.
        """
        if fitted.bank != self.bank:
            raise DataError(
                f"{fitted.classifier.name} was fitted on other features than those of the classes that were added "
                f"({self.told()}). Remove added_classes.safetensors from the run folder, and add them again."
            )
        classifier = fitted.classifier
        device = next(iter(classifier.tensors().values())).device
        extended = classifier.with_classes(self.features_ND.to(device), self.labels_N.to(device), len(self.names))
        return replace(fitted, classifier=extended, fingerprint=fingerprint([fitted.fingerprint, self.fingerprint]))

    def added_to(self, signature: Signature) -> Signature:
        """Return the names of the classes with these after them."""
        return signature.model_copy(
            update={
                "classes": [*signature.classes, *(ClassRecord(name=name) for name in self.names)],
                "train_counts": [*signature.train_counts, *self.images],
            }
        )

    def known_to(self, calibration: Calibration) -> Calibration:
        """Return what is known of how sure a classifier is, with shares and mean features of these classes.

        Temperature and thresholds stay those of the classes that it was fitted with.
        """
        images_A = torch.tensor(self.images)
        sums_AD = torch.zeros(len(self.names), self.features_ND.shape[1], dtype=torch.float64)
        sums_AD.index_add_(0, self.labels_N, self.features_ND.double())
        means_AD = (sums_AD / images_A.clamp_min(1)[:, None]).float()
        # the shares of the known classes stay in proportion: one image is one image
        smallest = calibration.class_shares_C.min()
        shares_C = torch.cat([calibration.class_shares_C, smallest * images_A.clamp_min(1).double()])
        return replace(
            calibration,
            class_shares_C=shares_C / shares_C.sum(),
            class_means_PD=torch.cat([calibration.class_means_PD, means_AD[images_A > 0]]),
        )


def can_take_classes(classifier: type[Classifier[Any]]) -> bool:
    """Whether a classifier takes new classes without training."""
    return classifier.with_classes is not Classifier.with_classes


def able_classifiers() -> list[str]:
    """Return the names of those that take new classes without training."""
    return [one.name for one in CLASSIFIERS if can_take_classes(one)]


def save_added(added: AddedClasses, run: RunFolder) -> None:
    """Write the file, whole or not at all."""
    record = {"names": added.names, "digests": added.digests, "bank": added.bank}
    tensors = {"features": added.features_ND, "labels": added.labels_N}
    save_tensors(tensors, run.added_classes, {KEY: json.dumps(record)})


def load_added(run: RunFolder) -> AddedClasses | None:
    """Return the classes that were added to a run; None where there are none.

    Raises:
        DataError: Where the file is damaged.
    """
    path = run.added_classes
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            record = json.loads(file.metadata()[KEY])
            features_ND, labels_N = file.get_tensor("features"), file.get_tensor("labels")
        return AddedClasses(
            tuple(record["names"]), features_ND, labels_N, tuple(record["digests"]), str(record["bank"])
        )
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path}: these added classes cannot be read ({error!r}). Remove the file, and add the classes again."
        ) from None
