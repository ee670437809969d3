"""Time of each loss at 8,142 classes, against that of a whole training step with cross-entropy.

A loss is measured by itself, forward and backward to logits and features, with the update of the parameters it may
have: within a step, a hundredth would be lost in what the network's own time varies by.
"""

import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch

from benchmarks.report import Table, interleaved, main, summary
from ltrsys.data.loading.loader import Batch
from ltrsys.models.config import ModelConfig
from ltrsys.models.network import build_network
from ltrsys.training.config import TrainConfig
from ltrsys.training.engines.starting import start_engine
from ltrsys.training.losses.base import LOSSES, LossContext, Outputs
from ltrsys.training.losses.cross_entropy import CrossEntropy
from ltrsys.training.mixup import mix
from ltrsys.training.objective import Objective
from ltrsys.training.optimizers.sgd import SGD
from ltrsys.training.supervision.process_group import process_group
from ltrsys.world import World

NUM_CLASSES, NUM_FEATURES = 8142, 2048
COLUMNS = ("loss", "ms", "ms p20", "ms p80", "+% of a step")
PLAIN = "cross_entropy"
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, {}) for name in LOSSES.names() if name != "lifted" or find_spec("pytorch_metric_learning")},
    "cb_focal, sigmoid": ("cb_focal", {"per_class": "sigmoid"}),
    "cross_entropy, reweight": (PLAIN, {"reweight": "effective_number"}),
}


def measure(quick: bool) -> list[Table]:
    """Measure a step, and every loss."""
    batch_size, image_size, rounds = (4, 64, 3) if quick else (32, 224, 20)
    counts = np.maximum(1, 1000 / (1 + np.arange(NUM_CLASSES))).astype(np.int64)
    device = torch.device("cpu")
    context = LossContext(counts, 0.0, device, NUM_FEATURES)
    # four images of a class, as the sampler class_aware draws them: what losses of pairs are made for
    labels = torch.arange(batch_size) // 4
    with process_group(World(), 600, "cpu"):
        step = summary([1000 * seconds for seconds in _steps(context, labels, image_size, 2 if quick else 4)])
    cases = {
        name: _loss(Objective(LOSSES.get(kind)(**settings), context), labels)
        for name, (kind, settings) in CASES.items()
    }
    cases["cross_entropy, mixup"] = _mixed(Objective(CrossEntropy(), context), labels, image_size)
    for case in cases.values():
        case()
    seconds = interleaved(cases, rounds)
    plain = summary(seconds[PLAIN])["median"]
    rows = []
    for name in cases:
        times = summary([1000 * one for one in seconds[name]])
        more = 100 * (times["median"] - 1000 * plain) / step["median"]
        rows.append(dict(zip(COLUMNS, (name, times["median"], times["p20"], times["p80"], more), strict=True)))
    notes = (
        f"A step takes {step['median']:,.0f} ms: ResNet-50, {batch_size} images of {image_size} pixels, float32, DDP.",
        f"The last column is what a loss takes over cross-entropy. Medians of {rounds} rounds, by turns.",
    )
    return [Table(f"Losses, {NUM_CLASSES:,} classes", COLUMNS, rows, notes)]


def _steps(context: LossContext, labels: torch.Tensor, image_size: int, rounds: int) -> list[float]:
    """Return the seconds of whole steps with cross-entropy."""
    network = build_network(ModelConfig(backbone="resnet50"), NUM_CLASSES)
    config = TrainConfig(engine="ddp", precision="float32", optimizer=SGD(lr=0.001))
    objective = Objective(CrossEntropy(), context)
    engine = start_engine(network, config, objective, accumulation=1, micro_batch_size=len(labels))
    images = torch.randn(len(labels), 3, image_size, image_size).contiguous(memory_format=torch.channels_last)
    seconds = []
    for _ in range(1 + rounds):
        started = time.perf_counter()
        engine.accumulate(images, labels, last=True)
        engine.step(1.0)
        seconds.append(time.perf_counter() - started)
    engine.close()
    return seconds[1:]


def _loss(objective: Objective, labels: torch.Tensor) -> Callable[[], float]:
    outputs = _outputs(labels)
    learned = [] if objective.module is None else list(objective.module.parameters())
    optimizer = torch.optim.SGD(learned, lr=0.001, momentum=0.9, weight_decay=5e-4, fused=True) if learned else None

    def measured() -> float:
        outputs.logits_BC.grad = outputs.features_BD.grad = None
        started = time.perf_counter()
        objective(outputs).backward()
        if optimizer is not None:
            optimizer.step()
            optimizer.zero_grad()
        return time.perf_counter() - started

    return measured


def _mixed(objective: Objective, labels: torch.Tensor, image_size: int) -> Callable[[], float]:
    """Return what measures a loss of mixed labels, and mixing the images."""
    outputs = _outputs(labels)
    images = torch.randn(len(labels), 3, image_size, image_size).contiguous(memory_format=torch.channels_last)
    batch = Batch(images, labels, labels, np.arange(len(labels)))

    def measured() -> float:
        outputs.logits_BC.grad = None
        started = time.perf_counter()
        _, mixed = mix(batch, alpha=0.2, seed=0, epoch=0)
        objective(outputs, mixed).backward()
        return time.perf_counter() - started

    return measured


def _outputs(labels: torch.Tensor) -> Outputs:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(len(labels), NUM_CLASSES, generator=generator).requires_grad_()
    features = torch.rand(len(labels), NUM_FEATURES, generator=generator).requires_grad_()
    return Outputs(logits, features, labels)


if __name__ == "__main__":
    main("losses", measure)
