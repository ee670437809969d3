"""What a run says of itself: its first line, and its last ones."""

import torch

from ltrsys.config.schema import Config
from ltrsys.data.config import DataConfig
from ltrsys.data.index.dataset import Dataset
from ltrsys.data.loading.pipeline import decodes_on_gpu
from ltrsys.data.reading.quarantine import quarantined
from ltrsys.device import describe_device
from ltrsys.metrics.accuracy import heading
from ltrsys.runs.folder import RunFolder
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


def conclusion(config: Config, progress: Progress, dataset: Dataset, world: World, bytes_fetched: int) -> str:
    """Return the last lines of a run.

    Args:
        config: The experiment.
        progress: At its end.
        dataset: What was trained on.
        world: The ranks.
        bytes_fetched: Training shards that came over the network, to all ranks together.
    """
    description = describe_run(config, progress)
    nodes = world.world_size // world.local_world_size
    if news := describe_fetching(dataset, config.data, bytes_fetched, nodes):
        description += f"\n{news}"
    quarantine = RunFolder(config.run_folder).quarantine
    if bad := len(quarantined(quarantine, dataset.split("train"))):
        description += f"\n{bad} training images were bad and replaced by others: {quarantine}."
    return description


def describe_accuracies(accuracies: dict[str, float | None]) -> str:
    """Say the accuracies on val in one line."""
    columns = (f"{heading(name)} {'-' if value is None else f'{value:.1f}'}" for name, value in accuracies.items())
    return f"val accuracy: {', '.join(columns)}"


def describe_fetching(dataset: Dataset, config: DataConfig, bytes_fetched: int, nodes: int) -> str | None:
    """Say that shards behind a URL came more than once since the cache does not hold them; None where it does.

    What is read of a disk is never news: it is the images, and at most some kB between neighbours.

    Args:
        dataset: What was trained on.
        config: The cache of each node.
        bytes_fetched: Training shards that came over the network, to all ranks together.
        nodes: How many machines the ranks are on.
    """
    size = {name: sum(shard.bytes for shard in split.shards) for name, split in dataset.record.splits.items()}
    needed = size["train"] + size.get("val", 0)
    if bytes_fetched <= nodes * size["train"] or config.cache_gb * 1e9 >= needed:
        return None
    return (
        f"{bytes_fetched / 1e9:,.1f} GB of training shards came over the network, and there are only "
        f"{size['train'] / 1e9:,.1f} GB: data.cache_gb={config.cache_gb:g} does not hold what is read, so that shards "
        f"are fetched again and again. data.cache_gb={-(-needed // 10**9)} holds all of it."
    )
