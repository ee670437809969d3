"""The reliability diagrams and the table of how sure classifiers are."""

import io
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from rich.console import Console

from ltrsys.evaluation.results import CalibrationLine
from ltrsys.reporting.calibration import plot_calibration
from ltrsys.reporting.table import calibration_table
from tests.evaluation.test_results import make_line, make_results

COLUMNS = ("many", "medium", "few", "all")


def calibration(error: float | None = 2.3, fitted_on: str = "val") -> CalibrationLine:
    numbers = dict.fromkeys(COLUMNS, error)
    bins = {"confidence": [0.2, 0.6, 0.9], "accuracy": [0.1, 0.5, 0.85], "images": [10, 10, 10]}
    reliability = {"calibration_error": numbers, "calibration_error_equal_width": numbers, "bins": bins}
    before = reliability | {"bins": bins | {"accuracy": [0.0, 0.3, 0.7]}}
    sizes = dict.fromkeys(COLUMNS, 4.2)
    sets = {"mean_size": sizes, "median_size": sizes}
    coverage = {"many": 95.0, "medium": 91.0, "few": 75.1, "all": 89.9, "mean_class_accuracy": 85.0}
    return CalibrationLine.model_validate(
        {
            "temperature": 1.2345,
            "fitted_on": fitted_on,
            "fitted_images": 1000,
            "before": before,
            "after": reliability,
            "precisions": [],
            "sets": sets | {"coverage": coverage},
            "adjusted_sets": sets | {"coverage": coverage | {"few": 88.8}},
            "fingerprint": "0",
        }
    )


def test_a_panel_shows_accuracy_over_confidence_before_and_after(figures: list[Figure], tmp_path: Path) -> None:
    plot_calibration(make_results(make_line(calibration=calibration()), make_line("crt")), tmp_path / "plot.png")
    (axes,) = (axes for axes in figures[0].axes if axes.get_visible())
    assert axes.get_title() == "Joint"
    lines = {line.get_label(): line.get_xydata() for line in axes.lines}
    np.testing.assert_array_equal(lines["before"], [[0.2, 0.0], [0.6, 0.3], [0.9, 0.7]])
    np.testing.assert_array_equal(lines["after"], [[0.2, 0.1], [0.6, 0.5], [0.9, 0.85]])
    np.testing.assert_array_equal(lines["as often as sure"], [[0, 0], [1, 1]])
    assert axes.texts[0].get_text() == "T = 1.23\nerror 2.3 → 2.3 %"
    assert (tmp_path / "plot.png").stat().st_size > 1000


@pytest.mark.parametrize(("count", "rows"), [(2, 1), (3, 1), (4, 2), (5, 2)])
@pytest.mark.long
def test_each_classifier_has_its_panel(count: int, rows: int, figures: list[Figure], tmp_path: Path) -> None:
    names = ["joint", "ncm", "crt", "tau", "lws"][:count]
    lines = [make_line(name, calibration=calibration(None)) for name in names]
    plot_calibration(make_results(*lines), tmp_path / "plot.png")
    shown = [axes for axes in figures[0].axes if axes.get_visible()]
    assert [axes.get_title() for axes in shown] == ["Joint", "NCM", "cRT", "τ-normalised", "LWS"][:count]
    assert len({round(axes.get_position().y0, 3) for axes in shown}) == rows
    lowest = [
        [axes for axes in shown if axes.get_subplotspec().colspan.start == place][-1] for place in range(min(3, count))
    ]
    assert [axes.get_xlabel() for axes in lowest] == ["confidence"] * len(lowest)


def printed(*lines: object) -> str | None:
    table = calibration_table(make_results(*lines))
    if table is None:
        return None
    console = Console(width=80, file=io.StringIO())
    console.print(table)
    return console.file.getvalue()


def test_the_table_tells_temperature_error_coverage_and_size_in_80_columns() -> None:
    text = printed(
        make_line(calibration=calibration()), make_line("tau", calibration=calibration(None)), make_line("crt")
    )
    assert "…" not in text
    rows = {line.split()[0]: line.split()[1:] for line in text.splitlines() if "→" in line}
    assert rows["Joint"] == ["1.23", "2.3", "→", "2.3", "89.9", "75.1", "4.2", "89.9", "88.8", "4.2"]
    assert rows["τ-normalised"][:4] == ["1.23", "–", "→", "–"]
    assert "cRT" not in text, "which is not calibrated"
    assert "val unless said below" in " ".join(text.split())


def test_what_it_was_fitted_on_is_told_where_it_is_not_val() -> None:
    text = printed(
        make_line(calibration=calibration()), make_line("ncm", calibration=calibration(fitted_on="train by folds"))
    )
    assert "NCM: train by folds." in text
    assert "Joint: val" not in text


def test_without_calibration_there_is_no_table() -> None:
    assert printed(make_line(), make_line("crt")) is None
