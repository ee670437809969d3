"""What an exported model says of itself: names, taxonomy and preprocessing, with their hash, and its origin."""

import json
from typing import Any

from ltrsys import __version__
from ltrsys.export.folding import FoldedModel
from ltrsys.export.subject import Subject
from ltrsys.models.signature import Preprocessing


def metadata_of(subject: Subject) -> dict[str, str]:
    """Return texts by key, for formats that hold metadata.

    `classes`, `taxonomy` and `preprocessing` are JSON for programs that know nothing of ltrsys; `ltrsys.signature` and
    its SHA-256 are the whole of it (`ltrsys.models.signature.Signature`).
    """
    signature, classifier = subject.model.signature, subject.model.classifier
    return signature.metadata() | {
        "classes": _json([record.name for record in signature.classes]),
        "taxonomy": _json([record.taxonomy for record in signature.classes]),
        "preprocessing": _json(preprocessing_of(signature.preprocessing, subject.folded)),
        "temperature": repr(subject.folded.temperature),
        "ltrsys.classifier": classifier.name,
        "ltrsys.precision": subject.precision,
        "ltrsys.version": __version__,
    }


def preprocessing_of(preprocessing: Preprocessing, folded: FoldedModel) -> dict[str, Any]:
    """Return what is done to an upright RGB image before the exported model sees it, as JSON values."""
    return {
        **preprocessing.model_dump(mode="json"),
        "interpolation": preprocessing.interpolation,
        "antialias": True,
        "crop": "center",
        "layout": "NCHW",
        "dtype": "uint8" if folded.takes_bytes else "float32",
        "normalised_by": "model" if folded.takes_bytes else "caller",
    }


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
