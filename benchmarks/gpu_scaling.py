"""A training step of ResNet-50 by number of ranks, one a GPU, and how fast the ranks add up their gradients."""

from collections.abc import Iterator

import torch

from benchmarks.gpu_scaling_rank import ENGINES, Sizes
from benchmarks.ranks import run_ranks
from benchmarks.report import Table, main


def measure(quick: bool) -> Iterator[Table]:
    """Measure 1, 2, 4, ... ranks, as many as there are GPUs; a rehearsal starts two on the CPU."""
    gpus = torch.cuda.device_count()
    sizes = Sizes(megabytes=(1.0,), batch=4, steps=2, tiny=True) if quick else Sizes(batch=_batch())
    numbers = [1, 2] if gpus == 0 else sorted({2**power for power in range(gpus.bit_length())} | {gpus})
    steps, sums, alone = list[dict[str, object]](), list[dict[str, object]](), dict[str, float]()
    for ranks in numbers:
        measured = run_ranks("benchmarks.gpu_scaling_rank", [sizes.dump()], ranks)
        for engine in ENGINES:
            speed = ranks * sizes.batch / measured["steps"][engine]
            alone.setdefault(engine, speed)
            steps.append(
                {
                    "engine": engine,
                    "ranks": ranks,
                    "ms": 1000 * measured["steps"][engine],
                    "images/s": speed,
                    "over 1 rank, a rank": speed / alone[engine] / ranks,
                }
            )
        for megabytes, seconds in measured["sums"].items() if ranks > 1 else ():
            moved = 2 * (ranks - 1) / ranks * float(megabytes) * 1e6
            sums.append(
                {
                    "MB": float(megabytes),
                    "ranks": ranks,
                    "ms": 1000 * seconds,
                    "GB/s of a link": moved / seconds / 1e9,
                }
            )
        notes = (
            f"{'ResNet-10, a rehearsal on the CPU' if sizes.tiny else 'ResNet-50, 224 pixels'}, bf16, channels_last, "
            f"batches of {sizes.batch} a rank, synthetic images; the time of the slowest rank.",
        )
        yield Table("A training step by ranks", list(steps[0]), steps, notes)
        if sums:
            yield Table(
                "all_reduce by ranks",
                list(sums[0]),
                sums,
                ("float32; a link carries 2 (n - 1) / n of the bytes: NCCL's bus bandwidth.",),
            )


def _batch() -> int:
    """Return the batch of a rank, the same for all numbers of ranks: small GPUs have a quarter."""
    return 128 if torch.cuda.get_device_properties(0).total_memory > 20 * 2**30 else 32


if __name__ == "__main__":
    main("gpu_scaling", measure)
