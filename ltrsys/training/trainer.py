"""The first stage: backbone and classifier together (paper, section 3)."""

import logging
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch
import torch.distributed as dist

from ltrsys.config.reading import save_config
from ltrsys.config.schema import Config
from ltrsys.data.loading.loader import Batch, EvaluationLoader, TrainLoader
from ltrsys.data.loading.pipeline import decodes_on_gpu
from ltrsys.data.plan.batching import Batching
from ltrsys.data.plan.planner import VERSION as PLAN_VERSION
from ltrsys.data.plan.planner import Planner
from ltrsys.data.reading.opening import open_dataset
from ltrsys.data.reading.quarantine import Quarantine, quarantined
from ltrsys.device import describe_device, set_up_gpu, within_memory
from ltrsys.errors import DataError, LtrsysError, UsageError
from ltrsys.metrics.accuracy import accuracy_by_shot, shot_of_class
from ltrsys.models.network import Network, build_network
from ltrsys.models.weights import load_backbone, save_network
from ltrsys.progress import Advance, progress
from ltrsys.runs.audit_log import AuditLog, begin_attempt
from ltrsys.runs.folder import RunFolder
from ltrsys.runs.lock import locked
from ltrsys.runs.tracking import Tracker
from ltrsys.training.checkpoints.checkpoint import Checkpoint, Progress, check_same_experiment, check_same_plan
from ltrsys.training.checkpoints.folder import CheckpointFolder
from ltrsys.training.checkpoints.rank_state import gather_rank_state, mean_buffers, restore_rank_state
from ltrsys.training.engines.batch_norm import average_buffers
from ltrsys.training.engines.engine import start_engine
from ltrsys.training.losses.base import LossContext
from ltrsys.training.memory import choose_micro_batch_size, memory_advice
from ltrsys.training.meter import Meter
from ltrsys.training.supervision.failures import first_failure
from ltrsys.training.supervision.loss_watch import LossWatch
from ltrsys.training.supervision.process_group import process_group
from ltrsys.training.supervision.requests import Request, Requests, Stopped
from ltrsys.training.supervision.watchdog import Reached, watched
from ltrsys.training.validation import predict_split
from ltrsys.world import World

log = logging.getLogger("ltrsys")

_GOES_ON_EARLIER = "Put right what the warning above says; the same command goes on from the last good checkpoint."


def train(config: Config, world: World) -> None:
    """Train what `config` describes, together with the other ranks, from its last checkpoint if there is one.

    A finished run is left as it is.

    Raises:
        UsageError: Where the config does not fit the machine, the dataset or the run begun before, or where another
            training goes on in its folder.
        Stopped: After a signal, once the run's state is saved.
        LtrsysError: For a damaged shard or checkpoint, a full disk, or a loss that is not finite.
    """
    if finished := _finished(config):
        if world.is_main:
            print(f"{_describe_run(config, finished)}\nThere is nothing left to do.")
        return
    timeout = config.train.timeout_seconds
    with ExitStack() as stack:
        device = stack.enter_context(process_group(world, timeout, config.train.device))
        set_up_gpu(device, cudnn_benchmark=config.train.cudnn_benchmark, tf32=config.train.tf32)
        if world.is_main:
            log.info("%s", _describe_processes(config, world, device))
        reached = stack.enter_context(watched(world, timeout))
        if world.is_main:
            stack.enter_context(locked(RunFolder(config.run_folder), timeout))
        dist.barrier()  # before it, no rank looks for a checkpoint: the training before may still be writing one
        trainer = Trainer(config, world, device, reached)
        try:
            trainer.fit()
        finally:
            trainer.close()


