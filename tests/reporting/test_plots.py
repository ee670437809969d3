"""The plots: what is drawn, read back from the figures."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from ltrsys.evaluation.results import TauCurve
from ltrsys.metrics.config import ShotsConfig
from ltrsys.reporting.plots import draw_tau, plot_accuracy, plot_tau, plot_weight_norms
from ltrsys.reporting.style import drawn
from tests.evaluation.test_results import NATURAL, make_line, make_results
from tests.reporting.drawn import COUNTS, lines_by_label


def test_accuracies_are_drawn_with_their_intervals(figures: list[Figure], tmp_path: Path) -> None:
    plot_accuracy(make_results(make_line(), make_line("crt", few=69.0)), tmp_path / "plot.png")
    (axes,) = figures[0].axes
    heights = [container[0].get_ydata().tolist() for container in axes.containers]
    assert heights == [[91.0, 76.0, 40.0, 69.5], [91.0, 76.0, 69.0, 69.5]]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["Joint", "cRT"]
    bars = axes.containers[0][2][0].get_segments()
    np.testing.assert_allclose([bar[:, 1] for bar in bars], [[89, 92.5], [74, 78], [37, 43], [68, 71]])
    assert (tmp_path / "plot.png").stat().st_size > 1000


def test_an_empty_split_is_left_out(figures: list[Figure], tmp_path: Path) -> None:
    plot_accuracy(make_results(make_line(few=None), few_classes=0), tmp_path / "plot.png")
    ticks = [label.get_text().split("\n")[0] for label in figures[0].axes[0].get_xticklabels()]
    assert ticks == ["many", "medium", "all"]


def test_the_mean_stands_beside_all_where_the_split_is_not_balanced(figures: list[Figure], tmp_path: Path) -> None:
    plot_accuracy(make_results(make_line(mean_class_accuracy=68.5), images_per_class=NATURAL), tmp_path / "plot.png")
    (axes,) = figures[0].axes
    assert [label.get_text().split("\n")[0] for label in axes.get_xticklabels()][-2:] == ["all", "mean"]
    assert axes.containers[0][0].get_ydata()[-1] == 68.5
    np.testing.assert_allclose(axes.containers[0][2][0].get_segments()[-1][:, 1], [66, 73])


def test_norms_are_sorted_by_training_images_and_relative(figures: list[Figure], tmp_path: Path) -> None:
    norms = COUNTS.astype(np.float32)
    plot_weight_norms({"joint": norms}, COUNTS, ShotsConfig(), tmp_path / "plot.png")
    dots = figures[0].axes[0].lines[0]
    np.testing.assert_allclose(dots.get_ydata(), np.sort(norms)[::-1] / norms.mean())


def test_norms_are_told_apart_by_marker(figures: list[Figure], tmp_path: Path) -> None:
    norms = np.ones(40, dtype=np.float32)
    plot_weight_norms({"joint": norms, "tau": norms}, np.arange(40, 0, -1), ShotsConfig(), tmp_path / "plot.png")
    joint, tau = figures[0].axes[0].lines[1::2]
    assert (joint.get_marker(), tau.get_marker()) == ("o", "D")
    assert (joint.get_markevery(), tau.get_markevery()) == ((0, 5), (2, 5)), "where lines are one, marks are not"


def test_several_taus_and_the_band_of_the_spread_are_drawn(figures: list[Figure], tmp_path: Path) -> None:
    curve = TauCurve(tau=[0.0, 0.5, 1.0], many=[9, 8, 7], medium=[None] * 3, few=[1, 2, 3], all=[5, 6, 4])
    spread = {column: np.array([0.5, 1.0, 0.0]) for column in ("many", "few", "all")}
    with drawn(tmp_path / "plot.png") as figure:
        draw_tau(figure.add_subplot(), curve, [0.5, 1.0, 0.5], split="test", chosen_how="chosen", spread=spread)
    (axes,) = figures[0].axes
    assert [line.get_xdata()[0] for line in axes.lines if line.get_linestyle() == "--"] == [0.5, 1.0]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["many", "few", "all", "chosen"]
    band = axes.collections[0].get_paths()[0].vertices
    assert {8.5, 9.5, 7.0, 9.0} <= set(band[:, 1])


def test_the_curve_by_tau_marks_the_chosen_one(figures: list[Figure], tmp_path: Path) -> None:
    curve = TauCurve(tau=[0.0, 0.5, 1.0], many=[9, 8, 7], medium=[None] * 3, few=[1, 2, 3], all=[5, 6, 4])
    plot_tau(curve, 0.5, split="test", chosen_how="τ = 0.5, chosen on val", path=tmp_path / "plot.png")
    lines = lines_by_label(figures[0])
    assert set(lines) == {"many", "few", "all", "τ = 0.5, chosen on val"}
    np.testing.assert_array_equal(lines["few"][1], [1, 2, 3])
    np.testing.assert_array_equal(lines["τ = 0.5, chosen on val"][0], [0.5, 0.5])


@pytest.mark.parametrize(("mean", "drawn"), [([2, 4, 3], True), ([5, 6, 4], False), (None, False)])
def test_the_mean_over_the_classes_is_drawn_where_it_is_not_all_again(
    figures: list[Figure], tmp_path: Path, mean: list[float] | None, drawn: bool
) -> None:
    shots = {"many": [9, 8, 7], "medium": [None] * 3, "few": [1, 2, 3]}
    curve = TauCurve(tau=[0.0, 0.5, 1.0], **shots, all=[5, 6, 4], mean_class_accuracy=mean)
    plot_tau(curve, 0.5, split="test", chosen_how="chosen", path=tmp_path / "plot.png")
    assert set(lines_by_label(figures[0])) == {"many", "few", "all", "chosen"} | ({"mean"} if drawn else set())
