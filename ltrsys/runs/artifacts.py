"""What a run keeps with its trackers: dataset record, model, classifiers, results, report, and what each is made of."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ltrsys.data.index.dataset import Dataset
from ltrsys.runs.folder import RunFolder
from ltrsys.runs.trackers.base import Artifact


def dataset_artifact(run: RunFolder, dataset: Dataset) -> Artifact:
    """Return the record of what the run is trained on; runs on the same shards share it.

    A run of ltrsys 0.2.0 has no copy of it, and gives that of the shards.
    """
    record = run.dataset if run.dataset.exists() else dataset.folder / "dataset.json"
    splits = {name: split.samples for name, split in dataset.record.splits.items()}
    metadata = {"classes": dataset.num_classes, "images": splits, "fingerprint": dataset.fingerprint}
    return Artifact(dataset.record.name, "dataset", {"dataset.json": record}, None, metadata)


def model_artifact(run: RunFolder, metadata: Mapping[str, Any], *uses: Artifact) -> Artifact:
    """Return the trained network and the config that it is built and used by."""
    files = {"model.safetensors": run.model, "config.yaml": run.config_file}
    return Artifact("model", "model", files, run.path, metadata, [one.name for one in uses])


def classifiers_artifact(run: RunFolder, classifiers: Mapping[str, Path]) -> Artifact:
    """Return the files of the classifiers in the results, given by the classifier's name."""
    files = {f"{name}.safetensors": path for name, path in classifiers.items()}
    return Artifact("classifiers", "classifiers", files, run.path, {}, ["model"])


def results_artifact(run: RunFolder, results: Path, per_class: Path, metadata: Mapping[str, Any]) -> Artifact:
    """Return what was measured, of each classifier (`results` is to be `results.json`) and of each class."""
    files = {"results.json": results, "per_class.csv": per_class}
    return Artifact("results", "results", files, run.path, metadata, ["classifiers"])


def report_artifact(run: RunFolder) -> Artifact:
    """Return the plots, and whatever else the report of the run holds."""
    paths = sorted(path for path in run.report.rglob("*") if path.is_file() and not path.name.startswith("."))
    files = {path.relative_to(run.report).as_posix(): path for path in paths}
    return Artifact("report", "report", files, run.path, {}, ["results"])
