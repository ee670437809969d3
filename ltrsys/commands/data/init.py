"""`ltrsys init` from end to end: a commented config for somebody's own shards."""

import logging
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from pydantic import ValidationError
from torch.utils.flop_counter import FlopCounterMode

from ltrsys.commands.data.first_config import (
    FLOPS_OF_A_CORE,
    FLOPS_OF_A_GPU,
    MOST_EPOCHS,
    PAPER_EPOCHS,
    SMALL,
    USUAL_LANES,
    Batch,
    Sizes,
    assumed_images_per_second,
    choose_batch,
    choose_lanes,
    choose_retraining_batch,
    choose_shots,
    choose_sizes,
    epochs_in,
    group_sizes,
    linear_lr,
)
from ltrsys.config.schema import Config
from ltrsys.data.index.dataset import Dataset, Split
from ltrsys.data.reading.opening import open_named
from ltrsys.errors import UsageError, first_problem
from ltrsys.files import replaced
from ltrsys.metrics.config import ShotsConfig
from ltrsys.models.config import ModelConfig
from ltrsys.models.image_size import build_without_memory, check_image_size
from ltrsys.second_stage.fitting import evaluated_split, nothing_to_report_on

log = logging.getLogger("ltrsys")


def write_first_config(
    shards: str, out: Path, *, name: str | None, backbone: str, gpus: int, hours: float | None, force: bool
) -> None:
    """Write a config for `shards` to `out`, and say what to run next.

    Args:
        shards: A folder or a URL.
        out: The YAML file.
        name: Of the run; that of `out` by default.
        backbone: As in `model.backbone`.
        gpus: How many will train; 0 for a CPU.
        hours: How long the training may take; the paper's 90 epochs where it is not given.
        force: Whether a file that is there may be replaced.

    Raises:
        UsageError: For a file that is there, an unknown backbone or one that does not take images of this size, or a
            name that no run can have.
        DataError: Where there is no dataset, or no train split.
    """
    if out.exists() and not force:
        raise UsageError(f"{out}: is there already. Choose another --out, or replace it with --force.")
    dataset = open_named(shards)
    split = dataset.split("train")
    sizes = choose_sizes(np.minimum(split.width, split.height))
    model = _with_stem(ModelConfig(backbone=backbone), sizes)
    if gpus > len(split):
        raise UsageError(f"--gpus {gpus}: there are only {len(split)} training images. Give fewer.")
    batch = choose_batch(len(split), max(1, gpus))
    try:
        check_image_size(model, sizes.image_size, one_by_one=batch.of_a_rank == 1)
    except UsageError as error:
        raise UsageError(f"{error} Half of the images in {shards} are no larger than {sizes.median} pixels.") from None
    run_name = name or re.sub(r"[^A-Za-z0-9._-]+", "_", out.stem).lstrip(".-") or "run"
    content = _Text(dataset, split, sizes, model, batch, gpus, hours, shards, run_name).content()
    try:
        config = Config.model_validate(yaml.safe_load(content))
    except ValidationError as error:
        raise UsageError(f"{out}: not written: {first_problem(error)}.") from None
    with replaced(out, "w") as file:
        file.write(content)
    if evaluated_split(dataset) is None:
        log.warning("%s", nothing_to_report_on(dataset))
    size, train = sizes.image_size, config.train
    print(
        f"{out}: {backbone}, {size} x {size} pixels, {train.epochs} epochs in batches of {train.batch_size}. Look it "
        f"through, then:\n  {_launch(gpus, out)}\n  ltrsys balance runs/{run_name}"
    )


def _launch(gpus: int, out: Path) -> str:
    return (
        f"deepspeed --num_gpus {gpus} launchers/train.py --config {out}" if gpus > 1 else f"ltrsys train --config {out}"
    )


def _with_stem(model: ModelConfig, sizes: Sizes) -> ModelConfig:
    """Choose the small stem for small images, where the network has one; refuse a network that does not exist."""
    build_without_memory(model)
    if sizes.image_size > SMALL:
        return model
    small = model.model_copy(update={"stem": "small"})
    try:
        build_without_memory(small)
    except UsageError:
        return model
    return small


