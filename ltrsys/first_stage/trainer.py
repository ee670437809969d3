"""The first stage: backbone and classifier together (paper, section 3)."""

import logging
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice

import torch
import torch.distributed as dist

from ltrsys.config.reading import save_config
from ltrsys.config.schema import Config
from ltrsys.data.loading.loader import Batch, TrainLoader
from ltrsys.data.plan.batching import Batching
from ltrsys.data.reading.opening import open_dataset
from ltrsys.data.reading.quarantine import Quarantine
from ltrsys.device import set_up_gpu, within_memory
from ltrsys.errors import DataError
from ltrsys.first_stage.evaluating import Evaluator
from ltrsys.first_stage.from_run import STARTED_FROM
from ltrsys.first_stage.head_start import begin_head
from ltrsys.first_stage.resuming import as_begun
from ltrsys.first_stage.saving import Saver
from ltrsys.first_stage.starting import (
    check_images_of_a_class,
    check_start,
    engine_of_training,
    find_checkpoint,
    finished,
    images_at_once,
    initial_network,
    initial_objective,
    no_progress,
    number_of_attempt,
    planner_of_training,
    plans_of_this_node,
    with_layout,
)
from ltrsys.first_stage.telling import conclusion, describe_processes, describe_run
from ltrsys.first_stage.tracking import Ending, inputs_of_training, metadata_of_model
from ltrsys.models.image_size import check_image_size
from ltrsys.models.network import Network
from ltrsys.models.signature import Signature
from ltrsys.models.stored.weights import save_network
from ltrsys.progress import Advance, progress
from ltrsys.runs.artifacts import model_artifact
from ltrsys.runs.audit_log import AuditLog
from ltrsys.runs.folder import RunFolder
from ltrsys.runs.lock import locked
from ltrsys.runs.metric_names import EPOCH, IMAGES, IMAGES_PER_SECOND, LEARNING_RATE, LOSS
from ltrsys.runs.tracking import MetricsLog
from ltrsys.runs.trained_on import keep_record
from ltrsys.second_stage.fitting import evaluated_split, nothing_to_report_on
from ltrsys.training.average import average_of
from ltrsys.training.checkpoints.folder import CheckpointFolder
from ltrsys.training.checkpoints.rank_state import restore_rank_state
from ltrsys.training.engines.batch_norm import average_buffers
from ltrsys.training.memory import memory_advice
from ltrsys.training.meter import Meter
from ltrsys.training.mixing import mixed
from ltrsys.training.supervision.loss_watch import LossWatch
from ltrsys.training.supervision.process_group import process_group
from ltrsys.training.supervision.requests import Request, Requests
from ltrsys.training.supervision.watchdog import Reached, watched
from ltrsys.world import World

log = logging.getLogger("ltrsys")


def train(config: Config, world: World) -> None:
    """Train what `config` describes, together with the other ranks, from its last checkpoint if there is one.

    A finished run is left as it is.

    Raises:
        UsageError: Where the config does not fit the machine, the dataset or the run begun before, or its network its
            image size, or where another training goes on in its folder.
        Stopped: After a signal, once the run's state is saved.
        LtrsysError: For a damaged shard or checkpoint, a full disk, or a loss that is not finite.
    """
    if done := finished(config):
        if world.is_main:
            print(f"{describe_run(config, done)}\nThere is nothing left to do.")
        return
    one_by_one = config.train.micro_batch_size == 1 and config.train.trainable != "classifier"
    check_image_size(config.model, config.data.image_size, one_by_one=one_by_one)
    for size in config.data.smaller_sizes:
        check_image_size(config.model, size, one_by_one=one_by_one, said=f"{size} pixels, which data.progressive makes")
    check_start(config)
    timeout = config.train.timeout_seconds
    with ExitStack() as stack:
        device = stack.enter_context(process_group(world, timeout, config.train.device))
        set_up_gpu(device, cudnn_benchmark=config.train.cudnn_benchmark, tf32=config.train.tf32)
        if world.is_main:
            log.info("%s", describe_processes(config, world, device))
        ending = stack.enter_context(Ending())
        reached = stack.enter_context(watched(world, timeout, ending.tell))
        if world.is_main:
            stack.enter_context(locked(RunFolder(config.run_folder), timeout))
        dist.barrier()  # before it, no rank looks for a checkpoint: the training before may still be writing one
        trainer = Trainer(config, world, device, reached, ending)
        try:
            trainer.fit()
        finally:
            trainer.close()


