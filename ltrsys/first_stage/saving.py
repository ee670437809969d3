"""Saving a run, and ending it with its state on the disk: what all ranks do together."""

from dataclasses import dataclass
from typing import NoReturn

import torch
import torch.distributed as dist

from ltrsys.errors import DataError, LtrsysError
from ltrsys.runs.audit_log import AuditLog
from ltrsys.runs.folder import RunFolder
from ltrsys.runs.tracking import MetricsLog
from ltrsys.training.average import WeightAverage
from ltrsys.training.checkpoints.checkpoint import Checkpoint, Progress
from ltrsys.training.checkpoints.folder import CheckpointFolder
from ltrsys.training.checkpoints.rank_state import AVERAGE_BUFFERS, gather_rank_state, mean_buffers
from ltrsys.training.engines.engine import Engine
from ltrsys.training.meter import Meter
from ltrsys.training.supervision.failures import first_failure
from ltrsys.training.supervision.loss_watch import LossWatch
from ltrsys.training.supervision.requests import Requests, Stopped
from ltrsys.training.supervision.watchdog import Reached
from ltrsys.world import World

_GOES_ON_EARLIER = "Put right what the warning above says; the same command goes on from the last good checkpoint."


@dataclass(frozen=True)
class Saver:
    """Writes the checkpoints of a run, and ends it after one."""

    run: RunFolder
    world: World
    device: torch.device
    progress: Progress
    engine: Engine
    average: WeightAverage | None
    meter: Meter
    checkpoints: CheckpointFolder
    audit: AuditLog
    tracker: MetricsLog
    losses: LossWatch
    requests: Requests
    reached: Reached

    def save(self, *, best: bool = False, last: bool = True) -> None:
        """Save the run as it is: as its last checkpoint, as its best, or as both. Called by all ranks together."""
        self.reached(f"saving after step {self.progress.step}")
        self.check()  # what is not finite must not be saved
        self.audit.sync()
        self.tracker.sync()
        loss, self.progress.unlogged_steps = self.meter.unlogged
        self.progress.scaler = self.engine.scaler_state()
        # Gathering takes all ranks; writing takes one.
        averaged = None if self.average is None else self.average.network
        ranks = gather_rank_state(self.engine.network, loss, self.world, averaged)
        optimizer = self.engine.optimizer_state()
        network = self.engine.network.state_dict() | mean_buffers(ranks)
        average = {} if self.average is None else self.average.state() | mean_buffers(ranks, AVERAGE_BUFFERS)
        checkpoint = Checkpoint(network, optimizer, self.progress, ranks, self.engine.objective.state(), average)
        if self.world.is_main:
            self.checkpoints.save(checkpoint, best=best, last=last)
        if last:  # nothing goes on from the best one
            self.requests.granted()

    def check(self) -> None:
        """Look at all steps so far for what is not finite.

        Raises:
            LossNotFinite: For a loss.
            AverageNotFinite: For the averaged weights.
        """
        self.losses.check()
        if self.average is not None:
            self.average.check(self.progress.step)

    def stop(self) -> NoReturn:
        """End after a signal, the state being saved: every rank with the same line."""
        stopped = f"{self.run.path}: stopped by a signal after step {self.progress.step}, whose state"
        if not self.is_written():
            raise LtrsysError(f"{stopped} could not be saved. {_GOES_ON_EARLIER}")
        raise Stopped(f"{stopped} is saved. The same command goes on from there.", self.requests.signal)

    def is_written(self) -> bool:
        """Wait until the first rank has written the last checkpoint; return whether it could. Called by all ranks."""
        self.reached(f"stopping after step {self.progress.step}")
        written = torch.tensor(int(self.checkpoints.wait()), device=self.device)
        dist.broadcast(written, src=0)  # before it, no rank ends: a launcher may then kill the one that still writes
        return bool(written)

    def stop_for_bad_data(self, failure: LtrsysError | None, *, save: bool) -> NoReturn:
        """Save the last finished step, and end on every rank with what the first one that failed says."""
        message = first_failure(self.world, self.device, failure)
        if not save:
            raise DataError(message)
        self.save()
        stopped = f"{message} {self.run.path}: stopped after step {self.progress.step}, whose state"
        if not self.is_written():
            raise DataError(f"{stopped} could not be saved. {_GOES_ON_EARLIER}")
        raise DataError(f"{stopped} is saved; the same command goes on from there.")
