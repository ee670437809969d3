"""The folder of one run: `runs/<name>/`, the contract between training, balancing and reporting."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunFolder:
    """Names of everything that a run writes."""

    path: Path

    @property
    def config_file(self) -> Path:
        """The config as resolved."""
        return self.path / "config.yaml"

    @property
    def dataset(self) -> Path:
        """The record of what it is trained on: a copy of the shards' `dataset.json`."""
        return self.path / "dataset.json"

    @property
    def metrics(self) -> Path:
        """One JSON object a logged step, by the names of `ltrsys.runs.metric_names`."""
        return self.path / "metrics.jsonl"

    @property
    def trackers(self) -> Path:
        """By which ids trackers know the run."""
        return self.path / "trackers.json"

    @property
    def checkpoints(self) -> Path:
        """What a run resumes from."""
        return self.path / "checkpoints"

    @property
    def audit(self) -> Path:
        """What was trained on, by every attempt and rank."""
        return self.path / "audit"

    @property
    def quarantine(self) -> Path:
        """One JSON object a training image that turned out bad: which, and why."""
        return self.path / "quarantine.jsonl"

    @property
    def lock(self) -> Path:
        """Held by the training that goes on here, which it names."""
        return self.path / "lock"

    @property
    def model(self) -> Path:
        """Backbone and classifier of the end of training: plain tensors."""
        return self.path / "model.safetensors"

    @property
    def features(self) -> Path:
        """The feature bank."""
        return self.path / "features"

    @property
    def classifiers(self) -> Path:
        """One safetensors file a classifier of the second stage."""
        return self.path / "classifiers"

    @property
    def added_classes(self) -> Path:
        """Classes that were added without training."""
        return self.path / "added_classes.safetensors"

    @property
    def calibration(self) -> Path:
        """One safetensors file a classifier: how sure its answers are."""
        return self.path / "calibration"

    @property
    def results(self) -> Path:
        """Accuracies by split and classifier."""
        return self.path / "results.json"

    @property
    def predictions(self) -> Path:
        """What each fitted classifier predicts on the reported split."""
        return self.path / "predictions"

    @property
    def report(self) -> Path:
        """Plots and tables."""
        return self.path / "report"

    @property
    def page(self) -> Path:
        """The page of `ltrsys report`."""
        return self.path / "report.html"

    @property
    def exports(self) -> Path:
        """A folder an export."""
        return self.path / "exports"
