"""Predictions as files, read back by others' readers."""

import csv
import io
import json
import os
from dataclasses import asdict
from pathlib import Path

import pyarrow.parquet
import pytest

from ltrsys.errors import UsageError
from ltrsys.prediction.answers import Answer, Prediction
from ltrsys.prediction.tables import WRITERS, Layout, writer_for

NASTY = 'Iris "x", \r\n\tλ = 1'
PREDICTIONS = [
    Prediction(
        "a,b.jpg",
        (
            Answer(3, NASTY, 0.75, 20, "medium", {"genus": "Iris", "family": "Iridaceae"}),
            Answer(0, "=1+1", 1 / 3, 1, "few"),
        ),
    ),
    Prediction.unreadable("z.jpg", 'it is "no", image'),
]


def written(ending: str, predictions: list[Prediction]) -> bytes:
    file = io.BytesIO()
    with WRITERS[ending](file, Layout(["family", "genus"])) as table:
        for prediction in predictions:
            table.write(prediction)
    return file.getvalue()


def test_csv_is_that_of_rfc_4180() -> None:
    data = written(".csv", PREDICTIONS)
    assert data.endswith(b"\r\n")
    heading, *rows = csv.reader(io.StringIO(data.decode(), newline=""), strict=True)
    assert heading == [
        "path", "rank", "class_name", "class_id", "probability", "train_images", "shot", "family", "genus", "status",
        "problem",
    ]  # fmt: skip
    assert rows == [
        ["a,b.jpg", "1", NASTY, "3", "0.750000", "20", "medium", "Iridaceae", "Iris", "ok", ""],
        ["a,b.jpg", "2", "=1+1", "0", "0.333333", "1", "few", "", "", "ok", ""],
        ["z.jpg", "", "", "", "", "", "", "", "", "unreadable", 'it is "no", image'],
    ]


def test_parquet_has_the_same_rows_typed(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(written(".parquet", PREDICTIONS))
    table = pyarrow.parquet.read_table(path)
    assert {name: str(table.schema.field(name).type) for name in ("rank", "class_id", "probability", "family")} == {
        "rank": "int32", "class_id": "int32", "probability": "float", "family": "string",
    }  # fmt: skip
    rows = table.to_pylist()
    assert [row["class_name"] for row in rows] == [NASTY, "=1+1", None]
    assert [row["probability"] for row in rows[:2]] == [0.75, pytest.approx(1 / 3, abs=1e-7)]
    assert rows[2]["problem"] == 'it is "no", image'


def test_json_lines_hold_an_image_a_line() -> None:
    lines = written(".jsonl", PREDICTIONS).splitlines()
    assert [json.loads(line) for line in lines] == json.loads(json.dumps([asdict(one) for one in PREDICTIONS]))


@pytest.mark.parametrize("ending", WRITERS)
def test_the_same_predictions_give_the_same_bytes_and_a_path_need_not_be_text(ending: str) -> None:
    odd = Prediction.unreadable(os.fsdecode(b"\xff.jpg"), "there is no such file")
    data = written(ending, [*PREDICTIONS, odd])
    assert data == written(ending, [*PREDICTIONS, odd])
    if ending == ".csv":
        assert b"\r\n\xff.jpg," in data


def test_a_table_without_rows_is_one() -> None:
    assert written(".csv", []).startswith(b"path,rank,")
    assert written(".jsonl", []) == b""
    assert pyarrow.parquet.read_table(io.BytesIO(written(".parquet", []))).num_rows == 0


def test_another_ending_is_refused() -> None:
    assert writer_for(Path("A.CSV")) is WRITERS[".csv"]
    with pytest.raises(UsageError, match=r"--out a\.xlsx: give it one of the endings \.csv, \.jsonl, \.parquet"):
        writer_for(Path("a.xlsx"))
