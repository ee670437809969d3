"""How fast shards are built from a folder of JPEGs, with every check, beside a bare loop that makes none.

The bare loop reads, decodes by Pillow and writes by webdataset's own writer, in as many processes, with the files of
the folder in the order in which they lie there. `ltrsys shards` also checks, orders by class frequency, hashes, and
looks for duplicates.
"""

import io
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import count
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import webdataset
from PIL import Image

from benchmarks.photographs import photograph
from benchmarks.report import Table, interleaved, main
from ltrsys.data.shards.build_folder import BuildOptions
from ltrsys.data.shards.building import build_shards
from ltrsys.data.sources.folder import read_folder

WORKERS = 2
CLASSES = 60
SHORT_SIDE = 300
NEW_SHARE = 0.01
"""Images that are new in an update."""
LOOP = "bare loop: read, decode, write"
BUILD = "ltrsys shards"
DUPLICATES = "ltrsys shards, with duplicates"
UPDATE = f"--update, {NEW_SHARE:.0%} new"


def measure(quick: bool) -> list[Table]:
    """Return the table of building and of updating."""
    return table(images=400 if quick else 100_000, rounds=2 if quick else 3)


def table(images: int, rounds: int) -> list[Table]:
    """Measure with so many images."""
    with tempfile.TemporaryDirectory(prefix="ltrsys-shards-") as folder:
        root = Path(folder)
        photographs = root / "photographs"
        make_photographs(photographs, images)
        with_duplicates = BuildOptions(duplicates="report")
        build_shards(read_folder(photographs), root / "kept", with_duplicates, workers=WORKERS)
        updates = count()
        cost = interleaved(
            {
                LOOP: lambda: bare(photographs, root / "bare"),
                BUILD: lambda: built(photographs, root / "built", BuildOptions()),
                DUPLICATES: lambda: built(photographs, root / "built_with_duplicates", with_duplicates),
                UPDATE: lambda: updated(photographs, root / "kept", with_duplicates, images, next(updates)),
            },
            rounds,
        )
    rows = [
        {
            "what": name,
            "seconds": median(cost.wall for cost in costs),
            "CPU seconds": median(cost.cpu for cost in costs),
            "images a second": images / median(cost.wall for cost in costs),
            "speed over the loop": _ratio(cost[LOOP], costs, "wall"),
            "the same in CPU time": _ratio(cost[LOOP], costs, "cpu"),
            "time over a build": _ratio(costs, cost[BUILD], "wall"),
            "CPU time over a build": _ratio(costs, cost[BUILD], "cpu"),
        }
        for name, costs in cost.items()
    ]
    notes = [
        f"{images:,} JPEGs of about 27 kB, {SHORT_SIDE} pixels, {WORKERS} processes, {rounds} rounds in which all take "
        "turns: medians, of ratios those within a round. An update looks for duplicates, too."
    ]
    return [Table("Shards from a folder", list(rows[0]), rows, notes)]


@dataclass(frozen=True)
class Cost:
    """What a case took: seconds, and CPU seconds of this process and of those that it started."""

    wall: float
    cpu: float


def _cost(case: Callable[[], object]) -> Cost:
    before, start = os.times(), time.perf_counter()
    case()
    wall, after = time.perf_counter() - start, os.times()
    return Cost(wall, sum(after[:4]) - sum(before[:4]))


def _ratio(above: list[Cost], below: list[Cost], clock: str) -> float:
    return median(getattr(one, clock) / getattr(other, clock) for one, other in zip(above, below, strict=True))


def make_photographs(root: Path, images: int) -> None:
    """Write a folder of classes, the first with half of all images, the next with half of the rest, and so on."""
    with ProcessPoolExecutor(WORKERS, mp_context=get_context("spawn")) as pool:
        list(pool.map(partial(_write, root), range(images), chunksize=64))


def _write(root: Path, number: int) -> None:
    label = min((~number & (number - 1)).bit_length() if number else 0, CLASSES - 1)  # trailing zeros: a long tail
    path = root / f"class{label:02d}" / f"{number:06d}.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(photograph(number, SHORT_SIDE))


def bare(root: Path, out: Path) -> Cost:
    """Run the loop."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()

    def loop() -> None:
        paths = sorted(root.rglob("*.jpg"))
        with ProcessPoolExecutor(WORKERS, mp_context=get_context("spawn")) as pool:
            list(pool.map(_bare_part, [(paths[part::WORKERS], out / f"{part}.tar") for part in range(WORKERS)]))

    return _cost(loop)


def _bare_part(task: tuple[list[Path], Path]) -> None:
    paths, tar = task
    with webdataset.TarWriter(str(tar), encoder=False) as writer:
        for number, path in enumerate(paths):
            data = path.read_bytes()
            Image.open(io.BytesIO(data)).load()
            writer.write({"__key__": f"{number:09d}", "cls": path.parent.name[5:].encode(), "jpg": data})


def built(root: Path, out: Path, options: BuildOptions) -> Cost:
    """Build from nothing."""
    shutil.rmtree(out, ignore_errors=True)
    return _cost(lambda: build_shards(read_folder(root), out, options, workers=WORKERS))


def updated(root: Path, out: Path, options: BuildOptions, images: int, number: int) -> Cost:
    """Update shards after new images came."""
    new = max(1, int(images * NEW_SHARE))
    for place in range(new):
        _write(root, images + number * new + place)
    return _cost(lambda: build_shards(read_folder(root), out, options, workers=WORKERS, update=True))


if __name__ == "__main__":
    main("shards", measure)