@dataclass(frozen=True)
class _Text:
    """The file, from what was chosen."""

    dataset: Dataset
    split: Split
    sizes: Sizes
    model: ModelConfig
    batch: Batch
    gpus: int
    hours: float | None
    shards: str
    name: str

    def content(self) -> str:
        """Return the YAML."""
        retraining = choose_retraining_batch(len(self.split))
        retrained = f"lr: {linear_lr(retraining):g}, batch_size: {retraining}"
        name, small = _scalar(self.name), self.model.stem == "small"
        lines = [
            *self._heading(),
            f"name: {name} # the run's folder is runs/{self.name}",
            "data:",
            f"  shards: {_scalar(self.shards)}",
            f"  # Half of the training images have a short side of {self.sizes.median} pixels or more.",
            f"  resize: {self.sizes.resize} # evaluation: the short side becomes this",
            f"  image_size: {self.sizes.image_size} # what the network sees of it",
            "  sampler: {kind: instance} # every image equally often, as in the paper; the second stage balances",
            *self._augmentation(small),
            *self._lanes(),
            *self._threads(),
            "model:",
            f"  backbone: {self.model.backbone}",
            *(["  stem: small # for small images: it keeps their resolution"] if small else []),
            f"  # pretrained: {'FILE' if small else 'true # or FILE'} # few images learn little from random weights",
            "train:",
            *self._epochs(),
            f"  batch_size: {self.batch.size} # over all ranks, for {_processes(self.gpus)}",
            f"  micro_batch_size: {self.batch.of_a_rank} # at once on a rank; `auto` finds what fits into a GPU",
            f"  precision: {'bf16' if self.gpus else 'float32'} # {'GPUs' if self.gpus else 'CPUs'} are fast with it",
            f"  log_every: {self._log_every()} # steps",
            "  # The paper's learning rate is 0.2 for a batch of 512; for another batch, in proportion.",
            f"  optimizer: {{lr: {self.batch.lr:g}, momentum: 0.9, weight_decay: 0.0005}}",
            "balance: # the second stage; its learning rates are scaled by the same rule",
            f"  crt: {{epochs: 10, {retrained}}}",
            f"  lws: {{epochs: 5, {retrained}}}",
            *self._tau(),
            *self._shots(),
        ]
        return "\n".join(lines) + "\n"

    def _heading(self) -> list[str]:
        record = self.dataset.record
        present = self.split.class_counts[self.split.class_counts > 0]
        counts = {name: split.samples for name, split in record.splits.items() if name != "train" and split.samples}
        others = ", ".join(f"{count:,} {name}" for name, count in counts.items()) or "neither val nor test"
        title = " ".join(record.name.split())
        return [
            f"# {title}: {self.dataset.num_classes:,} classes; images: {len(self.split):,} train ({present.min():,} to "
            f"{present.max():,} a class), {others}.",
            "# Written by `ltrsys init`: settings to begin with, to be changed by whoever knows the images.",
        ]

    def _augmentation(self, small: bool) -> list[str]:
        if small:
            return [
                "  # The paper's crops, from 0.08 of the area on, leave too little of small images.",
                "  augmentation: {min_area: 0.6, flip: true} # flip: false where left and right differ, as in letters",
            ]
        return ["  augmentation: {flip: true} # false where left and right differ, as in letters"]

    def _lanes(self) -> list[str]:
        lanes = choose_lanes(self.batch.ranks)
        return [] if lanes == USUAL_LANES else [f"  lanes: {lanes} # a multiple of the {self.batch.ranks} ranks"]

    def _threads(self) -> list[str]:
        cores = len(os.sched_getaffinity(0))
        threads = max(1, min(8, cores // self.batch.ranks))
        return [f"  threads: {threads} # that decode, a rank; the machine this was written on has {_cores(cores)}"]

    def _epochs(self) -> list[str]:
        if self.hours is None:
            epochs, reason = PAPER_EPOCHS, "  # As many as in the paper; --hours of `ltrsys init` fits them to a time."
        else:
            cores = len(os.sched_getaffinity(0))
            flops = _flops_of_an_image(self.model, self.sizes.image_size)
            speed = assumed_images_per_second(flops, self.gpus, cores)
            epochs = epochs_in(self.hours, len(self.split), speed)
            on = _processes(self.gpus) if self.gpus else _cores(cores)
            short = " One epoch alone takes longer." if self.hours * 3600 * speed < len(self.split) else ""
            reason = (
                f"  # An estimate for {self.hours:g} h, at most {MOST_EPOCHS}: {_rounded(speed)} images a second are "
                f"assumed for {on}.{short}\n  # Nothing was measured: it follows from {3 * flops / 1e9:.3g} GFLOP an "
                f"image and {_assumed(self.gpus)}. The log says what it is."
            )
        return [reason, f"  epochs: {epochs}", f"  evaluate_every: {max(1, epochs // 9)} # epochs"]

    def _log_every(self) -> int:
        return max(1, min(10, len(self.split) // self.batch.size))

    def _tau(self) -> list[str]:
        if evaluated_split(self.dataset) is None:
            return ["  # There is neither val nor test: classifiers are fitted, and nothing says how good they are."]
        if self.dataset.has("val") and self.dataset.has("test"):
            return ["  tau: {select_on: val} # and results are of test"]
        reported = evaluated_split(self.dataset)
        return [f"  tau: {{select_on: train}} # results are of {reported}, and there is no other split to choose it on"]

    def _shots(self) -> list[str]:
        counts = self.split.class_counts
        chosen = choose_shots(counts)
        many, medium, few = group_sizes(counts, chosen or ShotsConfig())
        found = f"{many:,} many-, {medium:,} medium- and {few:,} few-shot classes"
        if chosen is None:
            reason = f"{found}: with so few different numbers of images, no thresholds give all three."
        elif chosen == ShotsConfig():
            reason = f"The paper's thresholds: {found}."
        else:
            reason = f"{found}; the paper's thresholds of 100 and 20 would leave a group empty."
        chosen = chosen or ShotsConfig()
        return [f"# {reason}", f"shots: {{many: {chosen.many}, few: {chosen.few}}} # more than, fewer than"]


def _flops_of_an_image(model: ModelConfig, image_size: int) -> float:
    network = build_without_memory(model).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.empty(1, 3, image_size, image_size, device="meta"))
    return float(counter.get_total_flops())


def _assumed(gpus: int) -> str:
    return f"{FLOPS_OF_A_GPU / 1e12:g} TFLOP/s a GPU" if gpus else f"{FLOPS_OF_A_CORE / 1e9:g} GFLOP/s a core"


def _processes(gpus: int) -> str:
    return "a CPU" if not gpus else "one GPU" if gpus == 1 else f"{gpus} GPUs"


def _cores(cores: int) -> str:
    return "1 core" if cores == 1 else f"{cores} cores"


def _rounded(value: float) -> str:
    return f"{float(f'{value:.2g}'):,.0f}" if value >= 1 else f"{value:.2g}"


def _scalar(value: Any) -> str:
    """Return a value as YAML in one line, quoted where it must be."""
    return yaml.safe_dump([value], default_flow_style=True, allow_unicode=True, width=10**6).strip()[1:-1]