class Trainer:
    """The parts of a run, and the loop over them; it tells `reached` where it is."""

    def __init__(
        self, config: Config, world: World, device: torch.device, reached: Reached = lambda doing: None
    ) -> None:
        self.config, self.world, self.device, self.reached = config, world, device, reached
        self.run = RunFolder(config.run_folder)
        self.dataset = open_dataset(config.data)
        self.train_split = self.dataset.split("train")
        self.val_split = self.dataset.split("val") if self.dataset.has("val") else None
        planner = Planner(
            self.train_split,
            config.data.sampler,
            seed=config.seed,
            num_epochs=config.train.epochs,
            samples_per_epoch=config.data.samples_per_epoch,
            lanes=config.data.lanes,
            batch_size=config.train.batch_size,
            shuffle_window=config.data.shuffle_window,
            cache=_plans_of_this_node() if world.local_world_size > 1 else None,
        )
        self.checkpoints = CheckpointFolder(self.run.checkpoints, kept=config.train.keep_checkpoints)
        checkpoint = self._find_checkpoint()
        network = self._initial_network(checkpoint)
        loss = config.train.loss.build(LossContext(self.train_split.class_counts, config.train.label_smoothing, device))
        if checkpoint:
            micro_batch_size: int | None = checkpoint.progress.micro_batch_size
        else:
            micro_batch_size = choose_micro_batch_size(network, config, world, loss)
        self.batching = Batching.from_config(config, world, planner.samples_per_draw, micro_batch_size)
        self.steps_per_epoch = self.batching.steps_per_epoch(planner.samples_per_epoch)
        self.progress = checkpoint.progress if checkpoint else self._no_progress()
        self.progress.world_size = world.world_size

        self.engine = start_engine(
            network,
            config.train,
            loss,
            accumulation=self.batching.accumulation,
            micro_batch_size=self.batching.micro_batch_size,
        )
        self.meter = Meter(world, device)
        if checkpoint:
            self.engine.load_optimizer_state(checkpoint.optimizer)
            self.engine.load_scaler_state(checkpoint.progress.scaler)
            # Only now: an engine begins by giving every rank the first one's buffers.
            unlogged_loss = restore_rank_state(checkpoint.ranks, self.engine.network, world)
            self.meter.restore(unlogged_loss, checkpoint.progress.unlogged_steps)

        self.loader = TrainLoader(
            self.train_split,
            config.data,
            planner=planner,
            batching=self.batching,
            seed=config.seed,
            device=device,
            channels_last=config.train.channels_last,
            quarantine=Quarantine.of(self.train_split, config.data, self.run.quarantine),
        )
        if world.is_main:
            save_config(config, self.run.config_file)
        self.tracker = Tracker(self.run, config, world, run_id=self.progress.tracking_run)
        self.tracker.rewind(self.progress.step)
        self.progress.tracking_run = self.tracker.run_id
        self.audit = AuditLog(
            self.run.audit,
            attempt=self._begin_attempt(),
            rank=world.rank,
            micro_batch_size=self.batching.micro_batch_size,
        )
        self.losses = LossWatch(world.rank, config.train.optimizer.lr)
        self.requests = Requests(world, device, minutes=config.train.checkpoint_every_minutes)

    def fit(self) -> None:
        """Train the epochs that are left, then write the model and say how good it is."""
        total = self.config.train.epochs * self.steps_per_epoch
        shown = self.world.is_main
        if self.progress.step and shown:
            log.info("%s: going on after step %d of %d.", self.run.path, self.progress.step, total)
        with progress(f"training {self.config.name}", total - self.progress.step, shown=shown) as advance:
            for epoch in range(self.progress.epoch, self.config.train.epochs):
                with within_memory(self.batching.micro_batch_size, self.world.rank, memory_advice(self.batching)):
                    asked = self._train_epoch(epoch, advance)
                self.progress.epoch = epoch + 1
                with self._apart_from_training():
                    self._finish_epoch(asked)
                if asked is Request.STOP and self.progress.step < total:
                    self._stop()
        average_buffers(self.engine.network, self.world)
        self.checkpoints.wait()
        if shown:
            save_network(self.engine.network, self.run.model)
            print(self._conclusion())

    def close(self) -> None:
        """Give up files, threads, hooks and signals."""
        self.checkpoints.close()
        self.audit.close()
        self.tracker.close()
        self.loader.close()
        self.engine.close()
        self.requests.close()

    def _train_epoch(self, epoch: int, advance: Advance) -> Request:
        """Run the steps of an epoch that are left; return what was asked for at the last of them."""
        first = self.progress.step - epoch * self.steps_per_epoch
        if first == 0:
            # Dropout and its like, where a network has them: other numbers on every rank and in every epoch.
            torch.manual_seed(hash((self.config.seed, epoch, self.world.rank)))
        self.engine.network.train()
        micro_batches = self.loader.epoch(epoch, first)
        self._ask_for_an_end_where_data_is_bad()
        if self.requests.agreed_at_once() is Request.FAIL:
            self._stop_for_bad_data(save=self.progress.step > 0)
        asked = Request.NOTHING
        for step_of_epoch in range(first, self.steps_per_epoch):
            self.reached(f"reading the data of step {self.progress.step + 1}")
            factor = self._step(epoch, list(islice(micro_batches, self.batching.accumulation)))
            last = self.progress.step == self.config.train.epochs * self.steps_per_epoch
            if self.progress.step % self.config.train.log_every == 0 or last:
                self._log(factor, advance)
            advance()
            self._ask_for_an_end_where_data_is_bad()
            asked = self.requests.agreed()
            if asked is Request.FAIL:
                self._stop_for_bad_data(save=True)
            every = self.config.train.checkpoint_every_steps
            due = bool(every and self.progress.step % every == 0)
            if (asked or due) and step_of_epoch + 1 < self.steps_per_epoch:
                with self._apart_from_training():
                    self._save()
                if asked is Request.STOP:
                    self._stop()
        self.losses.check()
        return asked

    def _step(self, epoch: int, micro_batches: list[Batch]) -> float:
        """Run one optimizer step; return its learning rate factor."""
        self.reached(f"training step {self.progress.step + 1}")
        factor = self.config.train.schedule.factor(
            self.progress.step, steps_per_epoch=self.steps_per_epoch, epochs=self.config.train.epochs
        )
        losses = [
            self.engine.accumulate(batch.images, batch.labels, last=batch is micro_batches[-1])
            for batch in micro_batches
        ]
        self.engine.step(factor)
        self.meter.add(torch.stack(losses).mean(), self.config.train.batch_size)
        self.progress.step += 1
        self.losses.add(self.progress.step, [batch.samples for batch in micro_batches], losses)
        for batch in micro_batches:
            self.audit.add(self.progress.step, epoch, batch.positions, batch.samples.numpy())
        return factor

    def _save(self, *, best: bool = False, last: bool = True) -> None:
        """Save the run as it is: as its last checkpoint, as its best, or as both. Called by all ranks together."""
        self.reached(f"saving after step {self.progress.step}")
        self.losses.check()  # what is not finite must not be saved
        self.audit.sync()
        self.tracker.sync()
        loss, self.progress.unlogged_steps = self.meter.unlogged
        self.progress.scaler = self.engine.scaler_state()
        # Gathering takes all ranks; writing takes one.
        ranks, optimizer = gather_rank_state(self.engine.network, loss, self.world), self.engine.optimizer_state()
        network = self.engine.network.state_dict() | mean_buffers(ranks)
        checkpoint = Checkpoint(network, optimizer, self.progress, ranks)
        if self.world.is_main:
            self.checkpoints.save(checkpoint, best=best, last=last)
        if last:  # nothing goes on from the best one
            self.requests.granted()

    def _stop(self) -> None:
        stopped = f"{self.run.path}: stopped by a signal after step {self.progress.step}, whose state"
        if not self._is_written():
            raise LtrsysError(f"{stopped} could not be saved. {_GOES_ON_EARLIER}")
        raise Stopped(f"{stopped} is saved. The same command goes on from there.", self.requests.signal)

    def _is_written(self) -> bool:
        """Wait until the first rank has written the last checkpoint; return whether it could. Called by all ranks."""
        self.reached(f"stopping after step {self.progress.step}")
        written = torch.tensor(int(self.checkpoints.wait()), device=self.device)  # noqa: TID251 no step comes after it
        dist.broadcast(written, src=0)  # before it, no rank ends: a launcher may then kill the one that still writes
        return bool(written)

    def _ask_for_an_end_where_data_is_bad(self) -> None:
        if self.loader.failure:
            self.requests.fail()

    def _stop_for_bad_data(self, *, save: bool) -> NoReturn:
        """Save the last finished step, and end on every rank with what the first one that failed says."""
        message = first_failure(self.world, self.device, self.loader.failure)
        if not save:
            raise DataError(message)
        with self._apart_from_training():
            self._save()
        stopped = f"{message} {self.run.path}: stopped after step {self.progress.step}, whose state"
        if not self._is_written():
            raise DataError(f"{stopped} could not be saved. {_GOES_ON_EARLIER}")
        raise DataError(f"{stopped} is saved; the same command goes on from there.")

    def _log(self, factor: float, advance: Advance) -> None:
        values = self.meter.read(self.loader.stall_seconds)
        images = self.progress.step * self.config.train.batch_size
        values |= {"lr": self.config.train.optimizer.lr * factor, "images": images}
        self.tracker.log(self.progress.step, {"epoch": self.progress.step / self.steps_per_epoch, **values})
        advance(0, f"loss {values['loss']:.3f}, {values['images_per_second']:.0f} images/s")

    def _finish_epoch(self, asked: Request) -> None:
        """Evaluate and save, where they are due."""
        epoch, settings = self.progress.epoch, self.config.train
        last = epoch == settings.epochs
        evaluate = self.val_split is not None and (last or epoch % settings.evaluate_every == 0)
        if evaluate:
            self.reached(f"evaluating after step {self.progress.step}")
            average_buffers(self.engine.network, self.world)
        try:
            is_best = evaluate and self._evaluate()
        except DataError:  # on all ranks together; the run goes on with this evaluation
            self.progress.epoch -= 1
            self._save()
            self._is_written()
            raise
        every = settings.checkpoint_every_steps
        due = last or epoch % settings.checkpoint_every == 0 or bool(every and self.progress.step % every == 0)
        if due or asked or is_best:
            self._save(best=is_best, last=due or bool(asked))

    def _evaluate(self) -> bool:
        """Measure and log the accuracies on val; return whether they are the best so far."""
        assert self.val_split is not None
        loader = EvaluationLoader(
            self.val_split,
            self.config.data,
            batch_size=self.batching.micro_batch_size,
            world=self.world,
            device=self.device,
            channels_last=self.config.train.channels_last,
        )
        try:
            predictions = predict_split(self.engine.network, loader, len(self.val_split), self.config.train)
        finally:
            loader.close()
        shots = shot_of_class(self.train_split.class_counts, self.config.shots)
        accuracies = accuracy_by_shot(self.val_split.label.astype(np.int64), predictions, shots)
        self.progress.accuracies = accuracies
        named = {f"val_{shot}": accuracy for shot, accuracy in accuracies.items()}
        self.tracker.log(self.progress.step, {"epoch": float(self.progress.epoch), **named})
        if self.world.is_main:
            log.info("epoch %d: %s", self.progress.epoch, _describe(accuracies))
        best, accuracy = self.progress.best_accuracy, accuracies["all"]
        if accuracy is None or (best is not None and accuracy <= best):
            return False
        self.progress.best_accuracy, self.progress.best_epoch = accuracy, self.progress.epoch
        return True

    @contextmanager
    def _apart_from_training(self) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.meter.skip(time.perf_counter() - started)

    def _conclusion(self) -> str:
        description = _describe_run(self.config, self.progress)
        if not self.loader.bytes_used:
            return description
        ratio = self.loader.bytes_read / self.loader.bytes_used
        description += f"\nBytes read over bytes used: {ratio:.2f}."
        if bad := len(quarantined(self.run.quarantine, self.train_split)):
            description += f"\n{bad} training images were bad and replaced by others: {self.run.quarantine}."
        return description

    def _find_checkpoint(self) -> Checkpoint | None:
        found = self.checkpoints.newest()
        if found is None:
            self._refuse_to_overwrite()
            return None
        path, checkpoint = found
        check_same_plan(checkpoint.progress, path)
        check_same_experiment(checkpoint.progress, self.config, self.dataset.fingerprint, path)
        return checkpoint

    def _begin_attempt(self) -> int:
        """Return the number of this attempt, which the first rank decides; see that all go on from the same step."""
        attempt = 0
        if self.world.is_main:
            attempt = begin_attempt(
                self.run.audit,
                first_step=self.progress.step,
                world_size=self.world.world_size,
                micro_batch_size=self.batching.micro_batch_size,
                batch_size=self.batching.batch_size,
            )
        told = torch.tensor([attempt, self.progress.step], device=self.device)  # noqa: TID251 no step has begun
        dist.broadcast(told, src=0)
        attempt, step = told.tolist()
        if step != self.progress.step:
            raise LtrsysError(
                f"{self.run.checkpoints}: rank {self.world.rank} would go on after step {self.progress.step}, the "
                f"first rank after step {step}. All ranks need the same run folder, on a file system that they share; "
                "where they have it, this node may see a newer checkpoint only in a minute: start again then."
            )
        return attempt

    def _refuse_to_overwrite(self) -> None:
        if self.run.model.exists():
            raise UsageError(
                f"{self.run.path}: holds a trained model, but no checkpoint to go on from. Choose another name, or "
                "move the folder away."
            )

    def _no_progress(self) -> Progress:
        return Progress(
            plan=PLAN_VERSION,
            dataset=self.dataset.fingerprint,
            config=self.config.dump(),
            sampler_weights=self.config.data.sampler.digest(),
            micro_batch_size=self.batching.micro_batch_size,
            world_size=self.world.world_size,
        )

    def _initial_network(self, checkpoint: Checkpoint | None) -> Network:
        """Build the network, with the same weights on every rank, on this rank's device."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.seed)
            network = build_network(self.config.model, self.dataset.num_classes)
        if checkpoint:
            network.load_state_dict(dict(checkpoint.network))
        elif self.config.model.weights is not None:
            load_backbone(network, Path(self.config.model.weights))
        return network.to(self.device)


def _describe_processes(config: Config, world: World, device: torch.device) -> str:
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


def _finished(config: Config) -> Progress | None:
    """Return where the run stands if all of it is done and its model written."""
    run = RunFolder(config.run_folder)
    found = CheckpointFolder(run.checkpoints, kept=1).newest() if run.model.exists() else None
    if found is None or found[1].progress.epoch < config.train.epochs:
        return None
    path, checkpoint = found
    check_same_experiment(checkpoint.progress, config, open_dataset(config.data).fingerprint, path)
    return checkpoint.progress


def _describe_run(config: Config, progress: Progress) -> str:
    text = f"{config.run_folder}: trained {progress.epoch} epochs, {progress.step} steps."
    if progress.accuracies:
        text += f"\n{_describe(progress.accuracies)} (best: epoch {progress.best_epoch})."
    return text


def _describe(accuracies: dict[str, float | None]) -> str:
    columns = (f"{shot} {'-' if value is None else f'{value:.1f}'}" for shot, value in accuracies.items())
    return f"val accuracy: {', '.join(columns)}"


def _plans_of_this_node() -> Path:
    """Return where the ranks of this node share their plans, apart from those of other users."""
    return Path(tempfile.gettempdir()) / f"ltrsys-plans-{os.getuid()}"
