"""Predictions of a job until all of them are there, in files that are written whole.

A part holds on its first line the names and versions of its images, and a prediction on each other line. Of a class it
keeps the number and the probability alone: what else is said of it is known from the model.
"""

import json
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ltrsys.errors import DataError
from ltrsys.files import replaced
from ltrsys.prediction.answers import Answer, Prediction, Taxon, Unlikeness
from ltrsys.prediction.images.collections import Images

FORMAT = 2
"""Of the parts; the first held all that is said of each class."""
IMAGES_OF_A_PART, SECONDS_OF_A_PART = 4096, 20.0
"""A part is written when it has so many images, or so much time has passed: that much is lost where a job is killed."""
PARTS_OPEN = 64
"""Parts that are held in memory while the table is put together."""

AnswerOf = Callable[[int, float], Answer]
"""From a class and its probability to what is said of it."""


class PartWriter:
    """Keeps predictions as they come."""

    def __init__(self, folder: Path, images: Images, rank: int) -> None:
        """Go on after the parts that were written before, by whichever rank: a later one counts."""
        self._folder, self._all_images, self._rank = folder, images, rank
        self._number = 1 + max(map(_number_of, folder.glob("*-*.jsonl")), default=-1)
        self._images: list[tuple[str, str]] = []
        self._lines: list[str] = []
        self._begun = time.monotonic()

    def add(self, places: Sequence[int], predictions: Sequence[Prediction]) -> None:
        """Keep the predictions of the images at these places."""
        images = self._all_images
        # the version of before it was read would be better, but a change in between is as likely after
        self._images += [(images.name(place), images.version(place)) for place in places]
        self._lines += [json.dumps(_packed(prediction)) for prediction in predictions]
        if len(self._lines) >= IMAGES_OF_A_PART or time.monotonic() - self._begun > SECONDS_OF_A_PART:
            self.flush()

    def flush(self) -> None:
        """Have all of them on the disk."""
        if self._lines:
            path = self._folder / f"{self._rank:05d}-{self._number:06d}.jsonl"
            with replaced(path, "w") as file:
                file.write("\n".join([json.dumps(self._images), *self._lines]) + "\n")
            self._number += 1
        self._images, self._lines, self._begun = [], [], time.monotonic()


class PartReader:
    """Reads predictions of parts; the one longest unused is given up for another."""

    def __init__(self, answer: AnswerOf) -> None:
        """Read nothing yet."""
        self._answer = answer
        self._open: OrderedDict[Path, list[str]] = OrderedDict()

    def prediction(self, path: Path, line: int) -> Prediction:
        """Return the prediction on a line of a part, counted from 0 after the first.

        Raises:
            DataError: Where the part is damaged.
        """
        if path not in self._open:
            if len(self._open) == PARTS_OPEN:
                self._open.popitem(last=False)
            self._open[path] = path.read_text(encoding="utf-8").splitlines()[1:]
        self._open.move_to_end(path)
        try:
            return _unpacked(json.loads(self._open[path][line]), self._answer)
        except (IndexError, ValueError, TypeError, KeyError) as error:
            raise _damaged(path, error) from None


def newest_predictions(folder: Path) -> dict[str, tuple[Path, int, str]]:
    """Return where the newest prediction of each image lies, by its name: part, line and the image's version.

    Raises:
        DataError: Where a part is damaged.
    """
    return {
        name: (path, line, version)
        for path in sorted(folder.glob("*-*.jsonl"), key=_number_of)
        for line, (name, version) in enumerate(_images_of(path))
    }


def _packed(prediction: Prediction) -> list[Any]:
    """Return JSON values of which `_unpacked` makes the prediction again; a group of classes is kept whole."""
    answers = [
        vars(answer) if answer.class_id is None else (answer.class_id, answer.probability)
        for answer in prediction.answers
    ]
    taxon, unlikeness = prediction.taxon, prediction.unlikeness
    return [
        prediction.path,
        answers,
        prediction.status,
        prediction.problem,
        taxon and vars(taxon),
        unlikeness and vars(unlikeness),
    ]


def _unpacked(values: list[Any], answer: AnswerOf) -> Prediction:
    path, answers, status, problem, taxon, unlikeness = values
    return Prediction(
        path,
        [Answer(**one) if isinstance(one, dict) else answer(*one) for one in answers],
        status,
        problem,
        taxon and Taxon(**taxon),
        unlikeness and Unlikeness(**unlikeness),
    )


def _number_of(path: Path) -> int:
    """Return the number of a part, which is higher than those of all earlier calls."""
    return int(path.stem.rpartition("-")[2])


def _images_of(path: Path) -> list[tuple[str, str]]:
    """Return the names and versions of the images of a part."""
    try:
        with open(path, encoding="utf-8") as file:
            return [(str(name), str(version)) for name, version in json.loads(file.readline())]
    except (ValueError, TypeError) as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> DataError:
    return DataError(
        f"{path}: a damaged part of the predictions ({error!r}). Remove it and run the same command again."
    )
