"""The table of classifiers, with the paper's columns."""

from rich.console import Console
from rich.table import Table

from ltrsys.classifiers.base import ClassifierName
from ltrsys.evaluation import COLUMNS
from ltrsys.results import Line, Results, columns_of

TITLES: dict[ClassifierName, str] = {
    "joint": "Joint",
    "ncm": "NCM",
    "crt": "cRT",
    "tau": "τ-normalised",
    "lws": "LWS",
}
"""The paper's names."""


def results_table(results: Results) -> Table:
    """Lay out one line a classifier: top-1 accuracy of many, medium, few and all, with the interval of all."""
    table = Table(
        title=f"{results.dataset}, {results.split}: top-1 accuracy in per cent",
        caption=_caption(results),
        caption_justify="left",
    )
    table.add_column("classifier", no_wrap=True)
    for column in COLUMNS:
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("95 % interval", justify="right", no_wrap=True)
    table.add_column("mean class", justify="right", no_wrap=True)
    table.add_column("top-5", justify="right", no_wrap=True)
    table.add_column("p vs joint", justify="right", no_wrap=True)
    table.add_column("parameters")
    best = {
        column: max(
            (value for line in results.results if (value := columns_of(line)[column]) is not None), default=None
        )
        for column in COLUMNS
    }
    for line in results.results:
        cells = [_bold_if(value == best[column], _number(value)) for column, value in columns_of(line).items()]
        table.add_row(
            TITLES[line.classifier],
            *cells,
            _interval(line.confidence_95["all"]),
            _number(line.mean_class_accuracy),
            _number(line.top5),
            "–" if line.versus_joint is None else _p_value(line.versus_joint.p_value),
            parameters(line),
        )
    return table


def print_table(results: Results) -> None:
    """Print the table on stdout; its full width where stdout is a file or a pipe."""
    console = Console()
    table = results_table(results)
    if not console.is_terminal:
        console = Console(width=max(console.measure(table, options=console.options.update(width=1000)).maximum, 80))
    console.print(table)


def parameters(line: Line) -> str:
    """Say the hyper-parameters of a classifier, and what they were selected on, in a few words."""
    if line.classifier == "tau":
        where = {"val": "chosen on val", "train": "chosen on train", "learned": "learned on train", None: ""}
        warning = ", which is the reported split" if line.params.get("val_is_test") else ""
        return f"τ = {line.params['tau']:.4g}, {where[line.selected_on]}{warning}"
    if line.classifier == "ncm":
        return f"{line.params['feature']}, {line.params['distance']}"
    return ""


def _caption(results: Results) -> str:
    groups = ", ".join(
        f"{shot} {results.classes[shot]} classes/{results.images[shot]} images" for shot in COLUMNS if shot != "all"
    )
    return f"{groups}; all {results.images['all']} images. p: McNemar's exact test against joint."


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def _interval(interval: tuple[float, float] | None) -> str:
    return "–" if interval is None else f"{interval[0]:.1f} to {interval[1]:.1f}"


def _p_value(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else f"{value:.0e}"


def _bold_if(best: bool, text: str) -> str:
    return f"[bold]{text}[/bold]" if best and text != "–" else text
