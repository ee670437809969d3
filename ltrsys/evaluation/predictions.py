"""Predictions that are kept: computing those of iNaturalist's 24,426 images anew takes minutes on a CPU.

RUN/predictions/<split>-<classifier>.safetensors   `ranking`, int32 [n, k]: the best classes of each image, best first
RUN/predictions/<split>-by_tau.safetensors         `predictions`, int32 [T, n]: the predicted class at each tau
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from ltrsys.classifiers.adjusted.tau import TauConfig, sweep
from ltrsys.classifiers.joint import Joint
from ltrsys.errors import LtrsysError
from ltrsys.evaluation.split import EvaluatedSplit
from ltrsys.features.bank import FeatureBank, fingerprint
from ltrsys.models.stored.weights import save_tensors
from ltrsys.second_stage.config import BalanceConfig
from ltrsys.second_stage.store import Fitted

VERSION = 1
"""Raised when the same inputs come to give other predictions: those of before are computed anew."""

log = logging.getLogger("ltrsys")


def tau_grid(config: BalanceConfig) -> list[float]:
    """Return the values of tau that a run's predictions are kept at, ascending."""
    section = config.of("tau")
    assert isinstance(section, TauConfig)
    return sorted(set(section.grid))


@dataclass(frozen=True)
class Predictions:
    """What classifiers predict on one split, computed once."""

    folder: Path
    """`RUN/predictions`."""
    split: EvaluatedSplit

    def ranking(self, fitted: Fitted) -> NDArray[np.int64]:
        """Return the best classes of every image, int64 [n, k]; the split then knows them too."""
        name = fitted.classifier.name
        ranking = self._kept(
            name, "ranking", [fitted.fingerprint], len(self.split.split), lambda: self.split.ranking(fitted.classifier)
        )
        self.split.know(name, ranking)
        return ranking

    def of(self, fitted: Fitted) -> NDArray[np.int64]:
        """Return the predicted class of every image, int64 [n]."""
        return self.ranking(fitted)[:, 0]

    def by_tau(self, joint: Joint, bank: FeatureBank, grid: list[float]) -> NDArray[np.int64]:
        """Return the predicted class of every image at each tau of a grid, int64 [T, n]."""
        made_of = [bank.fingerprint_of("last"), *map(str, grid)]
        return self._kept(
            "by_tau",
            "predictions",
            made_of,
            len(grid),
            lambda: sweep(joint, self.split.split, grid, self.split.device),
        )

    def _kept(
        self, name: str, tensor: str, made_of: list[str], rows: int, compute: Callable[[], NDArray[np.int64]]
    ) -> NDArray[np.int64]:
        """Return what is in a file, or compute it and write the file, if it is missing, damaged or out of date."""
        path = self.folder / f"{self.split.name}-{name}.safetensors"
        current = fingerprint([VERSION, self.split.name, *made_of])
        found = _read(path, tensor, current)
        if found is not None and found.ndim == 2 and len(found) == rows:
            return found
        values = compute()
        try:
            save_tensors({tensor: torch.from_numpy(values.astype(np.int32))}, path, {"fingerprint": current})
        except LtrsysError as error:  # they can be computed again
            log.warning("Predictions are not kept: %s", error)
        return values


def _read(path: Path, tensor: str, current: str) -> NDArray[np.int64] | None:
    """Return a tensor of a file that has this fingerprint, int64; None where there is no such file."""
    try:
        with safe_open(path, framework="pt") as file:
            if (file.metadata() or {}).get("fingerprint") != current:
                return None
            values: NDArray[np.int64] = file.get_tensor(tensor).numpy().astype(np.int64)
            return values
    except (SafetensorError, OSError):
        return None
