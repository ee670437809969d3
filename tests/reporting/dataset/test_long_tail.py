"""The picture of the long tail shows every class in the colour of its group."""

from pathlib import Path

import numpy as np
from matplotlib.colors import to_rgb
from PIL import Image

from ltrsys.metrics.accuracy import SHOTS
from ltrsys.metrics.config import ShotsConfig
from ltrsys.reporting.dataset.long_tail import draw_long_tail
from ltrsys.reporting.style import SHOT_COLORS


def shares(path: Path) -> dict[str, float]:
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    colors = {shot: np.rint(np.array(to_rgb(color)) * 255) for shot, color in SHOT_COLORS.items() if shot in SHOTS}
    return {shot: float((np.abs(pixels - color).max(axis=2) <= 2).mean()) for shot, color in colors.items()}


def test_each_group_takes_the_width_of_its_classes(tmp_path: Path) -> None:
    counts = np.array([1000] * 5 + [50] * 10 + [10] * 5)
    np.random.default_rng(0).shuffle(counts)
    draw_long_tail(counts, tmp_path / "tail.png", name="test", shots=ShotsConfig())
    found = shares(tmp_path / "tail.png")
    # On a logarithmic axis from 0.8 the heights are 3.1, 1.8 and 1.1 decades.
    assert 0.8 < found["many"] / found["medium"] * (2 * 1.8) / 3.1 < 1.2
    assert 0.8 < found["few"] / found["medium"] * (2 * 1.8) / 1.1 < 1.2


def test_empty_groups_and_empty_classes_can_be_drawn(tmp_path: Path) -> None:
    draw_long_tail(np.array([5, 0, 3]), tmp_path / "tail.png", name="test", shots=ShotsConfig())
    found = shares(tmp_path / "tail.png")
    assert found["few"] > 0.05
    assert found["medium"] < 0.001
