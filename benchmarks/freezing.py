"""CPU time of a training step where a part of the network is trained, over that where all of it is.

One thread, and its own time: what else goes on on the machine does not count.
"""

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch.nn import functional

from benchmarks.report import Table, interleaved, main, summary
from ltrsys.models.config import ModelConfig, Trainable
from ltrsys.models.network import build_network
from ltrsys.models.trainable.freezing import freeze

NUM_CLASSES = 1000
COLUMNS = ("network", "trained", "ms", "ms p20", "ms p80", "over all")


@dataclass(frozen=True)
class Workload:
    """A network and its batch."""

    model: ModelConfig
    batch_size: int
    image_size: int

    @property
    def name(self) -> str:
        """What the table calls it."""
        return f"{self.model.backbone}, {self.batch_size} of {self.image_size} pixels"


WORKLOADS = (
    Workload(ModelConfig(backbone="resnet10", stem="small"), 16, 32),
    Workload(ModelConfig(backbone="resnext50_32x4d"), 4, 64),
)
CASES: dict[str, tuple[Trainable, bool]] = {
    "all": ("all", False),
    "last_block": ("last_block", False),
    "classifier": ("classifier", False),
    "classifier, backbone in torch.no_grad": ("classifier", True),
}
"""What is trained, and whether the backbone runs without gradients also by name."""


def measure(quick: bool) -> list[Table]:
    """Measure every case of every workload, by turns."""
    rounds, rows, threads = 3 if quick else 12, [], torch.get_num_threads()
    torch.set_num_threads(1)
    for workload in WORKLOADS[:1] if quick else WORKLOADS:
        cases = {name: _step(workload, *case) for name, case in CASES.items()}
        for case in cases.values():
            case()
        seconds = interleaved(cases, rounds)
        whole = summary(seconds["all"])["median"]
        for name in cases:
            times = summary([1000 * one for one in seconds[name]])
            over = times["median"] / (1000 * whole)
            values = (workload.name, name, times["median"], times["p20"], times["p80"], over)
            rows.append(dict(zip(COLUMNS, values, strict=True)))
    torch.set_num_threads(threads)
    notes = (f"CPU time of one thread, medians of {rounds} rounds; float32, SGD with momentum, {NUM_CLASSES} classes.",)
    return [Table("Training a part of the network", COLUMNS, rows, notes)]


def _step(workload: Workload, trainable: Trainable, no_grad: bool) -> Callable[[], float]:
    network = build_network(workload.model, NUM_CLASSES)
    freeze(network, workload.model, trainable)
    network.train()
    learned = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(learned, lr=0.001, momentum=0.9, weight_decay=5e-4, fused=True)
    images = torch.randn(workload.batch_size, 3, workload.image_size, workload.image_size)
    labels = torch.arange(workload.batch_size)

    def measured() -> float:
        started = time.process_time()
        with torch.no_grad() if no_grad else nullcontext():
            features = network.backbone(images)
        functional.cross_entropy(network.classifier(features), labels).backward()
        optimizer.step()
        optimizer.zero_grad()
        return time.process_time() - started

    return measured


if __name__ == "__main__":
    main("freezing", measure)
