"""What a run resumes from: one safetensors file, of weights, the optimizer's state and a record, and no pickle.

Weights and the optimizer's state go by the names of the network's parameters, so that they fit either engine and any
number of ranks. What every rank has for itself (BatchNorm's running statistics, the state of its random generator) is
stacked, [ranks, ...]; the same number of ranks goes on with it bit for bit.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ltrsys import __version__
from ltrsys.errors import DataError
from ltrsys.models.stored.weights import load_tensors, save_tensors

NETWORK, OPTIMIZER, RANKS, LOSS, AVERAGE = "network.", "optimizer.", "ranks.", "loss.", "average."
MOMENTUM = "momentum."
"""Of SGD's momentum in files of format 2, by parameter name alone."""


class Progress(BaseModel):
    """How far a run has come, and what it is a run of."""

    model_config = ConfigDict(extra="forbid")

    format: int = 3
    code: str = __version__
    """The version that wrote it."""
    plan: int = 1
    """The version of the plan that the run was begun with; none was recorded before the second."""
    epoch: int = 0
    """Finished epochs, their evaluation included."""
    step: int = 0
    """Finished optimizer steps, over all epochs."""
    micro_batch_size: int
    """The samples that BatchNorm sees together; other numbers of ranks keep to it by accumulating."""
    world_size: int
    """Ranks of the run when this was written."""
    unlogged_steps: int = 0
    """Steps since the last line of the log: their losses belong to the next."""
    best_epoch: int | None = None
    best_accuracy: float | None = None
    """The best on val so far by `train.select_by`, in per cent, and the epoch after which it was measured."""
    accuracies: dict[str, float | None] = {}
    """The last accuracies on val: many, medium, few, all, mean class accuracy; older versions left the last out."""
    scaler: dict[str, int | float] = {}
    tracking_runs: dict[str, str] = {}
    """The trackers' own ids of the run, by the tracker's name."""
    dataset: str
    """Fingerprint of the dataset."""
    config: dict[str, Any]
    sampler_weights: str | None = None
    """SHA-256 of the file that `data.sampler.weights` names, which the config has only the name of."""
    started_from: str | None = None
    """SHA-256 of the weights of the run that `train.from_run` named at the start, which may be gone since."""

    @model_validator(mode="before")
    @classmethod
    def _read_older(cls, values: Any) -> Any:
        """Until 0.2.0, wandb was the only tracker."""
        if isinstance(values, dict) and "tracking_run" in values:
            values = dict(values)
            run_id = values.pop("tracking_run")
            values["tracking_runs"] = {} if run_id is None else {"wandb": run_id}
        return values


@dataclass(frozen=True)
class Checkpoint:
    """A run at one moment."""

    network: Mapping[str, Tensor]
    """The network's state dict, its buffers being the mean over the ranks."""
    optimizer: Mapping[str, Tensor]
    """The optimizer's state as `<parameter>.<what>`."""
    progress: Progress
    ranks: Mapping[str, Tensor] = field(default_factory=dict)
    """What each rank has for itself, stacked: [ranks, ...]."""
    loss: Mapping[str, Tensor] = field(default_factory=dict)
    """What the loss has learned."""
    average: Mapping[str, Tensor] = field(default_factory=dict)
    """The state dict of the averaged network, as `network`; empty without `train.ema_decay`."""

    def copied(self) -> "Checkpoint":
        """Return a copy on the CPU, which training does not change any more."""
        parts = (self.network, self.optimizer, self.ranks, self.loss, self.average)
        network, optimizer, ranks, loss, average = (
            {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in part.items()} for part in parts
        )
        return Checkpoint(network, optimizer, self.progress.model_copy(deep=True), ranks, loss, average)

    def save(self, path: Path) -> None:
        """Write the checkpoint, whole or not at all.

        Raises:
            LtrsysError: Where the disk is full or the folder may not be written.
        """
        parts = {
            NETWORK: self.network,
            OPTIMIZER: self.optimizer,
            RANKS: self.ranks,
            LOSS: self.loss,
            AVERAGE: self.average,
        }
        tensors = {
            prefix + name: tensor.detach().cpu().contiguous()
            for prefix, part in parts.items()
            for name, tensor in part.items()
        }
        record = self.progress.model_dump_json()
        save_tensors(tensors, path, {"progress": record, "sha256": _digest(tensors, record)})

    @classmethod
    def load(cls, path: Path) -> "Checkpoint":
        """Read a checkpoint.

        Raises:
            DataError: Where it is damaged, or no checkpoint.
        """
        tensors = load_tensors(path)
        progress, metadata = _record(path)
        if metadata.get("sha256") != _digest(tensors, metadata["progress"]):
            raise DataError(f"{path}: damaged: its bytes do not have the checksum that they were written with.")
        optimizer = _part(tensors, OPTIMIZER)
        optimizer |= {f"{name}.momentum_buffer": tensor for name, tensor in _part(tensors, MOMENTUM).items()}
        network, ranks, loss, average = (_part(tensors, prefix) for prefix in (NETWORK, RANKS, LOSS, AVERAGE))
        return cls(network, optimizer, progress, ranks, loss, average)


def read_progress(path: Path) -> Progress:
    """Read the record of a checkpoint without its tensors, which are not compared with their checksum.

    Raises:
        DataError: Where it is damaged, or no checkpoint.
    """
    try:
        return _record(path)[0]
    except (OSError, SafetensorError) as error:
        raise DataError(f"{path}: damaged, or no checkpoint ({error}).") from None


def _record(path: Path) -> tuple[Progress, dict[str, str]]:
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
    try:
        return Progress.model_validate(json.loads(metadata.get("progress", "null"))), metadata
    except (ValidationError, json.JSONDecodeError):
        raise DataError(f"{path}: not a checkpoint of this version. Move it away to start afresh.") from None


def _digest(tensors: Mapping[str, Tensor], record: str) -> str:
    """SHA-256 of the record and of every tensor's name, type, shape and bytes."""
    digest = hashlib.sha256(record.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"\0{name}\0{tensor.dtype}\0{list(tensor.shape)}\0".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
