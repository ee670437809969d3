"""Feature banks on disk without a network, and what fits classifiers on them."""

from pathlib import Path
from typing import Any

import numpy as np

from ltrsys.classifiers.base import ValSplit
from ltrsys.features.bank import BankIdentity, FeatureBank
from ltrsys.models.stored.weights import save_tensors
from ltrsys.runs.folder import RunFolder
from ltrsys.second_stage.config import BALANCE
from ltrsys.second_stage.fitting import Fitter
from tests.classifiers.conftest import CPU, LongTail


def fitter_of(data: LongTail, folder: Path, *, val: ValSplit, identity: str = "model", **balance: Any) -> Fitter:
    """Write the bank and the joint classifier into a run folder; return what fits classifiers there."""
    run = RunFolder(folder)
    for name in ("train", "val", "test"):
        split = getattr(data, name)
        (run.features / name).mkdir(parents=True, exist_ok=True)
        np.save(run.features / name / "features.npy", split.features)
        np.save(run.features / name / "labels.npy", split.labels)
    save_tensors({f"classifier.{name}": tensor for name, tensor in data.joint.tensors().items()}, run.model)
    bank = FeatureBank(
        run.features, BankIdentity(identity, "dataset", {}), data.train.num_classes, ("train", "val", "test")
    )
    return Fitter(run, bank, BALANCE.model()(**balance), val, 0, CPU, "linear")
