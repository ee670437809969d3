"""`ltrsys inspect` from end to end: the figures of a dataset, its long tail as a plot, the check of its bytes."""

import json
import logging
import os
from pathlib import Path

from rich.console import Console

from ltrsys.data.index.dataset import Dataset
from ltrsys.data.reading.opening import open_named
from ltrsys.data.reading.verify import verify as verify_dataset
from ltrsys.errors import DataError, LtrsysError, UsageError
from ltrsys.metrics.config import ShotsConfig
from ltrsys.reporting.dataset.summary import summarize
from ltrsys.reporting.dataset.tables import print_dataset

log = logging.getLogger("ltrsys")


def inspect_dataset(
    shards: str,
    *,
    verify: bool,
    plot: Path | None,
    sheet: Path | None,
    as_json: bool,
    many: int,
    few: int,
    smallest: int,
    workers: int | None,
    cache: Path | None,
) -> None:
    """Print the figures of a dataset; verify its bytes first, if asked to; draw its long tail where a file can go.

    With `sheet`, some of its images are drawn there.

    Raises:
        UsageError: Where the groups overlap, or `shards` is no folder's name or URL.
        DataError: Where there is no dataset, or it is not whole.
    """
    if few > many:
        raise UsageError(f"--few {few} is above --many {many}.")
    shots = ShotsConfig(many=many, few=few)
    dataset = open_named(shards, cache)
    if verify:
        _verify(dataset, workers or len(os.sched_getaffinity(0)))
    plot = _draw(dataset, shots, plot)
    summary = summarize(dataset, shots, smallest=smallest)
    if sheet is not None:
        from ltrsys.reporting.dataset.contact_sheet import draw_contact_sheet  # matplotlib takes a second to import

        draw_contact_sheet(dataset, sheet)
    summary |= {
        "verified": verify,
        "plot": None if plot is None else str(plot),
        "sheet": None if sheet is None else str(sheet),
    }
    if as_json:
        print(json.dumps(summary, indent=1, ensure_ascii=False))
        return
    print_dataset(summary, Console())
    if verify:
        print("Verified: every checksum, offset, label and image size fits the index.")
    if plot:
        print(f"The long tail is drawn in {plot}.")
    if sheet:
        print(f"Images of its classes are drawn in {sheet}.")


def _draw(dataset: Dataset, shots: ShotsConfig, plot: Path | None) -> Path | None:
    """Draw the long tail; return where, or None where nobody named a place and the shards' folder takes no file."""
    if plot is None and dataset.origin is not None:
        return None
    from ltrsys.reporting.dataset.long_tail import draw_long_tail  # matplotlib takes a second to import

    path = plot or dataset.folder / "long_tail.png"
    try:
        draw_long_tail(dataset.split("train").class_counts, path, name=dataset.record.name, shots=shots)
    except LtrsysError as error:
        if plot is not None:
            raise
        log.warning("%s The long tail is not drawn; --plot names another place.", error)
        return None
    return path


def _verify(dataset: Dataset, workers: int) -> None:
    problems = list(verify_dataset(dataset, workers=workers))
    if problems:
        others = f" ({len(problems) - 1} more shards or splits have problems too.)" if len(problems) > 1 else ""
        raise DataError(problems[0] + others)
