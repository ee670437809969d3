"""What a server does with images that it was sent: prepares them, has them inferred, and puts the answer together."""

import asyncio
import io
import logging
import os
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import TypeVar

from PIL import Image
from starlette.requests import ClientDisconnect, Request

from ltrsys.data.index.records import SplitName
from ltrsys.data.validation.images import ImageRejectedError, as_stored
from ltrsys.errors import DataError, UsageError
from ltrsys.prediction.answers import Prediction, Wanted
from ltrsys.serving.batching import Batcher, Inferred
from ltrsys.serving.guards.limits import Budget, Limits, Refusal
from ltrsys.serving.guards.uploads import Upload, read_uploads
from ltrsys.serving.neighbours import SPLIT
from ltrsys.serving.schemas import AnswerInfo, PredictionInfo, PredictResponse, SimilarImage
from ltrsys.serving.served import Served

log = logging.getLogger("ltrsys")
T = TypeVar("T")

MOST_PREPARING = 4
"""Threads that decode what becomes another JPEG: each may hold a few copies of an image of the most pixels."""
LOOKING_UP = 2
"""Threads that find similar images and make thumbnails."""
ANSWERS_WITH_SIMILAR = 10
"""Of an image: beyond them no similar ones are looked for, as the features of many classes take long to read."""


class Service:
    """Answers requests within limits, from `start` to `close`. Its coroutines belong to one event loop."""

    def __init__(self, served: Served, limits: Limits) -> None:
        """Start no thread yet."""
        self.served, self.limits = served, limits
        self.queue = Budget(limits.queue, f"{limits.queue} images are waiting already. Try again in a second.")
        self._memory = Budget(limits.bytes_in_memory, "Too many uploads are under way. Try again in a second.")
        self._batcher = Batcher(served.predictors)
        cores = len(os.sched_getaffinity(0))
        self._preparing = ThreadPoolExecutor(min(MOST_PREPARING, cores), thread_name_prefix="prepare")
        self._looking_up = ThreadPoolExecutor(LOOKING_UP, thread_name_prefix="look-up")

    def start(self) -> None:
        """Start inference; the first batch of each classifier, which takes longer than others, is behind it then.

        Raises:
            LtrsysError: Where the model does not work on this machine.
        """
        self._batcher.start()
        blank = io.BytesIO()
        Image.new("RGB", (64, 64), "grey").save(blank, "JPEG")
        image = as_stored(blank.getvalue())
        try:
            for name in self.served.predictors:
                self._batcher.infer(image, name, Wanted(top=1)).result()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Answer what waits, and give up the threads."""
        self._batcher.close()
        self._preparing.shutdown(cancel_futures=True)
        self._looking_up.shutdown(cancel_futures=True)

    @property
    def is_ready(self) -> bool:
        """Whether images can be inferred."""
        return self._batcher.is_working

    async def predict(self, request: Request, classifier: str | None, wanted: Wanted, similar: int) -> PredictResponse:
        """Name the images of a request.

        Args:
            request: Its body has not been read.
            classifier: As the client names it.
            wanted: What is asked of each image.
            similar: How many training images of each class to show.

        Raises:
            Refusal: With the status that the client is to have.
            starlette.requests.ClientDisconnect: Where the client has gone; its images are not inferred then.
        """
        name = self.served.named(classifier)
        try:
            self.served.predictors[name].answerer(wanted)
        except UsageError as error:
            raise Refusal(422, str(error)) from None
        if self.queue.is_exhausted:
            raise self.queue.refusal()
        with self._memory.share() as memory, self.queue.share() as places:
            uploads = await read_uploads(request, self.limits, memory)
            places.take(len(uploads))
            try:
                async with asyncio.timeout(self.limits.answer_seconds):
                    naming = [self._name(upload, name, wanted, similar) for upload in uploads]
                    predictions = await _while_connected(request, asyncio.gather(*naming))
            except TimeoutError:
                seconds = self.limits.answer_seconds
                raise Refusal(504, f"There was no answer within {seconds:g} seconds.", retry_after=5) from None
        if all(prediction.status == "unreadable" for prediction in predictions):
            raise Refusal(422, _unreadable(predictions))
        return PredictResponse(classifier=name, predictions=predictions)

    async def thumbnail(self, split: SplitName, sample: int) -> bytes:
        """Return the thumbnail of an image in the shards, a JPEG.

        Raises:
            Refusal: 404 where there is none.
        """
        thumbnails = self.served.thumbnails
        if thumbnails is None or not thumbnails.has(split, sample):
            raise Refusal(404, "There is no such image.")
        try:
            return await _in(self._looking_up, partial(thumbnails.read, split, sample))
        except DataError as error:
            log.warning("%s", error)
            raise Refusal(404, "This image cannot be read.") from None

    async def _name(self, upload: Upload, classifier: str, wanted: Wanted, similar: int) -> PredictionInfo:
        reduced_to = self.served.default.signature.preprocessing.reduced_to
        stored = partial(as_stored, upload.data, resize=reduced_to, max_pixels=self.limits.pixels)
        try:
            image = await _in(self._preparing, stored)
        except ImageRejectedError as error:
            return _info(Prediction.unreadable(upload.name, str(error)), [])
        try:
            inferred = await asyncio.wrap_future(self._batcher.infer(image, classifier, wanted))
        except Exception:
            raise Refusal(500, "This image could not be inferred; the log of the server says why.") from None
        prediction = replace(inferred.prediction, path=upload.name)
        return _info(prediction, await self._similar(inferred, classifier, similar))

    async def _similar(self, inferred: Inferred, classifier: str, count: int) -> list[list[SimilarImage]]:
        """Return the similar training images of the first classes that were answered."""
        neighbours = self.served.neighbours.get(classifier)
        if neighbours is None or count == 0:
            return []
        answers = inferred.prediction.answers[:ANSWERS_WITH_SIMILAR]
        classes = [answer.class_id for answer in answers if answer.class_id is not None]
        found = await _in(self._looking_up, partial(neighbours.nearest, inferred.features_D, classes, count))
        return [
            [
                SimilarImage(sample=one.sample, similarity=one.similarity, thumbnail=f"thumbnails/{SPLIT}/{one.sample}")
                for one in nearest
            ]
            for nearest in found
        ]


def _info(prediction: Prediction, similar: Sequence[list[SimilarImage]]) -> PredictionInfo:
    values = {key: value for key, value in prediction.to_json().items() if key in PredictionInfo.model_fields}
    padded = [*similar, *([[]] * (len(prediction.answers) - len(similar)))]
    answers = [AnswerInfo(**answer, similar=own) for answer, own in zip(values.pop("answers"), padded, strict=True)]
    return PredictionInfo(**values, answers=answers)


def _unreadable(predictions: Sequence[PredictionInfo]) -> str:
    first = predictions[0]
    if len(predictions) == 1:
        return f"This image cannot be named: {first.problem}."
    return f"None of these {len(predictions)} images can be named. {first.path}: {first.problem}."


async def _in(threads: ThreadPoolExecutor, task: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(threads, task)


async def _while_connected(request: Request, work: Awaitable[T]) -> T:
    """Wait for work, whose client may go: the work is then dropped."""
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait([task, gone], return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        task.cancel()
        gone.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
