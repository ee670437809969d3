"""Whatever is loaded may come from a stranger: nothing in it is ever called."""

import os
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from ltrsys.classifiers.joint import Joint
from ltrsys.config.reading import load_config
from ltrsys.data.index.columns import COLUMNS, column_path
from ltrsys.data.index.dataset import Dataset
from ltrsys.data.plan.cache import PlanCache
from ltrsys.errors import DataError, LtrsysError
from ltrsys.evaluation.results import read_results
from ltrsys.features.bank import BankIdentity, FeatureBank, split_folder
from ltrsys.models.config import ModelConfig
from ltrsys.models.network import build_network
from ltrsys.models.stored.published import load_published
from ltrsys.models.stored.weights import load_backbone, load_network
from ltrsys.second_stage.store import classifier_path, load_fitted
from ltrsys.training.checkpoints.checkpoint import Checkpoint
from ltrsys.training.checkpoints.folder import CheckpointFolder

ROOT = Path(__file__).parent.parent
CPU = torch.device("cpu")
CONFIG = ModelConfig(backbone="shufflenet_v2_x0_5")


class Payload:
    """Makes a file, when a pickle of it is read."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


FORMS: dict[str, Callable[[Path, Payload], object]] = {
    "a pickle": lambda path, payload: path.write_bytes(pickle.dumps(payload)),
    "a pickled dict": lambda path, payload: path.write_bytes(pickle.dumps({"weight": payload}, protocol=2)),
    "torch.save": lambda path, payload: torch.save({"weight": torch.zeros(2), "more": payload}, path),
    "torch.save, as once": lambda path, payload: torch.save(
        {"weight": payload}, path, _use_new_zipfile_serialization=False
    ),
    "an array of objects": lambda path, payload: _save_objects(path, payload),
}


def _save_objects(path: Path, payload: Payload) -> None:
    with open(path, "wb") as file:
        np.save(file, np.array([payload], dtype=object), allow_pickle=True)


def read_bank(file: str) -> Callable[[Path], object]:
    def read(path: Path) -> object:
        bank = FeatureBank(path.parent, BankIdentity("", "", {}), 2, ("test",))
        folder = split_folder(bank.folder, "test")
        folder.mkdir()
        for name, values in (("features", np.zeros((3, 2), np.float32)), ("labels", np.zeros(3, np.int64))):
            np.save(folder / f"{name}.npy", values)
        shutil.copy(path, folder / file)
        return bank.split("test")

    return read


def read_classifier(path: Path) -> object:
    shutil.copy(path, classifier_path(path.parent, "crt"))
    return load_fitted(path.parent, "crt", CPU)


def read_checkpoints(path: Path) -> object:
    shutil.copy(path, path.parent / "step-000000001.safetensors")
    return CheckpointFolder(path.parent, kept=1).newest()


def read_plan(path: Path) -> object:
    def made_anew(order: object) -> None:
        raise DataError("what is no plan is made anew")

    cache = PlanCache(path.parent / "plans", "run")
    shutil.copy(path, cache.folder / "plan.npy")
    return cache.get("plan", 3, np.dtype(np.int64), made_anew)


def named(path: Path, suffix: str) -> Path:
    return Path(shutil.copy(path, path.with_suffix(suffix)))


PLACES: dict[str, Callable[[Path], object]] = {
    "model.safetensors": lambda path: load_network(CONFIG, 2, named(path, ".safetensors")),
    "model.safetensors, its classifier": lambda path: Joint.of_model(named(path, ".safetensors"), CPU),
    "checkpoints/": read_checkpoints,
    "a checkpoint": lambda path: Checkpoint.load(named(path, ".safetensors")),
    "features/*/features.npy": read_bank("features.npy"),
    "features/*/labels.npy": read_bank("labels.npy"),
    "classifiers/": read_classifier,
    "model.weights": lambda path: load_backbone(build_network(CONFIG, 2), named(path, ".pth")),
    "published weights": lambda path: load_published(CONFIG, 2, named(path, ".pth")),
    "published weights, safetensors": lambda path: load_published(CONFIG, 2, named(path, ".safetensors")),
    "a plan": read_plan,
    "results.json": read_results,
    "config.yaml": load_config,
}


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("form", FORMS)
def test_a_planted_pickle_is_refused_and_not_called(form, place, tmp_path):
    marker = tmp_path / "called"
    path = tmp_path / "planted"
    FORMS[form](path, Payload(marker))
    with pytest.raises((LtrsysError, ValueError)) as caught:
        PLACES[place](path)
    assert not marker.exists()
    if isinstance(caught.value, LtrsysError):
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("column", COLUMNS)
def test_a_planted_column_of_the_index_is_refused_and_not_called(column, tiny_shards, tmp_path):
    shards = Path(shutil.copytree(tiny_shards, tmp_path / "shards"))
    marker = tmp_path / "called"
    path = column_path(shards / "train", column)
    for form in ("a pickle", "an array of objects", "torch.save"):
        FORMS[form](path, Payload(marker))
        with pytest.raises(LtrsysError, match=re.escape(str(path))):
            Dataset.open(shards).split("train")
    assert not marker.exists()


def test_yaml_makes_no_objects(tmp_path):
    marker = tmp_path / "called"
    tag = f"!!python/object/apply:os.mkdir [{str(marker)!r}]"
    path = tmp_path / "config.yaml"
    path.write_text(f"name: {tag}\n")
    with pytest.raises(LtrsysError, match=r"config\.yaml:1: not valid YAML"):
        load_config(path)
    path.write_text("name: fine\ndata: {shards: shards}\n")
    with pytest.raises(LtrsysError, match="the value is not valid YAML"):
        load_config(path, [f"name={tag}"])
    assert not marker.exists()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("form", FORMS)
def test_each_planted_file_would_be_called_by_a_careless_reader(form, tmp_path):
    marker = tmp_path / "called"
    FORMS[form](tmp_path / "planted", Payload(marker))
    readers = {
        "a pickle": lambda path: pickle.loads(path.read_bytes()),
        "a pickled dict": lambda path: pickle.loads(path.read_bytes()),
        "an array of objects": lambda path: np.load(path, allow_pickle=True),
    }
    readers.get(form, lambda path: torch.load(path, weights_only=False))(tmp_path / "planted")
    assert marker.exists()


FORBIDDEN = {
    "torch.load without weights_only": r"torch\.load\((?![^)]*weights_only=True)",
    "numpy's pickles": r"np\.load\(|allow_pickle=True",  # open_memmap reads no pickle, and no zip file either
    "pickle": r"\b(?:import|from) (?:pickle|dill|cloudpickle|joblib|marshal|shelve)\b(?! import UnpicklingError)",
    "unsafe YAML": r"yaml\.(?:unsafe_|full_)?load\((?!\w+, Loader=_Loader\))|yaml\.(?:Unsafe|Full)?Loader\b",
    "a shell": r"shell=True|os\.system|os\.popen|subprocess\.get(?:status)?output",
    "code from text": r"(?<![\w.])(?:eval|exec)\(",
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_the_package_has_no(what):
    sources = [path for room in ("ltrsys", "kernels", "launchers") for path in (ROOT / room).rglob("*.py")]
    assert len(sources) > 50
    found = [f"{path}: {match[0]}" for path in sources for match in re.finditer(FORBIDDEN[what], path.read_text())]
    assert not found


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("torch.load without weights_only", "torch.load(path, map_location='cpu')"),
        ("numpy's pickles", "np.load(path, mmap_mode='r')"),
        ("pickle", "import pickle"),
        ("unsafe YAML", "yaml.load(text, Loader=yaml.Loader)"),
        ("unsafe YAML", "yaml.unsafe_load(text)"),
        ("a shell", "subprocess.run(command, shell=True)"),
        ("code from text", "value = eval(text)"),
    ],
)
def test_what_is_forbidden_would_be_found(what, text):
    assert re.search(FORBIDDEN[what], text)
