"""Images a second of DALI's own decoder alone: on the CPU, on the GPU's cores, and with its hardware decoder."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from nvidia.dali import Pipeline, fn
from nvidia.dali.types import DALIDataType

from benchmarks.photographs import photograph
from benchmarks.report import Table, interleaved, main, summary

COLUMNS = ("decoder", "threads", "images/s", "p20", "p80")
DEFAULT_THREADS = 4
"""`data.threads` where no config says otherwise."""


@dataclass(frozen=True)
class Sizes:
    """How much is decoded."""

    photographs: int = 384
    batch: int = 128
    batches: int = 8
    rounds: int = 5


def measure(quick: bool) -> Iterator[Table]:
    """Measure photographs of two sizes."""
    sizes = Sizes(photographs=16, batch=8, batches=2, rounds=2) if quick else Sizes()
    for short_side in (300, 500):
        yield _table(_photographs(sizes.photographs, short_side), short_side, sizes)


def _photographs(number: int, short_side: int) -> list[NDArray[np.uint8]]:
    make = partial(photograph, short_side=short_side)
    make(0)  # both originals are loaded by then, once
    with ThreadPoolExecutor(_cores()) as pool:
        return [np.frombuffer(jpeg, np.uint8) for jpeg in pool.map(make, range(number))]


def _table(encoded: list[NDArray[np.uint8]], short_side: int, sizes: Sizes) -> Table:
    on_gpu = torch.cuda.is_available()
    threads = sorted({min(DEFAULT_THREADS, _cores()), _cores()})
    decoders: dict[str, dict[str, Any]] = {"CPU": {"device": "cpu"}}
    if on_gpu:
        decoders["GPU, without the hardware decoder"] = {"device": "mixed", "hw_decoder_load": 0.0}
        decoders["GPU and hardware decoder"] = {"device": "mixed"}
        decoders["hardware decoder alone"] = {"device": "mixed", "hw_decoder_load": 1.0}
    cases, notes = dict[str, Callable[[], float]](), list[str]()
    for decoder, settings in decoders.items():
        for number in threads:
            try:
                case = partial(_images_per_second, _pipeline(encoded, number, sizes, settings), sizes)
                case()
                cases[f"{decoder}; {number}"] = case
            except RuntimeError as error:
                notes.append(f"{decoder}, {number} threads failed: {str(error).splitlines()[0][:300]}")
    rows = []
    for name, speeds in interleaved(cases, sizes.rounds).items():
        decoder, _, its_threads = name.partition("; ")
        values = summary(speeds)
        rows.append(
            {
                "decoder": decoder,
                "threads": int(its_threads),
                "images/s": values["median"],
                "p20": values["p20"],
                "p80": values["p80"],
            }
        )
    size = sum(map(len, encoded)) / len(encoded)
    notes.insert(
        0,
        f"{len(encoded)} JPEGs of {size / 1e3:.1f} kB on average, again and again, in batches of {sizes.batch}; whole "
        f"images, neither cropped nor resized; medians of {sizes.rounds} turns.",
    )
    if not on_gpu:
        notes.append("Decoding on a GPU was not measured: there is none.")
    return Table(f"Decoding, short side {short_side}", COLUMNS, rows, notes)


def _pipeline(encoded: list[NDArray[np.uint8]], threads: int, sizes: Sizes, settings: dict[str, Any]) -> Pipeline:
    images = cycle(encoded)
    device_id = torch.cuda.current_device() if settings["device"] == "mixed" else None
    pipeline: Any = Pipeline(batch_size=sizes.batch, num_threads=threads, device_id=device_id, prefetch_queue_depth=2)
    with pipeline:
        jpegs: Any = fn.external_source(
            source=lambda: [next(images) for _ in range(sizes.batch)], dtype=DALIDataType.UINT8, ndim=1
        )
        pipeline.set_outputs(fn.decoders.image(jpegs, **settings))
    pipeline.build()
    return pipeline


def _images_per_second(pipeline: Pipeline, sizes: Sizes) -> float:
    pipeline.run()  # what was made while others had their turn
    pipeline.run()
    started = perf_counter()
    for _ in range(sizes.batches):
        pipeline.run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return sizes.batch * sizes.batches / (perf_counter() - started)


def _cores() -> int:
    return len(os.sched_getaffinity(0))


if __name__ == "__main__":
    main("gpu_decode", measure)
