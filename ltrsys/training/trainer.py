"""The first stage: backbone and classifier together (paper, section 3)."""

import logging
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ltrsys.config import Config
from ltrsys.config_file import save_config
from ltrsys.data.batching import Batching
from ltrsys.data.index import Dataset
from ltrsys.data.loader import Batch, EvaluationLoader, TrainLoader
from ltrsys.data.plan import Planner
from ltrsys.errors import LtrsysError, UsageError
from ltrsys.evaluation import accuracy_by_shot, shot_of_class
from ltrsys.models.network import Network, build_network
from ltrsys.models.weights import load_backbone, save_network
from ltrsys.progress import Advance, progress
from ltrsys.run_folder import RunFolder
from ltrsys.tracking import Tracker
from ltrsys.training.batch_norm import average_buffers
from ltrsys.training.checkpoint import Checkpoint, Progress, check_same_experiment
from ltrsys.training.engine import start_engine
from ltrsys.training.meter import Meter
from ltrsys.training.process_group import process_group
from ltrsys.training.schedule import lr_factor
from ltrsys.training.validation import predict_split
from ltrsys.world import World

log = logging.getLogger("ltrsys")

LAST, BEST = "last.safetensors", "best.safetensors"


def train(config: Config, world: World) -> None:
    """Train what `config` describes, together with the other ranks, from its last checkpoint if there is one.

    Raises:
        UsageError: Where the config does not fit the machine, the dataset or the run begun before.
        LtrsysError: For a damaged shard or checkpoint, a full disk, or a loss that is not finite.
    """
    with process_group(world, config.train.timeout_seconds) as device:
        trainer = Trainer(config, world, device)
        try:
            trainer.fit()
        finally:
            trainer.close()


