"""What a run begins with: its checkpoint or nothing, its network, and the number of its attempt."""

import logging
import os
import tempfile
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray

from ltrsys.config.schema import Config
from ltrsys.data.index.dataset import Dataset, Split
from ltrsys.data.plan.batching import Batching, micro_batch_size
from ltrsys.data.plan.planner import VERSION as PLAN_VERSION
from ltrsys.data.plan.planner import Planner
from ltrsys.data.reading.opening import open_dataset
from ltrsys.errors import LtrsysError, UsageError
from ltrsys.files import sha256_of
from ltrsys.first_stage.from_run import check_from_run, digest_of_weights, fill_from_run, parts_to_begin
from ltrsys.first_stage.memory import check_memory
from ltrsys.first_stage.resuming import check_same_experiment, check_same_plan
from ltrsys.models.heads import CosineHead
from ltrsys.models.image_size import build_without_memory
from ltrsys.models.network import Network, build_network
from ltrsys.models.stored.pretrained import load_pretrained
from ltrsys.models.stored.published_files import find_weights
from ltrsys.models.stored.weights import load_backbone
from ltrsys.models.trainable.freezing import freeze
from ltrsys.models.trainable.layers import check_layers
from ltrsys.models.trainable.lora import add_adapters, check_adapters
from ltrsys.runs.audit_log import begin_attempt
from ltrsys.runs.folder import RunFolder
from ltrsys.runs.trained_on import changes_since
from ltrsys.training import layout
from ltrsys.training.checkpoints.checkpoint import Checkpoint, Progress
from ltrsys.training.checkpoints.folder import CheckpointFolder
from ltrsys.training.engines.engine import Engine
from ltrsys.training.engines.starting import start_engine
from ltrsys.training.losses.base import LossContext
from ltrsys.training.memory import largest_micro_batch_size
from ltrsys.training.objective import Objective
from ltrsys.world import World

log = logging.getLogger("ltrsys")


def planner_of_training(config: Config, split: Split, cache: Path | None = None) -> Planner:
    """Return what plans the epochs of a run, from its training images.

    Args:
        config: The experiment.
        split: The training images.
        cache: A folder of this node in which its ranks share the plans that one of them made.
    """
    return Planner(
        split,
        config.data.sampler,
        seed=config.seed,
        num_epochs=config.train.epochs,
        samples_per_epoch=config.data.samples_per_epoch,
        lanes=config.data.lanes,
        batch_size=config.train.batch_size,
        shuffle_window=config.data.shuffle_window,
        cache=cache,
    )


def find_checkpoint(
    run: RunFolder, checkpoints: CheckpointFolder, config: Config, dataset: Dataset
) -> Checkpoint | None:
    """Return what the run goes on from, None at its beginning.

    Raises:
        UsageError: Where it is of another experiment, or the folder holds a model that nothing can go on from.
    """
    found = checkpoints.newest()
    if found is None:
        _refuse_to_overwrite(run)
        return None
    path, checkpoint = found
    check_same_plan(checkpoint.progress, path)
    _check_same_experiment(run, checkpoint.progress, config, dataset, path)
    return checkpoint


def check_start(config: Config) -> None:
    """Refuse a run to start from that does not fit, and parts that the network lacks, before anything is written.

    A run that has begun does not look for the one that it started from.

    Raises:
        UsageError: Says what differs, is not there, or needs such a run.
    """
    network = build_without_memory(config.model)
    add_adapters(network, config.model)
    check_adapters(network, config.model, config.data.image_size)
    freeze(network, config.model, config.train.trainable, config.train.freeze_stages)
    if config.train.optimizer.layer_decay is not None:
        check_layers(network, config.model)
    if CheckpointFolder(RunFolder(config.run_folder).checkpoints, kept=1).has_any():
        return
    check_memory(config)
    if config.train.from_run is not None:
        check_from_run(config, open_dataset(config.data))


