"""The accuracies on val that a run logs on its way."""

import logging
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch

from ltrsys.config.schema import Config
from ltrsys.data.index.dataset import Dataset, Split
from ltrsys.data.loading.loader import EvaluationLoader
from ltrsys.data.plan.batching import Batching
from ltrsys.first_stage.telling import describe_accuracies
from ltrsys.metrics.accuracy import accuracy_by_column, shot_of_class
from ltrsys.models.network import Network
from ltrsys.runs.metric_names import BEST, EPOCH, VAL
from ltrsys.runs.tracking import MetricsLog
from ltrsys.training.checkpoints.checkpoint import Progress
from ltrsys.training.engines.batch_norm import average_buffers
from ltrsys.training.validation import predict_split

log = logging.getLogger("ltrsys")


@dataclass(frozen=True)
class Evaluator:
    """Measures a network on val, all ranks together, and takes note of it."""

    config: Config
    train_split: Split
    """Whose class counts say which classes are many, medium and few."""
    val_split: Split
    batching: Batching
    device: torch.device
    progress: Progress
    tracker: MetricsLog

    @classmethod
    def of(
        cls,
        config: Config,
        dataset: Dataset,
        batching: Batching,
        device: torch.device,
        progress: Progress,
        tracker: MetricsLog,
    ) -> Self | None:
        """Return what measures on the val split of `dataset`; None where it has none."""
        if not dataset.has("val"):
            return None
        return cls(config, dataset.split("train"), dataset.split("val"), batching, device, progress, tracker)

    def evaluate(self, network: Network) -> bool:
        """Measure and log the accuracies on val; return whether they are the best so far.

        Raises:
            DataError: On every rank, where one met an image that it could not read.
        """
        average_buffers(network, self.batching.world)
        loader = EvaluationLoader(
            self.val_split,
            self.config.data,
            batch_size=self.batching.micro_batch_size,
            world=self.batching.world,
            device=self.device,
            channels_last=self.config.train.in_channels_last,
        )
        try:
            predictions = predict_split(network, loader, len(self.val_split), self.config.train)
        finally:
            loader.close()
        shots = shot_of_class(self.train_split.class_counts, self.config.shots)
        accuracies = accuracy_by_column(self.val_split.label.astype(np.int64), predictions, shots)
        self.progress.accuracies = accuracies
        by = self.config.train.select_by
        best, accuracy = self.progress.best_accuracy, accuracies["all" if by == "accuracy" else by]
        is_best = accuracy is not None and (best is None or accuracy > best)
        if is_best:
            self.progress.best_accuracy, self.progress.best_epoch = accuracy, self.progress.epoch
        named = {VAL[column].key: value for column, value in accuracies.items()}
        self.tracker.log(
            self.progress.step,
            {EPOCH.key: float(self.progress.epoch), **named, BEST.key: self.progress.best_accuracy},
        )
        if self.batching.world.is_main:
            log.info("epoch %d: %s", self.progress.epoch, describe_accuracies(accuracies))
        return is_best
