"""`results.json`, read and written."""

import json
from pathlib import Path

import pytest

from ltrsys.errors import DataError
from ltrsys.evaluation.results import (
    ImagesPerClass,
    Line,
    Results,
    VersusJoint,
    columns_of,
    read_results,
    write_results,
)


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
            "mean_class_accuracy": (66.0, 73.0),
        },
        "versus_joint": None,
        "fingerprint": "0",
    }
    return Line.model_validate(values | changes)


BALANCED = ImagesPerClass(smallest=20, largest=20, empty_classes=0)
NATURAL = ImagesPerClass(smallest=2, largest=123, empty_classes=4)


def make_results(*lines: Line, few_classes: int = 62, images_per_class: ImagesPerClass | None = BALANCED) -> Results:
    return Results(
        dataset="glyphs",
        num_classes=200,
        split="test",
        classes={"many": 63, "medium": 75, "few": few_classes},
        images={"many": 1260, "medium": 1500, "few": 20 * few_classes, "all": 2760 + 20 * few_classes},
        images_per_class=images_per_class,
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


def test_columns_are_the_papers_and_the_mean_over_the_classes() -> None:
    columns = {"many": 91.0, "medium": 76.0, "few": 40.0, "all": 69.5, "mean_class_accuracy": 61.5}
    assert columns_of(make_line(mean_class_accuracy=61.5)) == columns
    assert list(columns_of(make_line())) == list(columns)


def test_a_line_of_format_1_is_known_by_what_it_lacks() -> None:
    tested = VersusJoint(gained=3, lost=1, p_value=0.5, mean_class_accuracy_p_value=0.4)
    older = VersusJoint(gained=3, lost=1, p_value=0.5)
    assert make_line().complete
    assert make_line("crt", versus_joint=tested).complete
    assert not make_line("crt", versus_joint=older).complete
    assert not make_line(confidence_95={"all": (68.0, 71.0)}).complete


def test_whether_the_split_is_balanced_is_not_known_of_format_1() -> None:
    assert [make_results(images_per_class=counts).balanced for counts in (BALANCED, NATURAL, None)] == [
        True,
        False,
        None,
    ]


def test_what_is_not_results_names_the_key(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    values = make_results(make_line()).model_dump(mode="json")
    values["results"][0]["few"] = "many"
    path.write_text(json.dumps(values))
    with pytest.raises(DataError, match=r"results\.json: not results of format 1 or 2: `results\.0\.few`"):
        read_results(path)
    path.unlink()
    with pytest.raises(DataError, match=r"there is no file of results here. `ltrsys balance` makes one"):
        read_results(path)
