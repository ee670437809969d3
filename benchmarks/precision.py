"""Time of a training step on a CPU: bfloat16 and torch.compile over float32 as it is, by network.

`train.precision: bf16` and `train.compile: true` are for GPUs. Whether they are worth anything on a processor depends
on its instructions and on the network: this table says it for the machine at hand.
"""

import os
import statistics
from collections.abc import Callable
from functools import partial
from typing import Literal

import torch

from benchmarks.report import Table, interleaved, main, summary
from benchmarks.step_rank import step_of_engine
from benchmarks.timing import clocked
from ltrsys.models.config import ModelConfig
from ltrsys.models.network import build_network
from ltrsys.training.config import TrainConfig
from ltrsys.training.optimizers.sgd import SGD
from ltrsys.training.supervision.process_group import process_group
from ltrsys.world import World

CPU = torch.device("cpu")
CLASSES = 1000
NETWORKS = ("resnet50", "resnext50", "shufflenet_v2_x0_5", "timm/tf_efficientnet_lite0", "timm/vit_tiny_patch16_224")
WAYS: dict[str, tuple[Literal["float32", "bf16"], bool]] = {
    "float32": ("float32", False),
    "bf16": ("bf16", False),
    "float32, compiled": ("float32", True),
    "bf16, compiled": ("bf16", True),
}


def measure(quick: bool) -> list[Table]:
    """Measure every way of every network."""
    networks, image_size, batch_size, rounds = (("resnet10",), 32, 4, 2) if quick else (NETWORKS, 224, 16, 7)
    ways = dict(list(WAYS.items())[:2]) if quick else WAYS
    rows = []
    with process_group(World(), timeout_seconds=600):
        for name in networks:
            rows += _rows(name, image_size, batch_size, rounds, ways)
    notes = (
        f"Images of {image_size} pixels, batches of {batch_size}, {torch.get_num_threads()} threads, DDP's engine, "
        f"channels_last; {rounds} rounds of all ways in turn, after the first step, which compiles.",
        f"Instructions: {_instructions()}.",
    )
    return [Table("Training step on a CPU", list(rows[0]), rows, notes)]


def _rows(
    backbone: str,
    image_size: int,
    batch_size: int,
    rounds: int,
    ways: dict[str, tuple[Literal["float32", "bf16"], bool]],
) -> list[dict[str, object]]:
    first: dict[str, float] = {}
    steps: dict[str, Callable[[], float]] = {}
    for way, (precision, compiled) in ways.items():
        torch._dynamo.reset()  # it compiles no more than eight versions of a function
        step = _step(backbone, image_size, batch_size, precision, compiled=compiled)
        first[way] = clocked(step, CPU)
        steps[way] = partial(clocked, step, CPU)
    seconds = interleaved(steps, rounds)
    return [
        {
            "network": backbone,
            "way": way,
            "first step, s": first[way],
            "ms": 1000 * summary(seconds[way])["median"],
            "over float32": statistics.median(
                one / plain for one, plain in zip(seconds[way], seconds["float32"], strict=True)
            ),
        }
        for way in ways
    ]


def _step(
    backbone: str, image_size: int, batch_size: int, precision: Literal["float32", "bf16"], *, compiled: bool
) -> Callable[[], None]:
    torch.manual_seed(0)
    network = build_network(ModelConfig(backbone=backbone), CLASSES).to(memory_format=torch.channels_last)
    images = torch.randn(batch_size, 3, image_size, image_size).to(memory_format=torch.channels_last)
    labels = torch.randint(0, CLASSES, (batch_size,))
    config = TrainConfig(
        engine="ddp", precision=precision, compile=compiled, channels_last=True, optimizer=SGD(lr=0.001)
    )
    return step_of_engine(network, config, images, labels)


def _instructions() -> str:
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        flags = next((line.split() for line in file if line.startswith("flags")), [])
    known = [name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if name in flags]
    return ", ".join(known) or "none of AVX2 and later"


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", str(len(os.sched_getaffinity(0))))
    main("precision", measure)
