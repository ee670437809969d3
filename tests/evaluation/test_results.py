"""`results.json`, read and written."""

import json
from pathlib import Path

import pytest

from ltrsys.errors import DataError
from ltrsys.evaluation.results import Line, Results, VersusJoint, columns_of, read_results, write_results


def make_line(classifier: str = "joint", few: float | None = 40.0, **changes: object) -> Line:
    values: dict[str, object] = {
        "classifier": classifier,
        "many": 91.0,
        "medium": 76.0,
        "few": few,
        "all": 69.5,
        "params": {},
        "selected_on": None,
        "top3": 80.0,
        "top5": 85.0,
        "mean_class_accuracy": 69.5,
        "confidence_95": {
            "many": (89.0, 92.5),
            "medium": (74.0, 78.0),
            "few": (37.0, 43.0) if few is not None else None,
            "all": (68.0, 71.0),
        },
        "versus_joint": None,
        "fingerprint": "0",
    }
    return Line.model_validate(values | changes)


def make_results(*lines: Line, few_classes: int = 62) -> Results:
    return Results(
        dataset="glyphs",
        num_classes=200,
        split="test",
        classes={"many": 63, "medium": 75, "few": few_classes},
        images={"many": 1260, "medium": 1500, "few": 20 * few_classes, "all": 2760 + 20 * few_classes},
        results=list(lines),
    )


def test_results_come_back_as_they_were_written(tmp_path: Path) -> None:
    versus = VersusJoint(gained=200, lost=50, p_value=1e-21)
    tau = make_line("tau", params={"tau": 0.7}, selected_on="val", versus_joint=versus)
    results = make_results(make_line(few=None), tau, few_classes=0)
    write_results(results, tmp_path / "results.json")
    assert read_results(tmp_path / "results.json") == results


def test_an_empty_split_is_null_and_never_zero(tmp_path: Path) -> None:
    write_results(make_results(make_line(few=None), few_classes=0), tmp_path / "results.json")
    (line,) = json.loads((tmp_path / "results.json").read_text())["results"]
    assert line["few"] is None
    assert line["confidence_95"]["few"] is None


def test_columns_are_the_papers() -> None:
    assert columns_of(make_line()) == {"many": 91.0, "medium": 76.0, "few": 40.0, "all": 69.5}


def test_what_is_not_results_names_the_key(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    values = make_results(make_line()).model_dump(mode="json")
    values["results"][0]["few"] = "many"
    path.write_text(json.dumps(values))
    with pytest.raises(DataError, match=r"results\.json: not results of format 1: `results\.0\.few`"):
        read_results(path)
    path.unlink()
    with pytest.raises(DataError, match=r"there is no file of results here. `ltrsys balance` makes one"):
        read_results(path)
