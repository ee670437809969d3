"""What trackers are told of a training besides its curves: what it takes, what it makes, and how it ends."""

import signal
from typing import Any, Self

from ltrsys.config.schema import Config
from ltrsys.data.index.dataset import Dataset
from ltrsys.errors import LtrsysError
from ltrsys.runs.artifacts import dataset_artifact, model_artifact
from ltrsys.runs.folder import RunFolder
from ltrsys.runs.trackers.base import Artifact
from ltrsys.runs.tracking import MetricsLog
from ltrsys.training.average import AverageNotFinite
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


class Ending:
    """Closes the tracker of a training, and tells it of an end before the time.

    It is entered before the ranks are watched: where communication fails, the tracker stays open until it is known
    which rank is to blame. All that can be saved is saved by then.
    """

    def __init__(self) -> None:
        self.tracker: MetricsLog | None = None
        """None as long as there is none."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if self.tracker is not None:
            if error is not None:
                self._tell(error, self.tracker)
            self.tracker.close()

    def tell(self, verdict: str) -> None:
        """Tell at once that this process is about to be ended because of another one, and close the tracker."""
        if self.tracker is not None:
            self.tracker.alert("Training was ended", verdict, "error")
            self.tracker.note_failure(LtrsysError.exit_code)
            self.tracker.close()

    @staticmethod
    def _tell(error: BaseException, tracker: MetricsLog) -> None:
        by_hand = isinstance(error, KeyboardInterrupt) or (isinstance(error, Stopped) and error.number == signal.SIGINT)
        if isinstance(error, LossNotFinite):
            tracker.alert("The loss is not finite", str(error), "error")
        elif isinstance(error, AverageNotFinite):
            tracker.alert("The averaged weights are not finite", str(error), "error")
        elif isinstance(error, Stopped) and not by_hand:
            tracker.alert("Training was preempted", str(error), "warn")
        elif not by_hand:
            tracker.alert("Training ended with an error", str(error) or type(error).__name__, "error")
        tracker.note_failure(getattr(error, "exit_code", LtrsysError.exit_code))
