"""Time of a training step: DeepSpeed's over DistributedDataParallel's, on one rank and on two.

The same network, batch and precision; one process group, in which every way takes a step in turn, so that a slow
minute slows all alike. A ratio is the median over the rounds of this way's time over DDP's in the same round.
"""

import statistics

from benchmarks.ranks import run_ranks
from benchmarks.report import Table, main, summary
from benchmarks.step_rank import WAYS, Workload

COLUMNS = ("network", "ranks", "way", "ms", "ms p20", "ms p80", "over DDP")
WORKLOADS = (
    Workload(backbone="resnet10", batch_size=16, image_size=32),
    Workload(backbone="resnet50", batch_size=8, image_size=32),
)
"""Little work for each parameter: what an engine adds to a step shows here, if anywhere."""


def measure(quick: bool) -> list[Table]:
    """Measure every way of every workload on 1 and on 2 ranks."""
    rounds = 4 if quick else 24
    rows = []
    for workload in WORKLOADS[:1] if quick else WORKLOADS:
        for ranks in (1, 2):
            seconds = run_ranks("benchmarks.step_rank", [workload.dump(), str(rounds)], ranks)
            for way, description in WAYS.items():
                times = summary([1000 * second for second in seconds[way]])
                ratios = [one / ddp for one, ddp in zip(seconds[way], seconds["ddp"], strict=True)]
                rows.append(
                    {
                        "network": f"{workload.backbone}, b{workload.batch_size}",
                        "ranks": ranks,
                        "way": description,
                        "ms": times["median"],
                        "ms p20": times["p20"],
                        "ms p80": times["p80"],
                        "over DDP": statistics.median(ratios),
                    }
                )
    notes = (
        f"{rounds} rounds after 3 of warm-up; float32, SGD with momentum, {WORKLOADS[0].image_size}-pixel images.",
        "The cores are shared out among the ranks.",
    )
    return [Table("Training step", COLUMNS, rows, notes)]


if __name__ == "__main__":
    main("step", measure)
