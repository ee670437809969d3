"""What every benchmark prints and writes: its tables, and the machine and versions they were measured with.

A benchmark is a module with `measure(quick)`, which returns its tables or yields them one by one; its last lines are

    if __name__ == "__main__":
        main("input", measure)

which gives it `python -m benchmarks.NAME [--quick] [--json FILE]`.
"""

import argparse
import os
import platform
import random
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

import torch

from ltrsys.files import write_json

PACKAGES = ("torch", "torchvision", "deepspeed", "nvidia-dali-cuda130", "webdataset", "numpy", "pillow", "triton")
ROOT = Path(__file__).parent.parent
Measured = TypeVar("Measured")
WIDTH_OF_A_FILE = 140
"""Characters a line where the tables do not go to a terminal."""


@dataclass(frozen=True)
class Table:
    """One table of results: a row is a mapping from column to a number, a text or nothing."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Mapping[str, Any]]
    notes: Sequence[str] = field(default=())
    """What a reader must know to judge the numbers, a line each."""


def interleaved(cases: Mapping[str, Callable[[], Measured]], rounds: int) -> dict[str, list[Measured]]:
    """Measure each case `rounds` times, one after the other in turn, so that a slow minute slows all alike.

    Their order is another one in every round: what a case leaves behind in caches and queues meets all others alike.
    """
    results: dict[str, list[Measured]] = {name: [] for name in cases}
    order, generator = list(cases), random.Random(0)
    for _ in range(rounds):
        generator.shuffle(order)
        for name in order:
            results[name].append(cases[name]())
    return results


def summary(values: Sequence[float]) -> dict[str, float]:
    """Return the median and the 20th and 80th percentiles."""
    if len(values) == 1:
        return {"median": values[0], "p20": values[0], "p80": values[0]}
    fifths = statistics.quantiles(values, n=5, method="inclusive")
    return {"median": statistics.median(values), "p20": fifths[0], "p80": fifths[3]}


def environment() -> dict[str, Any]:
    """Describe the machine, the versions and the commit."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _git("rev-parse", "--short", "HEAD") + ("+changes" if _git("status", "--porcelain") else ""),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
    }


def main(name: str, measure: Callable[[bool], Iterable[Table]], arguments: Sequence[str] | None = None) -> None:
    """Parse `[--quick] [--json FILE]`, measure, print the tables and write them with the environment.

    The file is written anew with each table, so that it holds what was measured until then. A table takes the place of
    an earlier one of the same title.
    """
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}")
    parser.add_argument("--quick", action="store_true", help="a small run, to see that it works")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results there")
    options = parser.parse_args(arguments)
    tables: dict[str, Table] = {}
    measured_on: dict[str, Any] = {}
    for table in measure(options.quick):
        tables[table.title] = table
        measured_on = measured_on or environment()
        if options.json:
            results = {"benchmark": name, "quick": options.quick, "environment": measured_on}
            write_json(options.json, results | {"tables": [asdict(one) for one in tables.values()]})
    show(list(tables.values()), measured_on)


def show(tables: Sequence[Table], measured_on: Mapping[str, Any]) -> None:
    """Print the tables, then what they were measured on; as Markdown where rich is not installed."""
    facts = [f"{key} {value}" for key, value in measured_on.items() if key != "versions" and value is not None]
    facts += [f"{package} {found}" for package, found in measured_on["versions"].items()]
    try:
        from rich.console import Console
        from rich.table import Table as RichTable
    except ImportError:
        print("\n".join([*(markdown(table) for table in tables), ", ".join(facts)]))
        return
    console = Console() if sys.stdout.isatty() else Console(width=WIDTH_OF_A_FILE)
    for table in tables:
        drawn = RichTable(title=table.title, title_justify="left", title_style="bold")
        for place, column in enumerate(table.columns):
            drawn.add_column(column, justify="left" if place == 0 else "right")
        for row in table.rows:
            drawn.add_row(*(cell(row.get(column)) for column in table.columns))
        console.print(drawn)
        for note in table.notes:
            console.print(note, markup=False, highlight=False)
    console.print(", ".join(facts), style="dim", highlight=False)


def markdown(table: Table) -> str:
    """Return a table as Markdown: its title, its rows, and its notes as a list."""
    lines = [f"**{table.title}**", "", _line(table.columns), _line(["---"] + ["---:"] * (len(table.columns) - 1))]
    lines += [_line([cell(row.get(column)) for column in table.columns]) for row in table.rows]
    return "\n".join([*lines, "", *(f"* {note}" for note in table.notes), ""])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(text.replace('|', chr(92) + '|') for text in cells)} |"


def cell(value: Any) -> str:
    """Return a number or a text as it stands in a table, a dash for nothing."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.3f}" if abs(value) < 10 else f"{value:,.1f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
