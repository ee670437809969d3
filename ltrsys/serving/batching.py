"""The thread that infers: what waits when it becomes free goes through the network as one batch.

Nothing is waited for: while a batch is in work, others gather, the more of them the more clients there are. An image
that comes alone begins at once.
"""

import logging
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from threading import Condition, Thread

import numpy as np
from numpy.typing import NDArray

from ltrsys.data.validation.images import StoredImage
from ltrsys.prediction.answers import Prediction, Wanted
from ltrsys.prediction.images.collections import InMemory
from ltrsys.prediction.predictor import Predictor

log = logging.getLogger("ltrsys")

PIXELS_OF_A_BATCH = 128_000_000
"""Decoded together, unless one image alone has more: 384 MB."""


@dataclass(frozen=True)
class Inferred:
    """What is made of one image."""

    prediction: Prediction
    features_D: NDArray[np.float32]


@dataclass(frozen=True)
class _Waiting:
    image: StoredImage
    classifier: str
    wanted: Wanted
    answer: Future[Inferred] = field(default_factory=Future)


class Batcher:
    """Infers in a thread of its own, from `start` to `close`."""

    def __init__(self, predictors: Mapping[str, Predictor]) -> None:
        """Start nothing yet; the predictors, by classifier, are used by no other thread from then on."""
        self._predictors = predictors
        self._waiting: deque[_Waiting] = deque()
        self._changed = Condition()
        self._closing = False
        self._thread = Thread(target=self._work, name="inference", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self) -> None:
        """Infer what waits, then end the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    @property
    def is_working(self) -> bool:
        """Whether the thread is there."""
        return self._thread.is_alive()

    def infer(self, image: StoredImage, classifier: str, wanted: Wanted) -> Future[Inferred]:
        """Have an image inferred; one whose future is cancelled before its turn is left out.

        Args:
            image: As `ltrsys.data.validation.images.as_stored` makes it.
            classifier: One of the predictors'.
            wanted: What is asked of it, which the predictor's `answerer` has not refused.
        """
        waiting = _Waiting(image, classifier, wanted)
        with self._changed:
            self._waiting.append(waiting)
            self._changed.notify()
        return waiting.answer

    def _work(self) -> None:
        try:
            while batch := self._next_batch():
                self._infer(batch)
        finally:
            for predictor in self._predictors.values():
                predictor.close()

    def _next_batch(self) -> list[_Waiting]:
        """Wait for images; return the oldest, and those of its classifier that may go with it; none at the end."""
        batch: list[_Waiting] = []
        with self._changed:
            while not batch:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                if not self._waiting:
                    return []
                batch = self._taken()
        return batch

    def _taken(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        others: deque[_Waiting] = deque()
        pixels = 0
        while self._waiting and (not batch or len(batch) < self._predictors[batch[0].classifier].batch_size):
            one = self._waiting.popleft()
            size = one.image.width * one.image.height
            if batch and (one.classifier != batch[0].classifier or pixels + size > PIXELS_OF_A_BATCH):
                others.append(one)
            elif one.answer.set_running_or_notify_cancel():
                batch.append(one)
                pixels += size
        self._waiting.extendleft(reversed(others))
        return batch

    def _infer(self, batch: list[_Waiting]) -> None:
        try:
            found = self._inferred(batch)
        except Exception as error:  # of a GPU without memory, or of a classifier of somebody's own
            log.exception("A batch of %d images could not be inferred.", len(batch))
            for one in batch:
                one.answer.set_exception(error)
            return
        for one, inferred in zip(batch, found, strict=True):
            one.answer.set_result(inferred)

    def _inferred(self, batch: list[_Waiting]) -> list[Inferred]:
        predictor = self._predictors[batch[0].classifier]
        images = InMemory([one.image.jpeg for one in batch])
        found: list[Inferred] = []
        for scored in predictor.run(images, range(len(images))):
            features_BD = scored.features_BD.cpu().numpy()
            ranking_BK = predictor.ranking(scored, max(one.wanted.top for one in batch))
            for row, place in enumerate(scored.places):
                wanted = batch[place].wanted
                (prediction,) = predictor.answerer(wanted).predictions(
                    [images.name(place)], scored.row(row), ranking_BK[row : row + 1, : wanted.top]
                )
                found.append(Inferred(prediction, features_BD[row]))
        return found
