"""How fast shards are built from a folder of JPEGs, with every check, beside a bare loop that makes none.

The bare loop reads, decodes by Pillow and writes by webdataset's own writer, in as many processes, with the files of
the folder in the order in which they lie there. `ltrsys shards` also checks, orders by class frequency, hashes, and
looks for duplicates.
"""

import io
import shutil
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import webdataset
from PIL import Image

from benchmarks.photographs import photograph
from benchmarks.report import Table, interleaved, main, summary
from ltrsys.data.shards.build_folder import BuildOptions
from ltrsys.data.shards.building import build_shards
from ltrsys.data.sources.folder import read_folder

WORKERS = 2
CLASSES = 60
SHORT_SIDE = 300
NEW_SHARE = 0.01
"""Images that are new in an update."""


def measure(quick: bool) -> list[Table]:
    """Return the table of building and of updating."""
    return table(images=400 if quick else 100_000, rounds=2 if quick else 3)


def table(images: int, rounds: int) -> list[Table]:
    """Measure with so many images."""
    with tempfile.TemporaryDirectory(prefix="ltrsys-shards-") as folder:
        root = Path(folder)
        make_photographs(root / "photographs", images)
        cases = {
            "bare loop: read, decode, write": lambda: bare(root / "photographs", root / "bare"),
            "ltrsys shards": lambda: built(root / "photographs", root / "built", BuildOptions()),
            "ltrsys shards, with duplicates": lambda: built(
                root / "photographs", root / "built", BuildOptions(duplicates="report")
            ),
        }
        seconds = interleaved(cases, rounds)
        seconds[f"--update, {NEW_SHARE:.0%} new"] = [updated(root, images, number) for number in range(rounds)]
    loop = summary(seconds["bare loop: read, decode, write"])["median"]
    ours = summary(seconds["ltrsys shards"])["median"]
    rows = [
        {
            "what": name,
            "seconds": summary(values)["median"],
            "images a second": images / summary(values)["median"],
            "speed over the loop": loop / summary(values)["median"],
            "time over a build": summary(values)["median"] / ours,
        }
        for name, values in seconds.items()
    ]
    notes = [f"{images:,} JPEGs of about 27 kB, {SHORT_SIDE} pixels, {WORKERS} processes, medians of {rounds} rounds."]
    return [Table("Shards from a folder", list(rows[0]), rows, notes)]


def make_photographs(root: Path, images: int) -> None:
    """Write a folder of classes, the first with half of all images, the next with half of the rest, and so on."""
    with ProcessPoolExecutor(WORKERS, mp_context=get_context("spawn")) as pool:
        list(pool.map(partial(_write, root), range(images), chunksize=64))


def _write(root: Path, number: int) -> None:
    label = min((~number & (number - 1)).bit_length() if number else 0, CLASSES - 1)  # trailing zeros: a long tail
    path = root / f"class{label:02d}" / f"{number:06d}.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(photograph(number, SHORT_SIDE))


def bare(root: Path, out: Path) -> float:
    """Return the seconds of the loop."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    start = time.perf_counter()
    paths = sorted(root.rglob("*.jpg"))
    with ProcessPoolExecutor(WORKERS, mp_context=get_context("spawn")) as pool:
        list(pool.map(_bare_part, [(paths[part::WORKERS], out / f"{part}.tar") for part in range(WORKERS)]))
    return time.perf_counter() - start


def _bare_part(task: tuple[list[Path], Path]) -> None:
    paths, tar = task
    with webdataset.TarWriter(str(tar), encoder=False) as writer:
        for number, path in enumerate(paths):
            data = path.read_bytes()
            Image.open(io.BytesIO(data)).load()
            writer.write({"__key__": f"{number:09d}", "cls": path.parent.name[5:].encode(), "jpg": data})


def built(root: Path, out: Path, options: BuildOptions) -> float:
    """Return the seconds of a build."""
    shutil.rmtree(out, ignore_errors=True)
    start = time.perf_counter()
    build_shards(read_folder(root), out, options, workers=WORKERS)
    return time.perf_counter() - start


def updated(root: Path, images: int, number: int) -> float:
    """Return the seconds of an update after new images came."""
    new = max(1, int(images * NEW_SHARE))
    for place in range(new):
        _write(root / "photographs", images + number * new + place)
    start = time.perf_counter()
    build_shards(
        read_folder(root / "photographs"),
        root / "built",
        BuildOptions(duplicates="report"),
        workers=WORKERS,
        update=True,
    )
    return time.perf_counter() - start


if __name__ == "__main__":
    main("shards", measure)
