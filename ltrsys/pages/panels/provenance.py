"""Where a run comes from: its config, its data, and the versions it was made with."""

import json
import platform

import numpy as np
import torch
import yaml

from ltrsys import __version__
from ltrsys.data.index.dataset import Dataset
from ltrsys.pages.model import Part
from ltrsys.pages.panels.base import PANELS, Material, Panel
from ltrsys.runs.folder import RunFolder
from ltrsys.runs.trained_on import changes_since


class Fact(Part):
    """A line of the list."""

    name: str
    value: str


class ProvenanceData(Part):
    """Everything that says which run this is."""

    facts: list[Fact]
    config: str
    """As YAML."""


@PANELS.register
class Provenance(Panel):
    """Config, dataset, fingerprints and versions."""

    name = "provenance"
    summary = "config, dataset, fingerprints and versions"
    title = "Provenance"
    explanation = (
        "What somebody needs to make these numbers again: the data, by its fingerprint, the model, by that of its "
        "file, the versions, and every setting."
    )
    order = 80

    @classmethod
    def data(cls, material: Material) -> Part:
        """Gather what is known of the run."""
        run = material.run
        facts = {
            "Run folder": str(run.run.path),
            **_dataset(run.dataset),
            "Changed since the training": str(changes_since(run.run, run.dataset) or "nothing that is known"),
            "Model (SHA-256 of model.safetensors)": run.bank.identity.model,
            "Feature bank (fingerprint)": run.bank.identity.fingerprint,
            "Trained by": _trained_by(run.run),
            "This page by": f"ltrsys {__version__}, Python {platform.python_version()}, torch {torch.__version__}, "
            f"numpy {np.__version__}",
        }
        config = yaml.safe_dump(run.config.dump(), sort_keys=False, allow_unicode=True)
        return ProvenanceData(facts=[Fact(name=name, value=value) for name, value in facts.items()], config=config)


def _dataset(dataset: Dataset) -> dict[str, str]:
    record = dataset.record
    splits = ", ".join(f"{name} {split.samples:,}" for name, split in record.splits.items())
    resized = "" if record.resize is None else f", reduced to {record.resize} pixels"
    return {
        "Dataset": f"{record.name}, read by {record.source}{resized}",
        "Classes": f"{dataset.num_classes:,}",
        "Images": splits,
        "Shards": dataset.place,
        "Dataset (fingerprint)": dataset.fingerprint,
    }


def _trained_by(run: RunFolder) -> str:
    """Name the versions of ltrsys that trained the run, as its starts have noted them."""
    versions = []
    for path in sorted(run.audit.glob("*/attempt.json")):
        try:
            version = str(json.loads(path.read_text(encoding="utf-8"))["code"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if version not in versions:
            versions.append(version)
    return f"ltrsys {', '.join(versions)}" if versions else "not known"
