"""A fitted classifier of a run, with the network that its features come from: each checked to belong to the other."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, get_args

import torch
from torch import nn

from ltrsys.calibration.calibration import Calibration, load_calibration
from ltrsys.classifiers.base import CLASSIFIERS, Classifier
from ltrsys.config.schema import Config
from ltrsys.data.index.dataset import Dataset
from ltrsys.errors import DataError, UsageError
from ltrsys.evaluation.opening import open_trained
from ltrsys.features.bank import BankIdentity, FeatureBank
from ltrsys.features.config import data_of_bank
from ltrsys.features.making.recalibration import restore
from ltrsys.files import sha256_of
from ltrsys.models.backbones.base import build_backbone
from ltrsys.models.config import ELSEWHERE, Precision, Views, size_of_views
from ltrsys.models.signature import Signature, signature_in
from ltrsys.models.stored.weights import load_network
from ltrsys.models.views import AVERAGED, InBfloat16, in_precision, with_views
from ltrsys.prediction.added_classes import AddedClasses, able_classifiers, can_take_classes, load_added
from ltrsys.runs.folder import RunFolder
from ltrsys.runs.trained_on import kept_record
from ltrsys.second_stage.store import Fitted, classifier_path, load_fitted

log = logging.getLogger("ltrsys")

PREFERRED = ("crt", "tau", "lws", "ncm", "joint")
"""What answers where no classifier is named: the first of these that was fitted, or else the first of all."""


@dataclass(frozen=True)
class LoadedModel:
    """Backbone and classifier of a run, on one device and ready to answer."""

    run: RunFolder
    config: Config
    signature: Signature
    backbone: nn.Module
    feature_dim: int
    fitted: Fitted
    calibration: Calibration | None = None
    """How sure the classifier is; None where that was not fitted."""
    added: int = 0
    """How many of the classes, the last ones, it knows without having been trained with them."""

    @property
    def classifier(self) -> Classifier[Any]:
        """The classifier."""
        return self.fitted.classifier

    def in_float32(self) -> "LoadedModel":
        """Return the same with a network that multiplies in float32, whatever the bank was made in."""
        if not isinstance(self.backbone, AVERAGED):
            plain = self.backbone.backbone if isinstance(self.backbone, InBfloat16) else self.backbone
            return replace(self, backbone=plain)
        if isinstance(self.backbone.backbone, InBfloat16):
            self.backbone.backbone = self.backbone.backbone.backbone
        return self


def load_model(path: Path, classifier: str | None, device: torch.device) -> LoadedModel:
    """Load a run's network and one of its fitted classifiers.

    Args:
        path: The run folder. Its shards need not be there.
        classifier: The classifier's name; `PREFERRED` if not given.
        device: Where both are wanted.

    Raises:
        UsageError: For a folder that is no finished run, or a classifier that is unknown or not fitted.
        DataError: Where network and classifier do not belong together, or a file is damaged.
    """
    run, config = open_trained(path, (), ())
    if config.model.backbone == ELSEWHERE:
        build_backbone(config.model)  # says why it cannot
    added = load_added(run)
    name = _chosen(run, classifier, PREFERRED if added is None else able_classifiers())
    fitted = load_fitted(run.classifiers, name, device)
    _check_classes_known(run, classifier_path(run.classifiers, name))
    made_by = _settings_of_features(run, config, fitted)
    views: Views = made_by.get("views", "one")
    signature = _signature(run, config, classifier_path(run.classifiers, name), views)
    network = load_network(config.model, len(signature.classes), run.model).to(device)
    if config.train.in_channels_last:
        network.to(memory_format=torch.channels_last)
    backbone = network.backbone.eval()
    if made_by["bn"] == "recalibrate":
        restore(backbone, run)
    precision: Precision = made_by.get("precision", "float32")
    backbone = with_views(in_precision(backbone, precision), views, config.data.image_size)
    config = config.model_copy(update={"data": data_of_bank(config.data, views)})
    known = (run.calibration / f"{name}.safetensors").exists()
    calibration = load_calibration(run, name) if known else None
    loaded = LoadedModel(run, config, signature, backbone, network.feature_dim, fitted, calibration)
    return loaded if added is None else _with_classes(loaded, added)


def _with_classes(model: LoadedModel, added: AddedClasses) -> LoadedModel:
    """Return a model that knows the classes that were added to its run, if its classifier can."""
    name = model.classifier.name
    if not can_take_classes(type(model.classifier)):
        log.warning("%s: %s does not know the classes that were added since (%s).", model.run.path, name, added.told())
        return model
    return replace(
        model,
        fitted=added.taken_in_by(model.fitted),
        signature=added.added_to(model.signature),
        calibration=None if model.calibration is None else added.known_to(model.calibration),
        added=len(added.names),
    )


def _chosen(run: RunFolder, wanted: str | None, preferred: Sequence[str]) -> str:
    """Return the name of a classifier that is fitted: the one that is wanted, or the first of the preferred ones."""
    fitted = sorted(path.stem for path in run.classifiers.glob("*.safetensors"))
    fitted = [name for name in CLASSIFIERS.names() if name in fitted]
    if not fitted:
        raise UsageError(f"{run.path}: no classifier has been fitted. Run `ltrsys balance {run.path}` first.")
    if wanted is None:
        return next((name for name in preferred if name in fitted), fitted[0])
    name = CLASSIFIERS.get(wanted).name
    if name not in fitted:
        raise UsageError(
            f"{run.path}: {name} has not been fitted. Choose from {', '.join(fitted)}, or run `ltrsys balance "
            f"{run.path} --classifiers {name}` first."
        )
    return name


def _check_classes_known(run: RunFolder, classifier: Path) -> None:
    """Refuse a run that nobody gave the names of its classes."""
    known = signature_in(classifier) or signature_in(run.model) or kept_record(run)
    if known is None:  # a run of ltrsys 0.2.0 or earlier, or one that such a version imported
        raise UsageError(
            f"{run.path}: it does not know the names of its classes: it was made by ltrsys 0.2.0 or earlier. Run "
            f"`ltrsys balance {run.path}` with its shards in place: the classifiers that are fitted anew then hold the "
            f"names. To fit them anew, remove {run.classifiers} first."
        )


def _signature(run: RunFolder, config: Config, classifier: Path, views: Views) -> Signature:
    """Return what the model takes and what its outputs mean; all who know it must agree, but for names that changed."""
    known = {}
    if (of_classifier := signature_in(classifier)) is not None:
        known[classifier] = of_classifier
    if (of_network := signature_in(run.model)) is not None:
        known[run.model] = _before_views(of_network, views)
    if (record := kept_record(run)) is not None:
        known[run.dataset] = _before_views(Signature.of(record, config.data), views)
    (place, signature), *others = known.items()
    for other_place, other in others:
        if difference := signature.difference(other):
            raise DataError(
                f"{place} and {other_place} are not of one model: {difference}. Put the file that belongs to the run "
                f"back, or remove {run.classifiers} and run `ltrsys balance {run.path}`."
            )
    configured = signature.preprocessing.model_copy(
        update={
            "resize": config.data.resize,
            "image_size": data_of_bank(config.data, views).image_size,
            "mean": tuple(config.data.mean),
            "std": tuple(config.data.std),
            "interpolation": config.data.interpolation,
        }
    )
    if difference := signature.difference(signature.model_copy(update={"preprocessing": configured})):
        raise DataError(
            f"{place} is not of the config {run.config_file}: {difference}. Put the file that belongs to the run back."
        )
    return signature


def _before_views(signature: Signature, views: Views) -> Signature:
    """Return that of the network together with what makes several views of the images that it gets."""
    known = signature.preprocessing
    side = size_of_views(views, image_size=known.image_size, resize=known.resize)
    return signature.model_copy(update={"preprocessing": known.model_copy(update={"image_size": side})})


def _settings_of_features(run: RunFolder, config: Config, fitted: Fitted) -> dict[str, Any]:
    """Return how the features were made that a classifier was fitted on.

    `bn` is always told, `views` and `precision` where they are not the usual ones.

    Raises:
        DataError: Where these are not features of the run's model.
    """
    kind, again = fitted.classifier.features, f"Run `ltrsys balance {run.path}` again."
    if (run.features / "bank.json").exists():
        bank = FeatureBank.open(run.features)
        if sha256_of(run.model) != bank.identity.model:
            raise DataError(f"{run.model}: the model has changed since its features were made. {again}")
        if bank.fingerprint_of(kind) == fitted.bank:
            return bank.identity.settings
    elif (record := kept_record(run)) is not None:  # to save space, features may be deleted once classifiers are fitted
        plain = config.model_copy(update={"balance": config.balance.model_copy(update={"bn": "eval"})})
        for views, precision in product(get_args(Views), get_args(Precision)):
            own = config.bank.model_copy(update={"views": views, "precision": precision})
            made_by = plain.model_copy(update={"bank": own})
            bank = FeatureBank(run.features, BankIdentity.of(run, made_by, Dataset(run.path, record)), 0, ())
            if bank.fingerprint_of(kind) == fitted.bank:
                return bank.identity.settings
    raise DataError(
        f"{run.classifiers}: {fitted.classifier.name} was not fitted on features of {run.model} as it is now. {again}"
    )
