"""The sampling weights: what is drawn, read back from the figures."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from ltrsys.reporting.sampling import plot_sampling, plot_sampling_by_epoch
from tests.reporting.drawn import COUNTS, lines_by_label


def test_sampling_weights_follow_equations_1_and_2(figures: list[Figure], tmp_path: Path) -> None:
    plot_sampling(COUNTS, tmp_path / "plot.png")
    lines = {label: heights for label, (_, heights) in lines_by_label(figures[0]).items()}
    counts = np.sort(COUNTS)[::-1]
    instance, balanced = counts / counts.sum(), np.full(6, 1 / 6)
    np.testing.assert_allclose(lines["instance-balanced"], instance)
    np.testing.assert_allclose(lines["square-root"], np.sqrt(counts) / np.sqrt(counts).sum())
    np.testing.assert_allclose(lines["class-balanced"], balanced)
    for share in (0.25, 0.5, 0.75):
        np.testing.assert_allclose(lines[f"progressive, t/T = {share}"], (1 - share) * instance + share * balanced)


def test_the_progressive_panel_goes_from_the_first_epoch_to_the_last(figures: list[Figure], tmp_path: Path) -> None:
    plot_sampling_by_epoch(COUNTS, 90, tmp_path / "plot.png")
    left, right = figures[0].axes
    assert [line.get_label() for line in left.lines] == ["instance-balanced", "square-root", "class-balanced"]
    assert [line.get_label() for line in right.lines] == ["t = 1", "t = 22", "t = 45", "t = 68", "t = 90"]
    instance, balanced = np.sort(COUNTS)[::-1] / COUNTS.sum(), np.full(6, 1 / 6)
    np.testing.assert_allclose(right.lines[1].get_ydata(), (68 * instance + 22 * balanced) / 90)
    np.testing.assert_allclose(right.lines[-1].get_ydata(), balanced)
    assert len({line.get_linestyle() for line in left.lines}) == 3, "not told apart by colour alone"


def test_a_training_of_one_epoch_is_class_balanced_in_it(figures: list[Figure], tmp_path: Path) -> None:
    plot_sampling_by_epoch(COUNTS, 1, tmp_path / "plot.png")
    (line,) = figures[0].axes[1].lines
    np.testing.assert_allclose(line.get_ydata(), 1 / 6)