def no_progress(config: Config, dataset: Dataset, batching: Batching) -> Progress:
    """Return the progress of a run that has not begun."""
    return Progress(
        plan=PLAN_VERSION,
        dataset=dataset.fingerprint,
        config=config.dump(),
        sampler_weights=config.data.sampler.digest(),
        started_from=_digest_of_start(config),
        micro_batch_size=batching.micro_batch_size,
        world_size=batching.world.world_size,
    )


def _digest_of_start(config: Config) -> str | None:
    """Return the SHA-256 of the weights that a run is started from; None where they are random."""
    if config.train.from_run is not None:
        return digest_of_weights(config.train.from_run)
    if config.model.weights is not None:
        return sha256_of(config.model.weights)
    return sha256_of(find_weights(config.model).path) if config.model.pretrained else None


def initial_network(config: Config, dataset: Dataset, checkpoint: Checkpoint | None, device: torch.device) -> Network:
    """Build the network, with the same weights on every rank, on this rank's device.

    Raises:
        UsageError: Where `train.from_run` names a run that does not fit, or a part is to be trained or frozen
            that is not there.
        DataError: Where a file of weights is damaged, or of another network.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = build_network(config.model, dataset.num_classes)
        if checkpoint is None:
            _fill(network, config, dataset)
        add_adapters(network, config.model)
    if checkpoint:
        network.load_state_dict(dict(checkpoint.network))
    if (scale := config.train.loss.fixed_scale) is not None:
        assert isinstance(network.classifier, CosineHead), "the config asks for it"
        network.classifier.fix_scale(scale)
    freeze(network, config.model, config.train.trainable, config.train.freeze_stages)
    return network.to(device)


def _fill(network: Network, config: Config, dataset: Dataset) -> None:
    """Give a network of random weights those that the config names, if it names any."""
    if config.train.from_run is not None:
        check_from_run(config, dataset)
        fill_from_run(network, config.train.from_run, fresh=parts_to_begin(config))
    elif config.model.weights is not None:
        load_backbone(network, Path(config.model.weights))
    elif config.model.pretrained:
        found = load_pretrained(network, config.model)
        log.info("The backbone begins as %s.", found.origin)


def initial_objective(
    config: Config, class_counts: NDArray[np.int64], network: Network, checkpoint: Checkpoint | None
) -> Objective:
    """Build what is minimised, with the same parameters of the loss on every rank, where the network is.

    Raises:
        UsageError: Where the loss needs what is not installed.
    """
    device = network.classifier.weight.device
    context = LossContext(class_counts, config.train.label_smoothing, device, network.feature_dim, network.centroids)
    objective = Objective(config.train.loss, context, config.seed)
    if checkpoint:
        objective.load_state(checkpoint.loss)
    return objective


def images_at_once(
    config: Config, world: World, network: Network, objective: Objective, checkpoint: Checkpoint | None
) -> int:
    """Return the size of a micro-batch: what the run began with, as BatchNorm goes on to see such groups.

    Raises:
        UsageError: Where the batch does not split evenly over the ranks.
        LtrsysError: Where not even one image fits into the memory of a GPU.
    """
    if checkpoint:
        return checkpoint.progress.micro_batch_size
    if config.train.micro_batch_size == "auto":
        return largest_micro_batch_size(network, config.train, config.data, world, objective)
    return micro_batch_size(config.train.micro_batch_size, config.train.batch_size, world)


def with_layout(
    config: Config, world: World, network: Network, size: int, checkpoint: Checkpoint | None, device: torch.device
) -> Config:
    """Return the config with the layout that `train.channels_last: auto` stands for: the one the run began with.

    Args:
        config: Of the run.
        world: The ranks, all of which call this.
        network: On the device, in torch's usual layout; it is left as it was.
        size: Images of a micro-batch.
        checkpoint: What the run goes on from, if it has begun.
        device: Of this rank.
    """
    if config.train.channels_last != "auto":
        return config
    begun_with = None if checkpoint is None else checkpoint.progress.config.get("train", {}).get("channels_last")
    chosen = config.train.can_be_in_channels_last
    if chosen and isinstance(begun_with, bool):
        chosen = begun_with
    elif chosen and device.type in layout.TIMED_ON:
        chosen = layout.faster_in_channels_last(network, config.train, config.data, world, size, device=device)
    return config.model_copy(update={"train": config.train.model_copy(update={"channels_last": chosen})})


def check_images_of_a_class(config: Config, batching: Batching) -> None:
    """Refuse a loss that needs several images of a class at once, where those drawn together are dealt out singly.

    Raises:
        UsageError: Names the keys.
    """
    micro_batches = batching.batch_size // batching.micro_batch_size
    if not config.train.loss.needs_several_of_a_class or batching.samples_per_draw > micro_batches:
        return
    raise UsageError(
        f"train.loss.kind={config.train.loss.kind} needs several images of a class in a micro-batch, and the "
        f"{batching.samples_per_draw} that are drawn together are dealt to {micro_batches} micro-batches: raise "
        "train.micro_batch_size or data.sampler.samples_per_draw, or run on fewer ranks."
    )


def engine_of_training(
    config: Config, network: Network, objective: Objective, batching: Batching, checkpoint: Checkpoint | None
) -> Engine:
    """Start the engine, with the optimizer's state of the checkpoint.

    Raises:
        UsageError: Where the config asks for what this machine or DeepSpeed cannot do.
    """
    engine = start_engine(
        network,
        config.train,
        objective,
        accumulation=batching.accumulation,
        micro_batch_size=batching.micro_batch_size,
    )
    try:
        if checkpoint:
            engine.load_optimizer_state(checkpoint.optimizer)
            engine.load_scaler_state(checkpoint.progress.scaler)
    except BaseException:
        engine.close()
        raise
    return engine


def number_of_attempt(run: RunFolder, progress: Progress, batching: Batching, device: torch.device) -> int:
    """Return the number of this attempt, which the first rank decides; see that all go on from the same step."""
    world = batching.world
    attempt = 0
    if world.is_main:
        attempt = begin_attempt(
            run.audit,
            first_step=progress.step,
            world_size=world.world_size,
            micro_batch_size=batching.micro_batch_size,
            batch_size=batching.batch_size,
        )
    told = torch.tensor([attempt, progress.step], device=device)
    dist.broadcast(told, src=0)
    attempt, step = told.tolist()
    if step != progress.step:
        raise LtrsysError(
            f"{run.checkpoints}: rank {world.rank} would go on after step {progress.step}, the "
            f"first rank after step {step}. All ranks need the same run folder, on a file system that they share; "
            "where they have it, this node may see a newer checkpoint only in a minute: start again then."
        )
    return attempt


def finished(config: Config) -> Progress | None:
    """Return where the run stands if all of it is done and its model written."""
    run = RunFolder(config.run_folder)
    found = CheckpointFolder(run.checkpoints, kept=1).newest() if run.model.exists() else None
    if found is None or found[1].progress.epoch < config.train.epochs:
        return None
    path, checkpoint = found
    _check_same_experiment(run, checkpoint.progress, config, open_dataset(config.data), path)
    return checkpoint.progress


def plans_of_this_node() -> Path:
    """Return where the ranks of this node share their plans, apart from those of other users."""
    return Path(tempfile.gettempdir()) / f"ltrsys-plans-{os.getuid()}"


def _check_same_experiment(run: RunFolder, progress: Progress, config: Config, dataset: Dataset, path: Path) -> None:
    # the record is needed, and read, only where the shards are others
    changes = changes_since(run, dataset) if progress.dataset != dataset.fingerprint else None
    check_same_experiment(progress, config, dataset.fingerprint, path, changes)


def _refuse_to_overwrite(run: RunFolder) -> None:
    if run.model.exists():
        raise UsageError(
            f"{run.path}: holds a trained model, but no checkpoint to go on from. Choose another name, or "
            "move the folder away."
        )
