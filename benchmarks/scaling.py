"""Images a second on one rank and on two, and what a step waits for: data, and the other rank.

The input pipeline and the communication are real; the computation is not. A rank sleeps for as long as a GPU would
take, its cores being free for the input pipeline meanwhile, then averages a buffer of ResNet-50's gradients with the
other rank. Nothing hides this communication behind the computation, as training does: it is the worst case.
"""

import tempfile
from pathlib import Path

import numpy as np

from benchmarks.photographs import photograph_source
from benchmarks.ranks import run_ranks
from benchmarks.report import Table, main
from benchmarks.scaling_rank import BATCH_SIZE, GRADIENTS, Step
from ltrsys.data.shards.build_folder import BuildOptions
from ltrsys.data.shards.building import build_shards

COLUMNS = ("compute, ms a step", "ranks", "images/s", "over 1 rank", "waiting for data", "communicating", "computing")


def measure(quick: bool) -> list[Table]:
    """Measure a GPU that the input pipeline can feed twice over, and one that is faster than it."""
    steps, counts = (4, np.full(8, 16)) if quick else (40, np.full(20, 128))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        shards = Path(folder) / "photographs"
        build_shards(photograph_source(counts), shards, BuildOptions(max_shard_bytes=8 * 2**20), workers=2)
        for compute in (0.5, 0.05):
            alone = None
            for ranks in (1, 2):
                step = Step(str(shards), compute, steps)
                shares = run_ranks("benchmarks.scaling_rank", [step.dump()], ranks)
                speed = shares.pop("images_per_second")
                alone = alone or speed
                rows.append(
                    {
                        "compute, ms a step": round(1000 * compute),
                        "ranks": ranks,
                        "images/s": speed,
                        "over 1 rank": speed / alone,
                        **shares,
                    }
                )
    notes = (
        f"{steps} steps of {BATCH_SIZE} photographs a rank (short side 300); the computation is a sleep; "
        f"{4 * GRADIENTS / 1e6:.0f} MB of gradients are averaged over gloo in each step, after it.",
        "Shares of a rank's step, mean over the ranks. Waiting for the slower rank counts as communicating. The ranks "
        "share the cores of this machine: the input pipeline of each of two has half of them.",
    )
    return [Table("Images a second by ranks", COLUMNS, rows, notes)]


if __name__ == "__main__":
    main("scaling", measure)
