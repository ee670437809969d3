"""The comparison as tables."""

from collections.abc import Iterator

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ltrsys.classifiers.base import CLASSIFIERS
from ltrsys.comparison.comparing import Comparison
from ltrsys.comparison.pairs import ClassChange, Difference, Pair
from ltrsys.metrics.accuracy import ALL_COLUMNS, MEAN, heading
from ltrsys.reporting.table import p_value

MOST_CLASSES = 5
"""Classes that are printed of each kind; `--json` has more."""

SIGNIFICANT = 0.05


def print_comparison(comparison: Comparison, named: bool) -> None:
    """Print accuracies, differences, and the classes that changed most.

    Args:
        comparison: What is told.
        named: Whether classifiers were asked for by name: the classes of all are then shown, and else of the best.
    """
    console = Console()
    if not console.is_terminal:
        console = Console(width=110)
    for note in comparison.notes:
        console.print(f"Note: {escape(note)}")
    console.print(_accuracies(comparison))
    console.print(_differences(comparison))
    best = max(comparison.lines, key=lambda line: line.accuracy[MEAN] or 0.0).classifier
    for pair in comparison.pairs:
        if named or pair.classifier == best:
            console.print(_classes(pair))
            console.print(" ".join(_told(pair)) + "\n")
    others = {pair.classifier for pair in comparison.pairs} - {best}
    if others and not named:
        console.print("The classes that changed by the other classifiers: --classifier NAME, or --json.")


def _table(title: str, *, caption: str | None = None) -> Table:
    return Table(
        title=escape(title), caption=caption, caption_justify="left", box=SIMPLE_HEAD, pad_edge=False,
        collapse_padding=True,
    )  # fmt: skip


def _accuracies(comparison: Comparison) -> Table:
    low, high = comparison.images_per_class
    each = f"{low:,} a class" if low == high else f"{low:,} to {high:,} a class"
    table = _table(f"Top-1 accuracy in per cent, of the same {comparison.images:,} images ({each})")
    table.add_column("")
    table.add_column("run")
    for column in ALL_COLUMNS:
        table.add_column(heading(column), justify="right", no_wrap=True)
    for line in comparison.lines:
        cells = ["–" if line.accuracy[column] is None else f"{line.accuracy[column]:.1f}" for column in ALL_COLUMNS]
        table.add_row(CLASSIFIERS.get(line.classifier).label, escape(line.run), *cells)
    return table


def _differences(comparison: Comparison) -> Table:
    table = _table(
        "Differences in points, with 95 % intervals",
        caption="p of all: McNemar's exact test; p of mean: the randomisation test of the mean over the classes. Both "
        "pair the images. They say whether a difference holds for other images, not for other trainings of these runs.",
    )
    table.add_column("")
    table.add_column("runs")
    for name in ("many", "medium", "few", "all", "p", "mean", "p"):
        table.add_column(name, justify="right", no_wrap=True)
    for pair in comparison.pairs:
        cells = {column: _difference(pair.differences[column]) for column in ALL_COLUMNS}
        table.add_row(
            CLASSIFIERS.get(pair.classifier).label,
            f"{escape(pair.second)} less {escape(pair.first)}",
            *(cells[column] for column in ("many", "medium", "few", "all")),
            p_value(pair.p_value),
            cells[MEAN],
            p_value(pair.mean_class_accuracy_p_value),
        )
    return table


def _difference(found: Difference | None) -> str:
    return "–" if found is None else f"{found.difference:+.1f} ± {(found.high - found.low) / 2:.1f}"


def _classes(pair: Pair) -> Table:
    label = CLASSIFIERS.get(pair.classifier).label
    table = _table(f"{label}: classes that changed most from {pair.first} to {pair.second}")
    for name in ("class", "training images", "images", "gained", "lost", "p", "corrected p"):
        table.add_column(name, justify="left" if name == "class" else "right")
    for number, changes in enumerate((pair.most_gained, pair.most_lost)):
        if number and changes:
            table.add_section()
        for change in changes[:MOST_CLASSES]:
            table.add_row(*_row(change))
    return table


def _row(change: ClassChange) -> Iterator[str]:
    yield escape(change.name)
    yield from (f"{count:,}" for count in (change.train_images, change.images, change.gained, change.lost))
    yield p_value(change.p_value)
    corrected = p_value(change.corrected_p_value)
    yield f"[bold]{corrected}[/bold]" if change.corrected_p_value < SIGNIFICANT else corrected


def _told(pair: Pair) -> Iterator[str]:
    """Say how many classes changed, and whether it can be said of any that it is more than chance."""
    yield f"{escape(pair.second)} recognises more images of {pair.classes_gained:,} classes, and fewer of"
    yield f"{pair.classes_lost:,}."
    listed = [*pair.most_gained, *pair.most_lost]
    sure = sum(change.corrected_p_value < SIGNIFICANT for change in listed)
    yield f"Of {pair.classes_tested:,} tests at once, up to one in twenty is below 0.05 by chance alone; corrected p"
    yield "allows for that (Holm)."
    if sure:
        yield f"By it, {sure:,} of these {len(listed):,} classes changed by more than chance."
    elif listed:
        yield "By it, no class by itself changed by more than chance: too few images, or too small a change."
