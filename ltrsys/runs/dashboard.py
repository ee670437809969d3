"""The layout of the dashboard: which numbers stand together, in sections; `docs/wandb.md` shows it as a table."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ltrsys.runs.metric_names import (
    BALANCING,
    BEST,
    IMAGES,
    IMAGES_PER_SECOND,
    LEARNING_RATE,
    LOSS,
    STALL_SHARE,
    STEP,
    VAL,
    result_key,
)

PanelKind = Literal["curves", "bars", "pictures", "table"]
SECONDS = "seconds"
"""The axis of what wandb measures of the machine by itself."""


@dataclass(frozen=True)
class Panel:
    """One plot."""

    title: str
    kind: PanelKind
    keys: tuple[str, ...]
    over: str = STEP.key
    """The axis of curves."""
    pattern: str = ""
    """A regular expression of keys in place of `keys`, where there may be any number, such as one a GPU."""


@dataclass(frozen=True)
class DashboardSection:
    """Some panels below one heading."""

    name: str
    panels: tuple[Panel, ...]


def dashboard(split: str, classifiers: Sequence[str]) -> list[DashboardSection]:
    """Return the sections of the dashboard.

    Args:
        split: The reported split, `test` or `val`.
        classifiers: Those that the bars of the second stage compare.
    """

    def results(title: str, column: str) -> Panel:
        return Panel(title, "bars", tuple(result_key(split, classifier, column) for classifier in classifiers))

    return [
        DashboardSection(
            "Overview",
            (
                Panel("Loss", "curves", (LOSS.key,)),
                Panel("Accuracy on val by shot", "curves", (VAL["many"].key, VAL["medium"].key, VAL["few"].key)),
                Panel(
                    "Accuracy on val",
                    "curves",
                    (VAL["all"].key, VAL["mean_class_accuracy"].key, BEST.key),
                ),
                Panel("Learning rate", "curves", (LEARNING_RATE.key,)),
            ),
        ),
        DashboardSection(
            "Data",
            (
                Panel("Part of the time that waits for data", "curves", (STALL_SHARE.key,)),
                Panel("Images trained on", "curves", (IMAGES.key,)),
            ),
        ),
        DashboardSection("Performance", (Panel("Images a second", "curves", (IMAGES_PER_SECOND.key,)),)),
        DashboardSection(
            "Balance",
            (
                results("Few-shot accuracy by classifier", "few"),
                results("Medium-shot accuracy by classifier", "medium"),
                results("Many-shot accuracy by classifier", "many"),
                results("Mean class accuracy by classifier", "mean_class_accuracy"),
                Panel(
                    "Few-shot accuracy by balancing",
                    "curves",
                    tuple(result_key(split, classifier, "few") for classifier in classifiers),
                    over=BALANCING.key,
                ),
                Panel(
                    "Plots",
                    "pictures",
                    (
                        "balance/accuracy_by_split",
                        "balance/trade_off",
                        "balance/accuracy_by_tau",
                        "balance/weight_norms",
                    ),
                ),
                Panel("Predictions", "table", ("balance/predictions",)),
                Panel("Classes", "table", ("balance/per_class",)),
            ),
        ),
        DashboardSection(
            "System",
            (
                Panel("GPU in use, %", "curves", (), over=SECONDS, pattern=r"system/gpu\.\d+\.gpu$"),
                Panel("GPU memory, %", "curves", (), over=SECONDS, pattern=r"system/gpu\.\d+\.memoryAllocated$"),
                Panel("CPU in use, %", "curves", ("system/cpu",), over=SECONDS),
                Panel("Memory in use, %", "curves", ("system/memory_percent",), over=SECONDS),
            ),
        ),
    ]
