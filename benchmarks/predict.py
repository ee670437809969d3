"""Images a second of `ltrsys predict`, beside what people write by hand, and beside the evaluation of shards.

The network is next to nothing, so that reading and decoding count: it is what a GPU leaves of it.
"""

import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from benchmarks.photographs import photograph_source
from benchmarks.report import Table, interleaved, main, summary
from ltrsys.classifiers.joint import Joint
from ltrsys.commands.results.predict import predict_missing
from ltrsys.config.schema import Config
from ltrsys.data.config import IMAGENET_MEAN, IMAGENET_STD, DataConfig
from ltrsys.data.index.dataset import Dataset as Shards
from ltrsys.data.index.dataset import Split
from ltrsys.data.loading.loader import EvaluationLoader
from ltrsys.data.shards.build_folder import BuildOptions
from ltrsys.data.shards.building import build_shards
from ltrsys.export.folding import FoldedModel
from ltrsys.export.formats.onnx_graph import ONNXExporter
from ltrsys.export.subject import Subject
from ltrsys.models.config import ModelConfig
from ltrsys.models.network import build_network
from ltrsys.models.signature import Signature
from ltrsys.prediction.answers import Wanted
from ltrsys.prediction.images.collections import Files, Images, Samples
from ltrsys.prediction.job import Job
from ltrsys.prediction.loading import LoadedModel
from ltrsys.prediction.predictor import Predictor
from ltrsys.prediction.tables import Layout
from ltrsys.runs.folder import RunFolder
from ltrsys.second_stage.store import Fitted
from ltrsys.world import World

BATCH_SIZE, WORKERS, CLASSES = 64, 2, 40
CPU = torch.device("cpu")


def measure(quick: bool) -> list[Table]:
    """Measure on photographs of 300 pixels."""
    images, rounds = (128, 1) if quick else (4096, 7)
    with tempfile.TemporaryDirectory(prefix="ltrsys-predict-") as folder:
        return [_table(Path(folder), images, rounds), _exported(Path(folder), quick)]


