"""Images a second of `ltrsys bank`, beside the loop that people write: timm's network, its transforms, a DataLoader.

On a GPU where there is one, with more images.
"""

import os
import shutil
import tempfile
import time
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset

from benchmarks.photographs import photograph_source
from benchmarks.report import Table, interleaved, main, summary
from ltrsys.config.reading import config_of
from ltrsys.config.schema import Config
from ltrsys.data.index.dataset import Dataset as Shards
from ltrsys.data.shards.build_folder import BuildOptions
from ltrsys.data.shards.building import build_shards
from ltrsys.features.making.extraction import images_of_bank, make_bank, write_features
from ltrsys.models.network import build_network
from ltrsys.models.stored.weights import save_network
from ltrsys.prediction.images.collections import Samples
from ltrsys.runs.folder import RunFolder
from ltrsys.world import World

CLASSES, BATCH_SIZE = 40, 64


def measure(quick: bool) -> list[Table]:
    """Measure a light network and a usual one."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    workers = 2 if device.type == "cpu" else min(16, len(os.sched_getaffinity(0)))
    images, rounds = (64, 1) if quick else (768 if device.type == "cpu" else 4096, 3)
    networks = ["tf_efficientnet_lite0"] if quick else ["tf_efficientnet_lite0", "resnet50", "vit_small_patch16_224"]
    with tempfile.TemporaryDirectory(prefix="ltrsys-bank-") as folder:
        shards = Path(folder) / "shards"
        counts = np.full(CLASSES, -(-images // CLASSES))
        split = build_shards(photograph_source(counts), shards, BuildOptions(), workers=workers).split("train")
        samples = Samples(split)
        paths = [Path(folder) / f"{place:06d}.jpg" for place in range(len(samples))]
        for place, path in enumerate(paths):
            path.write_bytes(samples.read(place))
        rows = [row for name in networks for row in _rows(name, Path(folder), paths, rounds, workers, device)]
        over_input = _over_input(Path(folder), rounds if quick else 9, workers, device)
    where = f"{workers} threads for the network in all" if device.type == "cpu" else torch.cuda.get_device_name()
    notes = [
        f"{len(paths):,} JPEGs, short side 300; batches of {BATCH_SIZE}; {where}, and {workers} threads or workers "
        f"that decode; medians of {rounds} turns in changing order.",
        "The bank is also checked for what is not finite, and written to disk.",
    ]
    return [Table("Making a feature bank", list(rows[0]), rows, notes), over_input]


def _rows(
    name: str, folder: Path, paths: list[Path], rounds: int, workers: int, device: torch.device
) -> list[dict[str, object]]:
    runs = {precision: _run(folder, name, precision, workers) for precision in ("float32", "bf16")}
    cases = {f"ltrsys bank, {precision}": partial(_bank, *run, device) for precision, run in runs.items()}
    cases["timm and a DataLoader"] = partial(_loop, name, paths, workers, device)
    seconds = interleaved(cases, rounds)
    of_loop = seconds["timm and a DataLoader"]
    return [
        {
            "network": name,
            "what": case,
            "images/s": len(paths) / summary(values)["median"],
            "over the loop": summary([one / own for one, own in zip(of_loop, values, strict=True)])["median"],
        }
        for case, values in seconds.items()
    ]


def _run(folder: Path, name: str, precision: str, workers: int) -> tuple[RunFolder, Config]:
    """Write a run with random weights, as `ltrsys bank` does with pretrained ones."""
    run = RunFolder(folder / f"{name}-{precision}")
    run.path.mkdir()
    config = config_of(
        {
            "name": name,
            "data": {"shards": str(folder / "shards"), "threads": workers},
            "model": {"backbone": f"timm/{name}", "head": "none"},
            "bank": {"precision": precision},
            "balance": {"feature_batch_size": BATCH_SIZE},
        }
    )
    save_network(build_network(config.model, CLASSES), run.model)
    return run, config


def _bank(run: RunFolder, config: Config, device: torch.device) -> float:
    shutil.rmtree(run.features, ignore_errors=True)
    started = time.perf_counter()
    make_bank(run, config, Shards.open(Path(config.data.shards)), world=World(), device=device)
    return time.perf_counter() - started


def _over_input(folder: Path, rounds: int, workers: int, device: torch.device) -> Table:
    """Compare what makes features of a network that costs next to nothing with its input pipeline alone."""
    _, config = _run(folder, "resnet18", "float32", workers)  # whose weights are not asked for
    split, path = Shards.open(folder / "shards").split("train"), folder / "pooled.npy"
    backbone = nn.Sequential(nn.AdaptiveAvgPool2d(16), nn.Flatten()).to(device).eval()
    np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(len(split), 3 * 16 * 16))

    def alone() -> float:
        started = time.perf_counter()
        with closing(images_of_bank(split, config, world=World(), device=device)) as loader:
            for batch in loader:
                assert len(batch.images)
        return time.perf_counter() - started

    def extracted() -> float:
        started = time.perf_counter()
        write_features(backbone, split, {"last": path}, config, world=World(), device=device)
        return time.perf_counter() - started

    seconds = interleaved({"the input pipeline alone": alone, "features, pooled pixels": extracted}, rounds)
    of_input = seconds["the input pipeline alone"]
    rows: list[dict[str, object]] = [
        {
            "what": case,
            "images/s": len(split) / summary(values)["median"],
            "over the input pipeline": summary([one / own for one, own in zip(of_input, values, strict=True)])[
                "median"
            ],
        }
        for case, values in seconds.items()
    ]
    note = f"{len(split):,} JPEGs, batches of {BATCH_SIZE}; 768 features of an image, checked and written to disk."
    return Table("Features over their input pipeline", list(rows[0]), rows, [note])


class _Photographs(Dataset[torch.Tensor]):
    """Files by Pillow and timm's transforms."""

    def __init__(self, paths: list[Path], transform: object) -> None:
        self.paths, self.transform = paths, transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, place: int) -> torch.Tensor:
        with Image.open(self.paths[place]) as image:
            pixels: torch.Tensor = self.transform(image.convert("RGB"))  # type: ignore[operator]
        return pixels


@torch.inference_mode()
def _loop(name: str, paths: list[Path], workers: int, device: torch.device) -> float:
    network = timm.create_model(name, num_classes=0).eval().to(device)
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(network))
    started = time.perf_counter()
    on_gpu = device.type == "cuda"
    loader = DataLoader(_Photographs(paths, transform), BATCH_SIZE, num_workers=workers, pin_memory=on_gpu)
    torch.cat([network(images.to(device, non_blocking=True)) for images in loader]).cpu().numpy()
    return time.perf_counter() - started


if __name__ == "__main__":
    main("bank", measure)