class Trainer:
    """The parts of a run, and the loop over them."""

    def __init__(self, config: Config, world: World, device: torch.device) -> None:
        self.config, self.world, self.device = config, world, device
        self.run = RunFolder(config.run_folder)
        self.dataset = Dataset.open(config.data.shards)
        self.train_split = self.dataset.split("train")
        self.val_split = self.dataset.split("val") if self.dataset.has("val") else None
        planner = Planner(
            self.train_split,
            config.data.sampler,
            seed=config.seed,
            num_epochs=config.train.epochs,
            samples_per_epoch=config.data.samples_per_epoch,
            lanes=config.data.lanes,
            shuffle_window=config.data.shuffle_window,
        )
        self.batching = Batching.from_config(config, world, planner.samples_per_draw)
        self.steps_per_epoch = self.batching.steps_per_epoch(planner.samples_per_epoch)

        checkpoint = self._find_checkpoint()
        self.progress = checkpoint.progress if checkpoint else self._no_progress()
        network = self._initial_network(checkpoint)
        self.engine = start_engine(
            network,
            config.train,
            accumulation=self.batching.accumulation,
            micro_batch_size=self.batching.micro_batch_size,
        )
        if checkpoint:
            self.engine.load_momentum(checkpoint.momentum)
            self.engine.load_scaler_state(checkpoint.progress.scaler)

        self.loader = TrainLoader(
            self.train_split,
            config.data,
            planner=planner,
            batching=self.batching,
            seed=config.seed,
            device=device,
            channels_last=config.train.channels_last,
        )
        self.meter = Meter(world, device)
        if world.is_main:
            save_config(config, self.run.config_file)
        self.tracker = Tracker(self.run, config, world)
        self.tracker.rewind(self.progress.step)
        self._unchecked: list[tuple[int, Batch, Tensor]] = []

    def fit(self) -> None:
        """Train the epochs that are left, then write the model and say how good it is."""
        total = self.config.train.epochs * self.steps_per_epoch
        shown = self.world.is_main
        if self.progress.step and shown:
            log.info("%s: going on after epoch %d of %d.", self.run.path, self.progress.epoch, self.config.train.epochs)
        with progress(f"training {self.config.name}", total - self.progress.step, shown=shown) as advance:
            for epoch in range(self.progress.epoch, self.config.train.epochs):
                self._train_epoch(epoch, advance)
                self.progress.epoch = epoch + 1
                with self._apart_from_training():
                    self._finish_epoch()
        average_buffers(self.engine.network, self.world)
        if shown:
            save_network(self.engine.network, self.run.model)
            print(self._conclusion())

    def close(self) -> None:
        """Give up files, threads and hooks."""
        self.tracker.close()
        self.loader.close()
        self.engine.close()

    def _train_epoch(self, epoch: int, advance: Advance) -> None:
        # Dropout and its like, where a network has them: other numbers on every rank, the same after a restart.
        torch.manual_seed(hash((self.config.seed, epoch, self.world.rank)))
        self.engine.network.train()
        micro_batches = self.loader.epoch(epoch)
        for _ in range(self.steps_per_epoch):
            lr = self._step(list(islice(micro_batches, self.batching.accumulation)))
            last = self.progress.step == self.config.train.epochs * self.steps_per_epoch
            if self.progress.step % self.config.train.log_every == 0 or last:
                self._log(lr, advance)
            advance()
        self._check_losses(self.progress.step)

    def _step(self, micro_batches: list[Batch]) -> float:
        """Run one optimizer step; return its learning rate factor."""
        factor = lr_factor(
            self.config.train.schedule,
            step=self.progress.step,
            steps_per_epoch=self.steps_per_epoch,
            epochs=self.config.train.epochs,
        )
        losses = []
        for batch in micro_batches:
            loss = self.engine.accumulate(batch.images, batch.labels, last=batch is micro_batches[-1])
            losses.append(loss)
            self._unchecked.append((self.progress.step + 1, batch, loss))
        self.engine.step(factor)
        self.meter.add(torch.stack(losses).mean(), self.config.train.batch_size)
        # The losses of the step before: waiting for this one's would leave a GPU without work.
        self._check_losses(self.progress.step)
        self.progress.step += 1
        return factor

    def _check_losses(self, until_step: int) -> None:
        """Raise where a loss of a step up to `until_step` is not finite."""
        while self._unchecked and self._unchecked[0][0] <= until_step:
            step, batch, loss = self._unchecked.pop(0)
            value = float(loss)
            if not math.isfinite(value):
                samples = batch.samples.tolist()
                shown = ", ".join(map(str, samples[:8])) + (", ..." if len(samples) > 8 else "")
                raise LtrsysError(
                    f"step {step}: the loss is {value} on rank {self.world.rank}, whose micro-batch held the training "
                    f"samples {shown}. Lower train.optimizer.lr (it is {self.config.train.optimizer.lr}), add "
                    "train.schedule.warmup_epochs, or train in bf16; the last checkpoint stays."
                )

    def _log(self, factor: float, advance: Advance) -> None:
        values = self.meter.read(self.loader.stall_seconds)
        images = self.progress.step * self.config.train.batch_size
        values |= {"lr": self.config.train.optimizer.lr * factor, "images": images}
        self.tracker.log(self.progress.step, {"epoch": self.progress.step / self.steps_per_epoch, **values})
        advance(0, f"loss {values['loss']:.3f}, {values['images_per_second']:.0f} images/s")

    def _finish_epoch(self) -> None:
        """Evaluate and save, where they are due."""
        epoch, settings = self.progress.epoch, self.config.train
        last = epoch == settings.epochs
        evaluate = self.val_split is not None and (last or epoch % settings.evaluate_every == 0)
        save = last or epoch % settings.checkpoint_every == 0
        if not (evaluate or save):
            return
        average_buffers(self.engine.network, self.world)
        is_best = evaluate and self._evaluate()
        if save or is_best:
            # Gathering the momentum takes all ranks at ZeRO-1; writing it takes one.
            self.progress.scaler = self.engine.scaler_state()
            checkpoint = Checkpoint(self.engine.network.state_dict(), self.engine.momentum(), self.progress)
            if self.world.is_main and save:
                checkpoint.save(self.run.checkpoints / LAST)
            if self.world.is_main and is_best:
                checkpoint.save(self.run.checkpoints / BEST)

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
        parts = [f"{self.run.path}: trained {self.progress.epoch} epochs, {self.progress.step} steps."]
        if self.progress.accuracies:
            parts.append(f"{_describe(self.progress.accuracies)} (best: epoch {self.progress.best_epoch}).")
        if self.loader.bytes_used:
            parts.append(f"Bytes read over bytes used: {self.loader.bytes_read / self.loader.bytes_used:.2f}.")
        return "\n".join(parts)

    def _find_checkpoint(self) -> Checkpoint | None:
        path = self.run.checkpoints / LAST
        if not path.exists():
            self._refuse_to_overwrite()
            return None
        checkpoint = Checkpoint.load(path)
        check_same_experiment(checkpoint.progress, self.config, self.dataset.fingerprint, path)
        return checkpoint

    def _refuse_to_overwrite(self) -> None:
        if self.run.model.exists():
            raise UsageError(
                f"{self.run.path}: holds a trained model, but no checkpoint to go on from. Choose another name, or "
                "move the folder away."
            )

    def _no_progress(self) -> Progress:
        return Progress(dataset=self.dataset.fingerprint, config=self.config.dump())

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


def _describe(accuracies: dict[str, float | None]) -> str:
    columns = (f"{shot} {'-' if value is None else f'{value:.1f}'}" for shot, value in accuracies.items())
    return f"val accuracy: {', '.join(columns)}"
