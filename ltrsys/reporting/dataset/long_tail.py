"""The long tail of a dataset as a picture: training images of each class, most frequent first."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ltrsys.files import write_with
from ltrsys.metrics.accuracy import SHOTS, shot_of_class
from ltrsys.metrics.config import ShotsConfig
from ltrsys.reporting.style import SHOT_COLORS


def draw_long_tail(train_counts: NDArray[np.int64], path: Path, *, name: str, shots: ShotsConfig) -> None:
    """Draw the sorted class counts, in the colours of many, medium and few shots, as a PNG.

    Args:
        train_counts: Training images of each class, [C].
        path: The PNG.
        name: The dataset, for the title.
        shots: Where the groups begin.
    """
    counts = np.sort(train_counts)[::-1]
    groups = shot_of_class(counts, shots)
    rank = np.arange(len(counts))
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for shot in SHOTS:
        chosen = groups == shot
        if not chosen.any():
            continue
        images = int(counts[chosen].sum())
        label = f"{shot}: {chosen.sum():,} classes, {images:,} images ({images / max(counts.sum(), 1):.0%})"
        axes.bar(rank[chosen], counts[chosen], width=1.0, color=SHOT_COLORS[shot], label=label)
    for border in (shots.many, shots.few):
        axes.axhline(border, color="0.4", linewidth=0.8, linestyle="--")
    axes.set_yscale("log")
    axes.set_ylim(bottom=0.8)
    axes.set_xlim(-0.5, len(counts) - 0.5)
    axes.set_xlabel("class, by frequency")
    axes.set_ylabel("training images")
    axes.set_title(f"{name}: {counts.sum():,} training images of {len(counts):,} classes")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    write_with(path, lambda beside: figure.savefig(beside, dpi=150, format="png"))
