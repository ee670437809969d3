"""What a run says of itself: its first line, and its last ones."""

import torch

from ltrsys.config.schema import Config
from ltrsys.data.loading.pipeline import decodes_on_gpu
from ltrsys.device import describe_device
from ltrsys.metrics.accuracy import heading
from ltrsys.training.checkpoints.checkpoint import Progress
from ltrsys.world import World


def describe_processes(config: Config, world: World, device: torch.device) -> str:
    """Return the first line of a run: how many ranks it has, and what they compute on."""
    ranks = f"{world.world_size} rank{'s' if world.world_size != 1 else ''}"
    nodes = world.world_size // world.local_world_size
    if nodes > 1:
        ranks += f" on {nodes} nodes"
    precision: str = config.train.precision
    if device.type == "cuda" and precision == "float32" and config.train.tf32:
        precision += " (products in TF32)"
    decoder = "GPU" if decodes_on_gpu(config.data, device) else "CPU"
    return f"{config.name}: {ranks}, {describe_device(device)}, {precision}, images decoded on the {decoder}."


def describe_run(config: Config, progress: Progress) -> str:
    """Say how far a run has come, and how good it was on val."""
    text = f"{config.run_folder}: trained {progress.epoch} epochs, {progress.step} steps."
    if progress.accuracies:
        text += f"\n{describe_accuracies(progress.accuracies)} (best: epoch {progress.best_epoch})."
    return text


def describe_accuracies(accuracies: dict[str, float | None]) -> str:
    """Say the accuracies on val in one line."""
    columns = (f"{heading(name)} {'-' if value is None else f'{value:.1f}'}" for name, value in accuracies.items())
    return f"val accuracy: {', '.join(columns)}"
