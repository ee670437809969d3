"""Logits and their gradients beside plain torch's autograd of the same formula, at the size of a training step."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor

from benchmarks.memory import extra_memory
from benchmarks.report import Table, interleaved
from ltrsys.kernels import row_norms, tau_logits


@dataclass(frozen=True)
class Step:
    """A batch and a classifier, some of which are learned."""

    features_ND: Tensor
    weight_CD: Tensor
    norms_C: Tensor | None
    """Of weights that are not learned: measured once, for all steps."""
    tau: Tensor | None
    scale_C: Tensor | None
    gradient_NC: Tensor

    def ours(self) -> None:
        """Go forward and backward through the operation."""
        tau = 0.0 if self.tau is None else self.tau
        tau_logits(self.features_ND, self.weight_CD, tau, self.scale_C, self.norms_C).backward(self.gradient_NC)

    def peer(self) -> None:
        """Do so in three lines of torch."""
        logits = self.features_ND @ self.weight_CD.T
        if self.tau is not None:
            norms_C = self.weight_CD.norm(dim=1) if self.norms_C is None else self.norms_C.float()
            logits = logits * norms_C**-self.tau
        if self.scale_C is not None:
            logits = logits * self.scale_C
        logits.backward(self.gradient_NC)


def table(rows: int, classes: int, seconds: Callable[[Callable[[], Any]], float], rounds: int, machine: str) -> Table:
    """Measure every set of inputs that the second stage learns, at 512 and 2,048 features.

    Args:
        rows: Samples of a batch.
        classes: Classes.
        seconds: Times a task.
        rounds: In which both take turns; one more before is not counted.
        machine: What it is measured on.
    """
    lines = []
    for dim in (512, 2048):
        for learned in ("scale", "tau", "weight", "all"):
            step = _step(rows, classes, dim, learned)
            step.ours()
            step.peer()
            memory = [extra_memory(way) / step.gradient_NC.nbytes for way in (step.ours, step.peer)]
            times = interleaved({"ours": partial(seconds, step.ours), "peer": partial(seconds, step.peer)}, rounds)
            lines.append(
                {
                    "features": dim,
                    "learned": learned,
                    "seconds": median(times["ours"]),
                    "plain torch, seconds": median(times["peer"]),
                    "ours / plain": median(a / b for a, b in zip(times["ours"], times["peer"], strict=True)),
                    "memory, of the logits": memory[0],
                    "plain torch's": memory[1],
                }
            )
    notes = (
        f"N = {rows:,}, C = {classes:,}, forward and backward; {machine}",
        "Weights that are not learned have been measured and checked before, for both: `row_norms`.",
    )
    return Table("tau_logits and its gradients", list(lines[0]), lines, notes)


def _step(rows: int, classes: int, dim: int, learned: str) -> Step:
    generator = torch.Generator().manual_seed(0)
    everything = learned == "all"
    weight = torch.randn(classes, dim, generator=generator).requires_grad_(everything or learned == "weight")
    return Step(
        features_ND=torch.randn(rows, dim, generator=generator).relu_().requires_grad_(everything),
        weight_CD=weight,
        norms_C=None if weight.requires_grad else row_norms(weight),
        tau=None if learned == "scale" else torch.tensor(0.7).requires_grad_(learned != "weight"),
        scale_C=None if learned in ("tau", "weight") else torch.ones(classes).requires_grad_(),
        gradient_NC=torch.randn(rows, classes, generator=generator),
    )
