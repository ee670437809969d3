"""Points at named places: what is drawn, read back from the figures."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from ltrsys.reporting.series import Point, draw_series
from ltrsys.reporting.style import SERIES, drawn

POINTS = {
    "instance": {"Joint": Point(44.4, 0.5), "cRT": Point(49.6, None)},
    "balanced": {"cRT": Point(47.0, 1.0)},
}


def lines(figure: Figure) -> dict[str, tuple[list[float], list[float]]]:
    return {
        container.get_label(): (container[0].get_xdata().tolist(), container[0].get_ydata().tolist())
        for container in figure.axes[0].containers
    }


def draw(path: Path, points: dict[str, dict[str, Point]], places: list[str], connected: bool) -> None:
    with drawn(path) as figure:
        draw_series(figure.add_subplot(), places, points, connected=connected)


def test_series_stand_side_by_side_within_their_place(figures: list[Figure], tmp_path: Path) -> None:
    draw(tmp_path / "plot.png", POINTS, ["Joint", "cRT"], connected=False)
    assert lines(figures[0]) == {"instance": ([-0.125, 0.875], [44.4, 49.6]), "balanced": ([1.125], [47.0])}
    bars = figures[0].axes[0].containers[0][2][0].get_segments()
    np.testing.assert_allclose([bar[:, 1] for bar in bars], [[43.9, 44.9], [49.6, 49.6]])
    assert all(container[0].get_linestyle() == "None" for container in figures[0].axes[0].containers)


def test_connected_series_are_lines_over_the_same_places(figures: list[Figure], tmp_path: Path) -> None:
    draw(tmp_path / "plot.png", POINTS, ["Joint", "cRT"], connected=True)
    assert lines(figures[0]) == {"instance": ([0, 1], [44.4, 49.6]), "balanced": ([1], [47.0])}
    assert all(container[0].get_linestyle() == "-" for container in figures[0].axes[0].containers)


def test_series_differ_in_colour_and_in_marker() -> None:
    assert len({color for color, _ in SERIES}) == len({marker for _, marker in SERIES}) == len(SERIES)


@pytest.mark.parametrize(
    "places", [["Joint", "NCM", "cRT", "τ-normalised"], [f"ResNeXt-{depth}" for depth in range(50, 190, 20)]]
)
def test_names_of_places_do_not_overlap(figures: list[Figure], tmp_path: Path, places: list[str]) -> None:
    draw(tmp_path / "plot.png", {"one": {place: Point(1.0, None) for place in places}}, places, connected=True)
    labels = figures[0].axes[0].get_xticklabels()
    if labels[0].get_rotation():
        assert all(label.get_ha() == "right" for label in labels), "a label ends at its place"
        return
    ends = [(extent.x0, extent.x1) for extent in (label.get_window_extent() for label in labels)]
    assert all(end < begin for (_, end), (begin, _) in itertools.pairwise(ends))


@pytest.mark.parametrize(("suffix", "begin"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_the_suffix_says_the_format(tmp_path: Path, suffix: str, begin: bytes) -> None:
    draw(tmp_path / f"plot.{suffix}", POINTS, ["Joint", "cRT"], connected=True)
    assert (tmp_path / f"plot.{suffix}").read_bytes().startswith(begin)
