"""Parts of a job's predictions: what is read from them is what was written, and the newest of each image."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ltrsys.metrics.config import ShotsConfig
from ltrsys.prediction import parts
from ltrsys.prediction.answering import Answerer
from ltrsys.prediction.answers import Prediction, Wanted
from ltrsys.prediction.images.collections import Files
from ltrsys.prediction.parts import AnswerOf, PartReader, PartWriter, newest_predictions
from tests.prediction.test_answering import calibration, say, signature

ODD = Files(["a\n.jpg", "\udcff.jpg", "c.jpg", "d.jpg"])


def _answer(wanted: Wanted) -> AnswerOf:
    return Answerer(wanted, signature(), ShotsConfig(), calibration()).answer


@pytest.mark.parametrize(
    "wanted",
    [Wanted, lambda: Wanted(rank="auto", novelty=True), lambda: Wanted(rank="genus"), lambda: Wanted(coverage=0.9)],
)
def test_predictions_come_back_as_they_were(wanted: Callable[[], Wanted], tmp_path: Path) -> None:
    said = say([[0.5, 0.45, 0.05, 0], [0.1, 0.2, 0.3, 0.4], [1 / 3, 1 / 3, 1 / 3, 0]], wanted())
    said.append(Prediction.unreadable(ODD.name(3), 'it is "no", image'))
    writer = PartWriter(tmp_path, ODD, 0)
    writer.add([0, 1, 2, 3], said)
    writer.flush()
    reader, lines = PartReader(_answer(wanted())), newest_predictions(tmp_path)
    for place, before in enumerate(said):
        path, line, version = lines[ODD.name(place)]
        after = reader.prediction(path, line)
        assert list(after.answers) == list(before.answers)
        assert (after.path, after.status, after.problem) == (before.path, before.status, before.problem)
        assert (after.taxon, after.unlikeness, version) == (before.taxon, before.unlikeness, "cannot be told")


def test_of_a_class_the_number_and_the_probability_are_kept(tmp_path: Path) -> None:
    writer = PartWriter(tmp_path, ODD, 3)
    writer.add([2], say([[0.5, 0.25, 0.25, 0]], Wanted(top=2)))
    writer.flush()
    line = (tmp_path / "00003-000000.jsonl").read_text().splitlines()[1]
    assert json.loads(line)[1] == [[0, 0.5], [1, 0.25]]


def test_the_newest_of_an_image_counts_and_parts_that_were_given_up_are_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "PARTS_OPEN", 1)
    for rank, problem in ((2, "old"), (1, "new")):
        writer = PartWriter(tmp_path, ODD, rank)
        writer.add([0, rank], [Prediction.unreadable(ODD.name(place), problem) for place in (0, rank)])
        writer.flush()
    reader, lines = PartReader(_answer(Wanted())), newest_predictions(tmp_path)
    found = [reader.prediction(*lines[ODD.name(place)][:2]).problem for place in (0, 2, 1, 2)]
    assert found == ["new", "old", "new", "old"]
