"""The table of classifiers, with the paper's columns and the mean over the classes."""

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from ltrsys.classifiers.base import CLASSIFIERS
from ltrsys.evaluation.results import Line, Results, columns_of
from ltrsys.metrics.accuracy import ALL_COLUMNS, MEAN, SHOTS, heading
from ltrsys.second_stage.grids import described


def results_table(results: Results) -> Table:
    """Lay out one line a classifier: top-1 accuracy of many, medium, few and all, and the mean over the classes.

    Interval and p-value are those of the fair column: of `all` where the split is balanced, of the mean where it is
    not. The rest of what is measured is in `results.json`: these columns fit a terminal of 80.
    """
    fair = fair_column(results)
    table = Table(
        title=f"{results.dataset}, {results.split}: top-1 accuracy in per cent",
        caption=caption(results),
        caption_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    table.add_column("", no_wrap=True)
    for column in ALL_COLUMNS:
        table.add_column(heading(column), justify="right", no_wrap=True)
    table.add_column(f"95 % of {heading(fair)}", justify="right", no_wrap=True)
    table.add_column("p", justify="right", no_wrap=True)
    table.add_column("parameters")
    best = {
        column: max(
            (value for line in results.results if (value := columns_of(line)[column]) is not None), default=None
        )
        for column in ALL_COLUMNS
    }
    for line in results.results:
        cells = [_bold_if(value == best[column], _number(value)) for column, value in columns_of(line).items()]
        table.add_row(
            CLASSIFIERS.get(line.classifier).label,
            *cells,
            _interval(line.confidence_95.get(fair)),
            p_value(p_value_of(line, fair)),
            parameters(line),
        )
    return table


def tilt_table(results: Results) -> Table | None:
    """Lay out the classifiers on equal footing: each at the tilt that is best on val, and few-shot accuracies where the
    many-shot accuracy is that of the tilted joint classifier. None where no classifier is tilted.
    """
    tilted = [(line, line.tilt) for line in results.results if line.tilt is not None]
    if not tilted:
        return None
    chosen = any(tilt.chosen is not None for _, tilt in tilted)
    equal = next((tilt.equal_many_shot for _, tilt in tilted if tilt.equal_many_shot is not None), None)
    caption = "Tilted: scores less t times the logarithm of the class frequency, t the best on val."
    if equal is not None:
        reference = CLASSIFIERS.get(results.reference).label
        caption += (
            f" At equal many-shot accuracy: where it is nearest to {equal.joint_many:.1f}, that of tilted {reference}, "
            f"with {equal.joint_few:.1f} few-shot; p: McNemar's exact test of the few-shot images against it."
        )
    table = Table(
        title="On equal footing" + ("" if chosen else " (no val split to choose t on)"),
        caption=caption,
        caption_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    table.add_column("", no_wrap=True)
    for name in ("t", *(heading(column) for column in ALL_COLUMNS), "few at equal many", "p"):
        table.add_column(name, justify="right", no_wrap=True)
    for line, tilt in tilted:
        values = dict.fromkeys(ALL_COLUMNS, None) if tilt.chosen is None else tilt.curve.at(tilt.chosen)
        at_equal = tilt.equal_many_shot
        table.add_row(
            CLASSIFIERS.get(line.classifier).label,
            "–" if tilt.chosen is None else f"{tilt.chosen:g}",
            *(_number(value) for value in values.values()),
            "–" if at_equal is None else f"{at_equal.few:.1f}",
            p_value(None if at_equal is None else at_equal.p_value),
        )
    return table


def calibration_table(results: Results) -> Table | None:
    """Lay out how sure the classifiers are: temperature, calibration error, and what sets of 90 % cover. None where no
    classifier is calibrated.
    """
    known = [(line, line.calibration) for line in results.results if line.calibration is not None]
    if not known:
        return None
    others = "\n".join(
        f"{CLASSIFIERS.get(line.classifier).label}: {calibration.fitted_on}."
        for line, calibration in known
        if calibration.fitted_on != "val"
    )
    table = Table(
        title="How sure",
        caption="T: temperature, fitted on val unless said below. Error: expected calibration error in per cent, "
        "before and after. Sets that are to hold the right class in 90 %: how often they do, and their mean number of "
        "classes; a class is in a set by its probability p, or by p over its share π of the training images."
        + (f"\n{others}" if others else ""),
        caption_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    table.add_column("", no_wrap=True)
    for name in ("T", "error", "p: all", "few", "size", "p/π: all", "few", "size"):
        table.add_column(name, justify="right", no_wrap=True)
    for line, calibration in known:
        before, after = (each.calibration_error["all"] for each in (calibration.before, calibration.after))
        cells = []
        for sets in (calibration.sets, calibration.adjusted_sets):
            cells += [_number(sets.coverage["all"]), _number(sets.coverage["few"]), _number(sets.mean_size["all"])]
        table.add_row(
            CLASSIFIERS.get(line.classifier).label,
            f"{calibration.temperature:.3g}",
            f"{_number(before)} → {_number(after)}",
            *cells,
        )
    return table


def print_table(results: Results) -> None:
    """Print the tables on stdout; 100 columns wide where that is a file or a pipe."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=100)
    console.print(results_table(results))
    for table in (tilt_table(results), calibration_table(results)):
        if table is not None:
            console.print(table)


def parameters(line: Line) -> str:
    """Say the hyper-parameters of a classifier, and what they were selected on, in a few words."""
    return described(line.classifier, line.params, line.selected_on)


def caption(results: Results) -> str:
    """Say of what the table is: classes and images of each group, the test, and whether the split is balanced."""
    classes, images = results.classes, results.images
    groups = ", ".join(
        f"{shot} {counted(classes[shot], 'class', 'classes')}/{counted(images[shot], 'image', 'images')}"
        for shot in SHOTS
    )
    reference = CLASSIFIERS.get(results.reference).label
    if results.balanced is False:
        test = f"paired randomisation test of the mean against {reference}, on the same images"
    else:
        test = f"McNemar's exact test against {reference}, on the same images"
    return "\n".join([f"{groups}. p: {test}.", *_balance(results)])


def _balance(results: Results) -> list[str]:
    """Say in one line whether the split is balanced, and what follows for the columns."""
    counts = results.images_per_class
    if counts is None:
        return []
    none = f"; {counted(counts.empty_classes, 'class has', 'classes have')} none" if counts.empty_classes else ""
    if counts.balanced:
        images = counted(counts.largest, "image", "images")
        return [f"The {results.split} split is balanced ({images} a class{none}): all and mean are one."]
    ratio = counts.largest / counts.smallest
    return [
        f"The {results.split} split is not balanced ({counts.smallest:,} to {counts.largest:,} images a class, "
        f"largest over smallest {ratio:,.4g}{none}): mean, over the classes, is the fair column."
    ]


def fair_column(results: Results) -> str:
    """Return the column that counts every class as much; `all` is the paper's, and does so on a balanced split."""
    return MEAN if results.balanced is False else "all"


def p_value_of(line: Line, column: str) -> float | None:
    """Return the p-value against Joint of a column: of `all`, or of the mean over the classes."""
    if line.versus_joint is None:
        return None
    return line.versus_joint.mean_class_accuracy_p_value if column == MEAN else line.versus_joint.p_value


def counted(count: int, singular: str, plural: str) -> str:
    """Return the count with its noun."""
    return f"{count:,} {singular if count == 1 else plural}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def _interval(interval: tuple[float, float] | None) -> str:
    return "–" if interval is None else f"{interval[0]:.1f}–{interval[1]:.1f}"


def p_value(value: float | None) -> str:
    """Return what a table shows of a p-value."""
    if value is None:
        return "–"
    return f"{value:.3f}" if value >= 0.001 else f"{value:.0e}"


def _bold_if(best: bool, text: str) -> str:
    return f"[bold]{text}[/bold]" if best and text != "–" else text