class Trainer:
    """The parts of a run, and the loop over them; it tells `reached` where it is, and `ending` closes its tracker."""

    def __init__(
        self,
        config: Config,
        world: World,
        device: torch.device,
        reached: Reached = lambda doing: None,
        ending: Ending | None = None,
    ) -> None:
        self.config, self.world, self.device, self.reached = config, world, device, reached
        self.run = RunFolder(config.run_folder)
        self.dataset = open_dataset(config.data)
        self.train_split = self.dataset.split("train")
        if world.is_main and evaluated_split(self.dataset) is None:  # else `balance` is the first to say so
            log.warning("%s", nothing_to_report_on(self.dataset))
        self.requests: Requests | None = None
        self.ending = ending
        with ExitStack() as stack:  # what has been opened is closed where a later part fails
            stack.callback(self._give_signals_back)
            self._open(stack)
            self._stack = stack.pop_all()

    def _open(self, stack: ExitStack) -> None:
        config, world, device = self.config, self.world, self.device
        shared = plans_of_this_node() if world.local_world_size > 1 else None
        planner = planner_of_training(config, self.train_split, shared)
        self.checkpoints = CheckpointFolder(self.run.checkpoints, kept=config.train.keep_checkpoints)
        stack.callback(self.checkpoints.close)
        checkpoint = find_checkpoint(self.run, self.checkpoints, config, self.dataset)
        if checkpoint:
            self.config = config = as_begun(config, checkpoint.progress, told=world.is_main)
        network = initial_network(config, self.dataset, checkpoint, device)
        if checkpoint is None:
            self.reached("measuring what the head begins with")
            begin_head(network, config, self.dataset, world, device)
        objective = initial_objective(config, self.train_split.class_counts, network, checkpoint)
        size = images_at_once(config, world, network, objective, checkpoint)
        self.reached("choosing the layout of images and weights")
        self.config = config = with_layout(config, world, network, size, checkpoint, device)
        self.batching = Batching(config.train.batch_size, size, world, config.data.lanes, planner.samples_per_draw)
        check_images_of_a_class(config, self.batching)
        self.steps_per_epoch = self.batching.steps_per_epoch(planner.samples_per_epoch)
        self.progress = checkpoint.progress if checkpoint else no_progress(config, self.dataset, self.batching)
        self.progress.world_size = world.world_size

        self.average = average_of(network, config.train, world.rank)
        if checkpoint and self.average:
            self.average.load_state(checkpoint.average)
        self.engine = engine_of_training(config, network, objective, self.batching, checkpoint)
        stack.callback(self.engine.close)
        self.meter = Meter(world, device)
        if checkpoint:
            # Only now: an engine begins by giving every rank the first one's buffers.
            averaged = self.average.network if self.average else None
            unlogged_loss = restore_rank_state(checkpoint.ranks, self.engine.network, world, averaged)
            self.meter.restore(unlogged_loss, checkpoint.progress.unlogged_steps)

        self.loader = TrainLoader(
            self.train_split,
            config.data,
            planner=planner,
            batching=self.batching,
            seed=config.seed,
            device=device,
            channels_last=config.train.in_channels_last,
            quarantine=Quarantine.of(self.train_split, config.data, self.run.quarantine),
        )
        stack.callback(self.loader.close)
        if world.is_main:
            save_config(config, self.run.config_file)
            keep_record(self.run, self.dataset)
        begins = checkpoint is None
        self.tracker = MetricsLog(self.run, config, world, run_ids=self.progress.tracking_runs, begins=begins)
        if self.ending is None:
            stack.callback(self.tracker.close)
        else:
            self.ending.tracker = self.tracker
        self.tracker.rewind(self.progress.step)
        self.progress.tracking_runs = self.tracker.run_ids
        self.inputs = inputs_of_training(config, self.run, self.dataset) if self.tracker.tracked else []
        for artifact in self.inputs:
            self.tracker.log_artifact(artifact)
        self.audit = AuditLog(
            self.run.audit,
            attempt=number_of_attempt(self.run, self.progress, self.batching, device),
            rank=world.rank,
            micro_batch_size=self.batching.micro_batch_size,
        )
        stack.callback(self.audit.close)
        self.evaluator = Evaluator.of(config, self.dataset, self.batching, device, self.progress, self.tracker)
        self.losses = LossWatch(world.rank, config.train.optimizer.lr)
        self.requests = Requests(world, device, minutes=config.train.checkpoint_every_minutes)
        self.saver = Saver(
            self.run,
            world,
            device,
            self.progress,
            self.engine,
            self.average,
            self.meter,
            self.checkpoints,
            self.audit,
            self.tracker,
            self.losses,
            self.requests,
            self.reached,
        )

    @property
    def result(self) -> Network:
        """What is evaluated, compared and saved as the run's model: the averaged network where there is one."""
        return self.engine.network if self.average is None else self.average.network

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
                    self.saver.stop()
        average_buffers(self.result, self.world)
        self.checkpoints.wait()
        fetched = torch.full((), self.loader.bytes_fetched, dtype=torch.int64, device=self.device)
        dist.all_reduce(fetched)
        if shown:
            origin = self.progress.started_from
            metadata = Signature.of(self.dataset.record, self.config.data).metadata()
            save_network(self.result, self.run.model, metadata | ({} if origin is None else {STARTED_FROM: origin}))
            self.tracker.log_artifact(model_artifact(self.run, metadata_of_model(self.progress), *self.inputs))
            print(conclusion(self.config, self.progress, self.dataset, self.world, int(fetched)))

    def close(self) -> None:
        """Give up files, threads and hooks, and the signals last; all of them, whatever fails."""
        self._stack.close()

    def _give_signals_back(self) -> None:
        if self.requests:
            self.requests.close()

    def _train_epoch(self, epoch: int, advance: Advance) -> Request:
        """Run the steps of an epoch that are left; return what was asked for at the last of them."""
        requests, first = self.saver.requests, self.progress.step - epoch * self.steps_per_epoch
        if first == 0:
            # Dropout and its like, where a network has them: other numbers on every rank and in every epoch.
            torch.manual_seed(hash((self.config.seed, epoch, self.world.rank)))
        self.engine.network.train()
        self.engine.objective.begin_epoch(epoch)
        micro_batches = self.loader.epoch(epoch, first)
        self._ask_for_an_end_where_data_is_bad()
        if requests.agreed_at_once() is Request.FAIL:
            self.saver.stop_for_bad_data(self.loader.failure, save=self.progress.step > 0)
        asked = Request.NOTHING
        for step_of_epoch in range(first, self.steps_per_epoch):
            self.reached(f"reading the data of step {self.progress.step + 1}")
            factor = self._step(epoch, list(islice(micro_batches, self.batching.accumulation)))
            last = self.progress.step == self.config.train.epochs * self.steps_per_epoch
            if self.progress.step % self.config.train.log_every == 0 or last:
                self._log(factor, advance)
            advance()
            self._ask_for_an_end_where_data_is_bad()
            asked = requests.agreed()
            if asked is Request.FAIL:
                self.saver.stop_for_bad_data(self.loader.failure, save=True)
            every = self.config.train.checkpoint_every_steps
            due = bool(every and self.progress.step % every == 0)
            if (asked or due) and step_of_epoch + 1 < self.steps_per_epoch:
                with self._apart_from_training():
                    self.saver.save()
                if asked is Request.STOP:
                    self.saver.stop()
        self.saver.check()
        return asked

    def _step(self, epoch: int, micro_batches: list[Batch]) -> float:
        """Run one optimizer step; return its learning rate factor."""
        self.reached(f"training step {self.progress.step + 1}")
        factor = self.config.train.schedule.factor(
            self.progress.step, steps_per_epoch=self.steps_per_epoch, epochs=self.config.train.epochs
        )
        losses = [self._accumulate(epoch, batch, last=batch is micro_batches[-1]) for batch in micro_batches]
        self.engine.step(factor)
        self.meter.add(torch.stack(losses).mean(), self.config.train.batch_size)
        self.progress.step += 1
        if self.average is not None:
            self.average.update(self.engine.network, self.progress.step)
        self.losses.add(self.progress.step, [batch.samples for batch in micro_batches], losses)
        for batch in micro_batches:
            self.audit.add(self.progress.step, epoch, batch.positions, batch.samples.numpy())
        return factor

    def _accumulate(self, epoch: int, batch: Batch, *, last: bool) -> torch.Tensor:
        images, others = mixed(batch, self.config.train, seed=self.config.seed, epoch=epoch)
        return self.engine.accumulate(images, batch.labels, last=last, mixed=others)

    def _ask_for_an_end_where_data_is_bad(self) -> None:
        if self.loader.failure:
            self.saver.requests.fail()

    def _log(self, factor: float, advance: Advance) -> None:
        values = self.meter.read(self.loader.stall_seconds)
        images = self.progress.step * self.config.train.batch_size
        values |= {LEARNING_RATE.key: self.config.train.optimizer.lr * factor, IMAGES.key: images}
        self.tracker.log(self.progress.step, {EPOCH.key: self.progress.step / self.steps_per_epoch, **values})
        advance(0, f"loss {values[LOSS.key]:.3f}, {values[IMAGES_PER_SECOND.key]:.0f} images/s")

    def _finish_epoch(self, asked: Request) -> None:
        """Evaluate and save, where they are due."""
        epoch, settings = self.progress.epoch, self.config.train
        last = epoch == settings.epochs
        is_best = False
        try:
            if self.evaluator and (last or epoch % settings.evaluate_every == 0):
                self.reached(f"evaluating after step {self.progress.step}")
                is_best = self.evaluator.evaluate(self.result)
        except DataError:  # on all ranks together; the run goes on with this evaluation
            self.progress.epoch -= 1
            self.saver.save()
            self.saver.is_written()
            raise
        every = settings.checkpoint_every_steps
        due = last or epoch % settings.checkpoint_every == 0 or bool(every and self.progress.step % every == 0)
        if due or asked or is_best:
            self.saver.save(best=is_best, last=due or bool(asked))

    @contextmanager
    def _apart_from_training(self) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.meter.skip(time.perf_counter() - started)
