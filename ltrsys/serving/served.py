"""What is served of a run: its classifiers, by name, and what is known of the classes and their training images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from os import PathLike
from typing import Self

import numpy as np

from ltrsys.metrics.accuracy import shot_of_class
from ltrsys.prediction.predictor import Predictor
from ltrsys.registry import nearest
from ltrsys.section import DeviceName
from ltrsys.serving.guards.limits import Refusal
from ltrsys.serving.neighbours import Neighbours
from ltrsys.serving.schemas import ClassInfo
from ltrsys.serving.thumbnails import Thumbnails


@dataclass(frozen=True)
class Served:
    """Classifiers of one run, which share its network."""

    predictors: Mapping[str, Predictor]
    """By classifier; the first answers where none is named."""
    neighbours: Mapping[str, Neighbours]
    """By classifier; empty where the run does not hold its features."""
    thumbnails: Thumbnails | None
    """None where the shards are not on this machine."""

    @classmethod
    def load(
        cls,
        run: str | PathLike[str],
        classifiers: Sequence[str] = (),
        *,
        device: DeviceName = "auto",
        batch_size: int | None = None,
    ) -> Self:
        """Load a run.

        Args:
            run: The run folder.
            classifiers: Which of its classifiers are served; if none is given, the one that `Predictor.load` takes.
            device: `auto` is the GPU where there is one.
            batch_size: Images that go through the network at once; `balance.feature_batch_size` if not given.

        Raises:
            UsageError: For a folder that is no finished run, or a classifier that is unknown or not fitted.
            DataError: Where files of the run do not belong together, or are damaged.
        """
        names: Sequence[str | None] = list(classifiers) or [None]
        loaded = [Predictor.load(run, classifier=name, device=device, batch_size=batch_size) for name in names]
        backbone = loaded[0].model.backbone
        predictors = {
            predictor.classifier: replace(predictor, model=replace(predictor.model, backbone=backbone))
            for predictor in loaded
        }
        thumbnails = Thumbnails.of(loaded[0].model)
        found = {} if thumbnails is None else {name: Neighbours.of(one) for name, one in predictors.items()}
        return cls(predictors, {name: one for name, one in found.items() if one is not None}, thumbnails)

    @property
    def default(self) -> Predictor:
        """What answers where no classifier is named."""
        return next(iter(self.predictors.values()))

    @property
    def model(self) -> str:
        """The name of the run."""
        return self.default.model.config.name

    def named(self, classifier: str | None) -> str:
        """Return the name of a classifier that is served: the one that a client names, or the default.

        Raises:
            Refusal: 404, with the nearest name.
        """
        if classifier is None:
            return self.default.classifier
        if classifier not in self.predictors:
            raise Refusal(404, f"This server has no classifier of that name. {nearest(classifier, self.predictors)}")
        return classifier

    @cached_property
    def classes(self) -> list[ClassInfo]:
        """What is known of each class, [C]."""
        signature = self.default.signature
        shots = shot_of_class(np.array(signature.train_counts, dtype=np.int64), self.default.model.config.shots)
        return [
            ClassInfo(
                class_id=number,
                name=record.name,
                train_images=count,
                shot=shot,
                taxonomy=record.taxonomy,
            )
            for number, (record, count, shot) in enumerate(
                zip(signature.classes, signature.train_counts, shots.tolist(), strict=True)
            )
        ]
