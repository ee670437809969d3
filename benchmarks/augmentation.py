"""Images a second of the input pipeline with one augmentation each, beside torchvision's in a DataLoader."""

import tempfile
from pathlib import Path

import numpy as np

from benchmarks.input import BATCH_SIZE, WORKERS, images_per_second
from benchmarks.input_contenders import ours, torch_loader
from benchmarks.photographs import photograph_source
from benchmarks.report import Table, interleaved, main, summary
from ltrsys.data.config import AugmentationConfig, make_sampler
from ltrsys.data.shards.build_folder import BuildOptions
from ltrsys.data.shards.building import build_shards

AUGMENTATIONS = {
    "crop and flip": {},
    "colour jitter 0.4": {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4},
    "RandAugment, 2 operations": {"policy": {"kind": "rand_augment"}},
    "TrivialAugment": {"policy": {"kind": "trivial_augment"}},
    "blur, probability 0.5": {"blur": {"probability": 0.5}},
    "erasing, probability 0.25": {"erasing": {"probability": 0.25}},
}


def measure(quick: bool) -> list[Table]:
    """Measure them on photographs, each beside crop and flip alone."""
    with tempfile.TemporaryDirectory() as folder:
        return [_speed(Path(folder), quick)]


def _speed(folder: Path, quick: bool) -> Table:
    shards = folder / "photographs"
    source = photograph_source(np.full(8, 32 if quick else 128))
    split = build_shards(source, shards, BuildOptions(), workers=WORKERS).split("train")
    contenders = {
        name: ours(
            split,
            shards,
            sampler=make_sampler(),
            threads=WORKERS,
            augmentation=AugmentationConfig.model_validate(settings),
            batch_size=BATCH_SIZE,
        )
        for name, settings in AUGMENTATIONS.items()
    }
    contenders |= {
        "torch DataLoader: crop and flip": torch_loader(split, batch_size=BATCH_SIZE, workers=WORKERS),
        "torch DataLoader: RandAugment": torch_loader(split, batch_size=BATCH_SIZE, workers=WORKERS, rand_augment=True),
    }
    batches, rounds = (2, 1) if quick else (10, 9)
    cases = {name: lambda stream=stream: images_per_second(stream, batches) for name, stream in contenders.items()}
    speeds = interleaved(cases, rounds)
    plain = speeds["crop and flip"]
    rows = []
    for name, measured in speeds.items():
        turn_by_turn = summary([its / without for its, without in zip(measured, plain, strict=True)])
        milliseconds = summary([1e3 / its - 1e3 / without for its, without in zip(measured, plain, strict=True)])
        rows.append(
            {
                "augmentation": name,
                "images/s": summary(measured)["median"],
                "of crop and flip": turn_by_turn["median"],
                "+ ms an image": milliseconds["median"],
            }
        )
    notes = [
        f"{len(split):,} JPEGs, short side 300, {split.size.mean() / 1e3:.1f} kB on average; batches of {BATCH_SIZE}; "
        f"{WORKERS} threads or workers each; {rounds} turns of {batches} batches, in turn and in changing order.",
        "Medians; the last two columns are medians over the turns.",
    ]
    return Table("Images a second", list(rows[0]), rows, notes)


if __name__ == "__main__":
    main("augmentation", measure)
