"""A page at the size of iNaturalist 2018: 8,142 classes and 24,426 reported images, of a made-up bank."""

import hashlib
import io
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from ltrsys.commands.results.report import report_runs
from ltrsys.commands.training.balance import balance_run
from ltrsys.config.reading import save_config
from ltrsys.data.index.columns import checksum, write_columns
from ltrsys.data.index.dataset import Dataset
from ltrsys.data.index.records import ClassRecord, DatasetRecord, ShardRecord, SplitName, SplitRecord, write_record
from ltrsys.features.bank import BankIdentity, FeatureBank, split_folder
from ltrsys.models.stored.weights import save_tensors
from ltrsys.runs.folder import RunFolder
from tests.classifiers.runs import make_config
from tests.pages.browser import Browser

pytestmark = [pytest.mark.long, pytest.mark.browser]

CLASSES, VAL_OF_CLASS, FEATURES = 8142, 3, 32
PICTURES = 300
"""Different images; the samples are these again and again."""


def photographs(random: np.random.Generator) -> list[bytes]:
    """Return JPEGs of as much detail as photographs have when they are small."""
    made = []
    for _ in range(PICTURES):
        noise = random.integers(0, 256, (40, 60, 3), dtype=np.uint8)
        file = io.BytesIO()
        Image.fromarray(noise).resize((432, 288), Image.Resampling.BICUBIC).save(file, "JPEG", quality=85)
        made.append(file.getvalue())
    return made


def write_split(folder: Path, name: SplitName, labels: NDArray[np.int64], jpegs: list[bytes]) -> SplitRecord:
    """Write one shard that all samples are in, and the split's index."""
    (folder / name / "shards").mkdir(parents=True)
    content = b"".join(jpegs)
    (folder / name / "shards" / "0.tar").write_bytes(content)
    sizes = np.array([len(jpeg) for jpeg in jpegs])
    which = np.arange(len(labels)) % len(jpegs)
    columns: dict[str, NDArray[np.int64]] = {
        "label": labels,
        "shard": np.zeros(len(labels), np.int64),
        "offset": (np.cumsum(sizes) - sizes)[which],
        "size": sizes[which],
        "width": np.full(len(labels), 432),
        "height": np.full(len(labels), 288),
        "checksum": np.array([checksum(jpeg) for jpeg in jpegs])[which],
    }
    digests = write_columns(
        folder / name, {key: values.astype(np.int64).astype(_kind(key)) for key, values in columns.items()}
    )
    shard = ShardRecord(
        name="0.tar", samples=len(labels), bytes=len(content), sha256=hashlib.sha256(content).hexdigest()
    )
    counts = np.bincount(labels, minlength=CLASSES).tolist()
    return SplitRecord(samples=len(labels), shards=[shard], strata=[], class_counts=counts, columns=digests)


def _kind(column: str) -> str:
    return {"label": "int32", "offset": "uint64", "width": "uint16", "height": "uint16"}.get(column, "uint32")


def write_dataset(folder: Path, labels: dict[SplitName, NDArray[np.int64]], jpegs: list[bytes]) -> None:
    classes = [
        ClassRecord(
            name=f"Genus{number % 900} species-of-number-{number}",
            taxonomy={
                "kingdom": "Animalia",
                "class": f"Class{number % 13}",
                "family": f"Family{number % 300}idae",
                "genus": f"Genus{number % 900}",
            },
        )
        for number in range(CLASSES)
    ]
    splits = {name: write_split(folder, name, own, jpegs) for name, own in labels.items()}
    record = DatasetRecord(
        name="inaturalist_2018", source="made up", seed=0, resize=None, bands_per_octave=4, classes=classes,
        splits=splits,
    )  # fmt: skip
    write_record(folder, record)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A balanced run with a long tail, whose network was never there."""
    random = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("large")
    counts = np.maximum(2, 1000 / (1 + 0.2 * np.arange(CLASSES))).astype(np.int64)
    labels: dict[SplitName, NDArray[np.int64]] = {
        "train": np.repeat(np.arange(CLASSES), counts),
        "val": np.repeat(np.arange(CLASSES), VAL_OF_CLASS),
    }
    write_dataset(folder / "shards", labels, photographs(random))
    run = RunFolder(folder / "run")
    run.path.mkdir()
    config = make_config(run.path, folder / "shards")
    save_config(config, run.config_file)
    centres = np.abs(random.normal(size=(CLASSES, FEATURES))).astype(np.float32)
    grown = 0.8 + 0.1 * np.log(counts)
    joint = {"weight": centres * grown[:, None], "bias": -(centres**2).sum(axis=1) / 2}
    save_tensors(
        {f"classifier.{key}": torch.from_numpy(values.astype(np.float32)) for key, values in joint.items()}, run.model
    )
    for name, own in labels.items():
        kept = split_folder(run.features, name)
        kept.mkdir(parents=True)
        noise = random.normal(size=(len(own), FEATURES)).astype(np.float32)
        np.save(kept / "features.npy", centres[own] + 0.35 * noise)
        np.save(kept / "labels.npy", own)
    identity = BankIdentity.of(run, config, Dataset.open(folder / "shards"))
    FeatureBank(run.features, identity, CLASSES, ("train", "val")).save()
    settings = ["balance.tilt_grid=[]", "balance.tau.select_on=learned", "balance.tau.learned.epochs=1",
                "balance.tau.learned.batch_size=2048"]  # fmt: skip
    balance_run(run.path, settings, "joint,ncm,tau,logit_adjusted", as_json=False)
    return run


def test_it_is_small_and_soon_there(browser: Browser, run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    began = time.monotonic()
    page = report_runs([run.path], [], out=None, pictures=True)
    built = time.monotonic() - began
    assert page == run.page
    assert page.stat().st_size < 10e6
    times = []
    for _ in range(3):
        browser.open(page)
        times.append(int(browser.run("return document.documentElement.dataset.ready")))
    with capsys.disabled():
        print(f"\n{page.stat().st_size / 1e6:.1f} MB, built in {built:.1f} s, interactive after {sorted(times)} ms")
    assert browser.texts("#classes [role=status]") == ["8,142 of 8,142 classes"]
    assert browser.run("return document.querySelectorAll('.rows tbody tr').length") < 100, "those in sight alone"
    browser.find("#class-filter").send_keys("family7idae number-7")
    assert browser.texts(".rows tbody th")[0].startswith("Genus7 species-of-number-7")
    browser.run("document.querySelector('.rows').scrollTop = 1e6")
    browser.draw_all()
    assert browser.problems() == []
    assert browser.requests() == []
