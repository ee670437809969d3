"""What trackers are told of a training besides its curves: what it takes, what it makes, and how it ends."""

import signal
from dataclasses import dataclass
from typing import Any

from ltrsys.config.schema import Config
from ltrsys.data.index.dataset import Dataset
from ltrsys.errors import LtrsysError
from ltrsys.runs.artifacts import dataset_artifact, model_artifact
from ltrsys.runs.folder import RunFolder
from ltrsys.runs.trackers.base import Artifact
from ltrsys.runs.tracking import MetricsLog
from ltrsys.training.checkpoints.checkpoint import Progress
from ltrsys.training.supervision.loss_watch import LossNotFinite
from ltrsys.training.supervision.requests import Stopped


def inputs_of_training(config: Config, run: RunFolder, dataset: Dataset) -> list[Artifact]:
    """Return the dataset's record, and the model that training starts from where that is another run's."""
    inputs = [dataset_artifact(run, dataset)]
    if config.train.from_run is not None:
        start = RunFolder(config.train.from_run)
        if start.model.exists() and start.config_file.exists():  # a run that goes on no longer needs it
            inputs.append(model_artifact(start, {}, inputs[0]))
    return inputs


def metadata_of_model(progress: Progress) -> dict[str, Any]:
    """Return what is told of a trained model beside its files."""
    return {
        "steps": progress.step,
        "epochs": progress.epoch,
        "val": progress.accuracies,
        "best_epoch": progress.best_epoch,
        "started_from": progress.started_from,
    }


@dataclass
class Ending:
    """Tells trackers of an end before the time: a loss that is not finite, a preemption, another rank's end."""

    tracker: MetricsLog | None = None
    """None as long as there is none."""

    def note(self, error: BaseException) -> None:
        """Take note of what training ends with, once all that can be saved is saved; the tracker is then closed."""
        if self.tracker is None:
            return
        if isinstance(error, LossNotFinite):
            self.tracker.alert("The loss is not finite", str(error), "error")
        elif isinstance(error, Stopped) and error.number == signal.SIGTERM:  # Ctrl-C needs no message to who pressed it
            self.tracker.alert("Training was preempted", str(error), "warn")
        self.tracker.note_failure(getattr(error, "exit_code", LtrsysError.exit_code))

    def tell(self, verdict: str) -> None:
        """Tell at once that this process is about to be ended because of another one, and close the tracker."""
        if self.tracker is not None:
            self.tracker.alert("Training was ended", verdict, "error")
            self.tracker.note_failure(LtrsysError.exit_code)
            self.tracker.close()
