"""A trained and balanced run, and its test images as files."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from ltrsys.data.index.dataset import Dataset
from ltrsys.prediction.images.collections import Samples
from ltrsys.prediction.predictor import Predictor
from ltrsys.runs.folder import RunFolder
from tests.cli.training.test_balance import ltrsys
from tests.conftest import on_one_thread

SHORT = ["balance.crt={epochs: 2, lr: 0.1, batch_size: 64}", "balance.feature_batch_size=64"]


@pytest.fixture(scope="package", autouse=True)
def _one_thread() -> Iterator[None]:
    with on_one_thread():
        yield


@pytest.fixture(scope="package")
def named(trained: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run that was trained and balanced; tests leave it as it is."""
    run = RunFolder(Path(shutil.copytree(trained(train__epochs=4), tmp_path_factory.mktemp("named") / "run")))
    classifiers = ["--classifiers", "joint,ncm,crt,tau,logit_adjusted"]
    assert ltrsys("balance", run.path, *classifiers, *SHORT) == 0
    return run


@pytest.fixture
def again(named: RunFolder, tmp_path: Path) -> RunFolder:
    """A copy of the run, to change."""
    return RunFolder(Path(shutil.copytree(named.path, tmp_path / "again")))


@pytest.fixture(scope="package")
def predictor(named: RunFolder) -> Iterator[Predictor]:
    """The run's cRT, with batches as the bank was made with."""
    with Predictor.load(named.path, classifier="crt", batch_size=64) as predictor:
        yield predictor


@pytest.fixture(scope="package")
def test_files(tiny_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The images of the test split as files, in the order of its samples."""
    samples, folder = Samples(Dataset.open(tiny_shards).split("test")), tmp_path_factory.mktemp("photographs")
    paths = [folder / f"{place:03d}.jpg" for place in range(len(samples))]
    for place, path in enumerate(paths):
        path.write_bytes(samples.read(place))
    return [str(path) for path in paths]


@pytest.fixture(scope="package")
def labels(tiny_shards: Path) -> np.ndarray:
    """Their classes."""
    return np.asarray(Dataset.open(tiny_shards).split("test").label)