def _table(folder: Path, images: int, rounds: int) -> Table:
    counts = np.full(CLASSES, -(-images // CLASSES))
    split = build_shards(photograph_source(counts), folder / "shards", BuildOptions(), workers=WORKERS).split("train")
    paths = _as_files(split, folder / "files")[:images]
    network, predictor = _light_network(), _predictor(folder, split)
    number, answerer = iter(range(10**6)), predictor.answerer(Wanted(top=5))

    def predict(what: Images) -> float:
        job = Job(folder / f"{next(number)}.csv", {}, what)

        def work() -> None:
            job.begin()
            predict_missing(predictor, job, job.missing(), answerer, World())
            job.finish(Layout(), answerer.answer)

        return _seconds(work)

    cases = {
        "ltrsys predict, files": lambda: predict(Files(paths)),
        "ltrsys predict, shards": lambda: predict(Samples(split)),
        "evaluation of shards": lambda: _evaluate(split, network),
        "PIL, torchvision and torch, a loop": lambda: _loop(paths, network),
        f"the same in a DataLoader, {WORKERS} workers": lambda: _loader(paths, network),
    }
    seconds = interleaved(cases, rounds)
    done = dict.fromkeys(cases, len(paths)) | dict.fromkeys(
        ["ltrsys predict, shards", "evaluation of shards"], len(split)
    )
    speeds = {name: [done[name] / one for one in values] for name, values in seconds.items()}
    own = speeds["ltrsys predict, files"]
    rows = [
        {
            "what": name,
            "images/s": summary(values)["median"],
            "predict of files / it": summary([one / other for one, other in zip(own, values, strict=True)])["median"],
        }
        for name, values in speeds.items()
    ]
    predictor.close()
    notes = [
        f"{len(paths):,} JPEGs, short side 300, {split.size.mean() / 1e3:.1f} kB on average; batches of {BATCH_SIZE}; "
        f"{WORKERS} threads or workers; medians of {rounds} turns in changing order.",
        "predict reads, checks, decodes, ranks and writes a table of five names an image; the others end at logits.",
    ]
    return Table("Naming photographs", list(rows[0]), rows, notes)


def _exported(folder: Path, quick: bool) -> Table:
    """Measure a whole network, as torch runs it and as onnxruntime runs what was exported of it."""
    backbone, batch, rounds = ("resnet10", 4, 1) if quick else ("resnet50", 16, 9)
    config = Config(name="whole", data=_config(folder / "shards"), model=ModelConfig(backbone=backbone))
    network = build_network(config.model, CLASSES).eval()
    weights = network.classifier.state_dict()
    joint = Joint(weights["weight"], weights["bias"])
    signature = Signature.of(Shards.open(folder / "shards").record, config.data)
    run = RunFolder(folder / "run")
    model = LoadedModel(run, config, signature, network.backbone, network.feature_dim, Fitted(joint, "", ""))
    images = torch.randn(batch, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    runners: dict[str, Callable[[torch.Tensor], object]] = {"torch": FoldedModel.of(model, 1.0)}
    for precision in ("float32", "int8"):
        folded, place = FoldedModel.of(model, 1.0), folder / precision
        place.mkdir()
        calibration = images if precision == "int8" else None
        ONNXExporter.write(Subject(model, folded, precision, calibration), place)
        runners[f"onnxruntime, {precision}"] = ONNXExporter.open(place)

    @torch.inference_mode()
    def seconds(name: str) -> float:
        return _seconds(lambda: runners[name](images))

    cases = {name: partial(seconds, name) for name in runners}
    measured = interleaved(cases, rounds)
    of_torch = measured["torch"]
    rows = [
        {
            "what": name,
            "images/s": batch / summary(values)["median"],
            "over torch": summary([one / its for one, its in zip(of_torch, values, strict=True)])["median"],
        }
        for name, values in measured.items()
    ]
    notes = [f"{backbone}, {batch} images of 224 pixels at once, random weights; medians of {rounds} turns."]
    return Table("An exported network", list(rows[0]), rows, notes)


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _as_files(split: Split, folder: Path) -> list[str]:
    folder.mkdir()
    samples = Samples(split)
    paths = [folder / f"{place:06d}.jpg" for place in range(len(samples))]
    for place, path in enumerate(paths):
        path.write_bytes(samples.read(place))
    return [str(path) for path in paths]


def _light_network() -> nn.Sequential:
    """Return images [B, 3, H, W] -> features [B, 48]."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten()).eval()


def _config(shards: Path) -> DataConfig:
    return DataConfig(shards=shards, threads=WORKERS)


def _predictor(folder: Path, split: Split) -> Predictor:
    config = Config(name="light", data=_config(folder / "shards"))
    signature = Signature.of(Shards.open(folder / "shards").record, config.data)
    weights = torch.randn(CLASSES, 48, generator=torch.Generator().manual_seed(0))
    fitted = Fitted(Joint(weights, torch.zeros(CLASSES)), "", "")
    model = LoadedModel(RunFolder(folder / "run"), config, signature, _light_network(), 48, fitted)
    return Predictor(model, CPU, BATCH_SIZE)


@torch.inference_mode()
def _evaluate(split: Split, network: nn.Module) -> float:
    loader = EvaluationLoader(split, _config(split.folder.parent), batch_size=BATCH_SIZE, world=World(), device=CPU)
    head = nn.Linear(48, CLASSES)
    seconds = _seconds(lambda: [head(network(batch.images)).argmax(dim=1) for batch in loader])
    loader.close()
    return seconds


class _Photographs(Dataset[torch.Tensor]):
    """Files by Pillow and torchvision."""

    def __init__(self, paths: list[str]) -> None:
        self.paths = paths
        self.transform = transforms.Compose(
            [
                transforms.Resize(256),
                transforms.CenterCrop(224),
                transforms.ToTensor(),
                transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
            ]
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, place: int) -> torch.Tensor:
        with Image.open(self.paths[place]) as image:
            pixels: torch.Tensor = self.transform(image.convert("RGB"))
        return pixels


@torch.inference_mode()
def _loop(paths: list[str], network: nn.Module) -> float:
    photographs, head = _Photographs(paths), nn.Linear(48, CLASSES)

    def work() -> None:
        for start in range(0, len(paths), BATCH_SIZE):
            places = range(start, min(start + BATCH_SIZE, len(paths)))
            head(network(torch.stack([photographs[place] for place in places]))).topk(5)

    return _seconds(work)


@torch.inference_mode()
def _loader(paths: list[str], network: nn.Module) -> float:
    head = nn.Linear(48, CLASSES)

    def work() -> None:
        for images in DataLoader(_Photographs(paths), BATCH_SIZE, num_workers=WORKERS):
            head(network(images)).topk(5)

    return _seconds(work)


if __name__ == "__main__":
    main("predict", measure)
