"""Predictions that are kept: read where they are current, computed where they are not."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ltrsys.classifiers.nearest.ncm import NCMConfig, NearestClassMean
from ltrsys.evaluation.predictions import Predictions
from ltrsys.evaluation.split import EvaluatedSplit
from ltrsys.metrics.config import ShotsConfig
from ltrsys.second_stage.store import Fitted
from tests.classifiers.conftest import CPU, LongTail, context


def opened(data: LongTail, folder: Path) -> Predictions:
    return Predictions(folder, EvaluatedSplit("test", data.test, data.train.class_counts, ShotsConfig(), CPU))


@pytest.fixture
def fitted(long_tail: LongTail) -> Fitted:
    return Fitted(NearestClassMean.fit(context(long_tail.train), NCMConfig()), "bank", "made of this")


def test_they_are_what_the_classifier_says_and_are_read_back(long_tail: LongTail, fitted: Fitted, tmp_path: Path):
    first = opened(long_tail, tmp_path)
    ranking = first.ranking(fitted)
    assert np.array_equal(ranking, opened(long_tail, tmp_path / "other").split.ranking(fitted.classifier))
    again = opened(long_tail, tmp_path)
    (path,) = tmp_path.glob("*.safetensors")
    written = path.stat().st_mtime_ns
    assert np.array_equal(again.ranking(fitted), ranking)
    assert path.stat().st_mtime_ns == written
    assert np.array_equal(again.split.predictions(fitted.classifier), ranking[:, 0]), "the split knows them too"
    assert np.array_equal(again.of(fitted), ranking[:, 0])


def test_those_of_another_fit_are_computed_anew(long_tail: LongTail, fitted: Fitted, tmp_path: Path) -> None:
    opened(long_tail, tmp_path).ranking(fitted)
    other = replace(fitted, classifier=replace_means(fitted), fingerprint="made of that")
    anew = opened(long_tail, tmp_path).ranking(other)
    assert np.array_equal(anew, opened(long_tail, tmp_path / "other").split.ranking(other.classifier))


def replace_means(fitted: Fitted) -> NearestClassMean:
    tensors = {name: tensor.flip(0) for name, tensor in fitted.classifier.tensors().items()}
    return NearestClassMean.restore(tensors, fitted.classifier.params(), None)


@pytest.mark.parametrize("content", [b"", b"not tensors", b"\x08\x00\x00\x00\x00\x00\x00\x00{}      "])
def test_a_damaged_file_is_written_anew(long_tail: LongTail, fitted: Fitted, tmp_path: Path, content: bytes) -> None:
    ranking = opened(long_tail, tmp_path).ranking(fitted)
    (path,) = tmp_path.glob("*.safetensors")
    whole = path.read_bytes()
    path.write_bytes(content)
    assert np.array_equal(opened(long_tail, tmp_path).ranking(fitted), ranking)
    assert path.read_bytes() == whole


def test_where_they_cannot_be_kept_they_are_told_all_the_same(
    long_tail: LongTail, fitted: Fitted, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "predictions").write_text("a file where the folder should be")
    ranking = opened(long_tail, tmp_path / "predictions").ranking(fitted)
    assert len(ranking) == len(long_tail.test)
    assert "Predictions are not kept" in caplog.text
