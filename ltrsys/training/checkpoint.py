"""What a run resumes from: one safetensors file, of weights, momentum and a record, and no pickle.

It is independent of the engine and of the number of ranks: tensors go by the names of the network's parameters.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import safe_open
from torch import Tensor

from ltrsys.config import Config
from ltrsys.errors import DataError, UsageError
from ltrsys.models.weights import load_tensors, save_tensors

NETWORK, MOMENTUM = "network.", "momentum."

UNIMPORTANT = {
    "name", "runs", "tracking", "balance", "shots",
    "data.shards", "data.decode", "data.threads", "data.prefetch",
    "train.engine", "train.zero_stage", "train.compile", "train.channels_last",
    "train.evaluate_every", "train.log_every", "train.checkpoint_every", "train.timeout_seconds",
}  # fmt: skip
"""Sections and keys that may differ between a checkpoint and the run that resumes from it."""


class Progress(BaseModel):
    """How far a run has come, and what it is a run of."""

    model_config = ConfigDict(extra="forbid")

    format: int = 1
    epoch: int = 0
    """Finished epochs."""
    step: int = 0
    """Finished optimizer steps, over all epochs."""
    best_epoch: int | None = None
    best_accuracy: float | None = None
    """The highest accuracy on val so far, in per cent, and the epoch after which it was measured."""
    accuracies: dict[str, float | None] = {}
    """The last accuracies on val: many, medium, few, all."""
    scaler: dict[str, float] = {}
    dataset: str
    """Fingerprint of the dataset."""
    config: dict[str, Any]


@dataclass(frozen=True)
class Checkpoint:
    """A run at one moment."""

    network: Mapping[str, Tensor]
    """The network's state dict."""
    momentum: Mapping[str, Tensor]
    progress: Progress

    def save(self, path: Path) -> None:
        """Write the checkpoint, whole or not at all."""
        tensors = {NETWORK + name: tensor for name, tensor in self.network.items()}
        tensors |= {MOMENTUM + name: tensor for name, tensor in self.momentum.items()}
        save_tensors(tensors, path, {"progress": self.progress.model_dump_json()})

    @classmethod
    def load(cls, path: Path) -> "Checkpoint":
        """Read a checkpoint.

        Raises:
            DataError: Where it is damaged, or no checkpoint.
        """
        tensors = load_tensors(path)
        with safe_open(path, framework="pt") as file:
            record = (file.metadata() or {}).get("progress", "null")
        try:
            progress = Progress.model_validate(json.loads(record))
        except ValidationError:
            raise DataError(f"{path}: not a checkpoint of this version. Move it away to start afresh.") from None
        return cls(_part(tensors, NETWORK), _part(tensors, MOMENTUM), progress)


def check_same_experiment(progress: Progress, config: Config, dataset: str, path: Path) -> None:
    """Refuse to go on from the checkpoint of another experiment.

    Raises:
        UsageError: Names the first key, or the dataset, that differs.
    """
    now, then = _important(config.dump()), _important(progress.config)
    for key in sorted(now.keys() | then.keys()):
        if now.get(key) != then.get(key):
            raise UsageError(
                f"{path}: this run was begun with {key}={then.get(key)}, but the config now says {now.get(key)}. "
                "Put it back, or choose another name for the new run."
            )
    if progress.dataset != dataset:
        raise UsageError(
            f"{path}: this run was begun on other shards than data.shards={config.data.shards} (their fingerprints "
            "differ). Give it the shards it began with, or choose another name for the new run."
        )


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _important(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten a config to dotted keys, without those that may differ."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        key = prefix + name
        if key in UNIMPORTANT:
            continue
        flat |= _important(value, f"{key}.") if isinstance(value, dict) else {key: value}
    return flat
