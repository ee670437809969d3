"""`ltrsys report`: balanced runs in, one page out."""

from collections.abc import Sequence
from pathlib import Path

from ltrsys.evaluation.balanced_run import BalancedRun
from ltrsys.files import replaced
from ltrsys.pages.gathering import gather
from ltrsys.pages.rendering import render
from ltrsys.pages.thumbnails import Thumbnails


def report_runs(
    folders: Sequence[Path],
    overrides: Sequence[str],
    *,
    out: Path | None,
    pictures: bool,
    plugins: Sequence[str] = (),
) -> Path:
    """Write the page of some runs, whole or not at all, and return where it is.

    Args:
        folders: Run folders that have been balanced.
        overrides: Changes to their configs that are allowed after training.
        out: The file; `report.html` in the first run's folder, if none is given.
        pictures: Whether images are read from the shards.
        plugins: Methods of one's own.

    Raises:
        UsageError: For a folder that is no finished run.
        DataError: Where a run has not been balanced, or something has changed since.
    """
    runs = [BalancedRun.open(folder, overrides, plugins) for folder in folders]
    thumbnails = Thumbnails(wanted=pictures)
    try:
        page = gather(runs, thumbnails)
    finally:
        thumbnails.close()
    path = out or runs[0].run.page
    text = render(page, thumbnails.uris)
    with replaced(path, "w") as file:
        file.write(text)
    print(f"{path}: {len(text.encode()) / 1e6:.1f} MB. Open it in a browser; it needs nothing else.")
    return path
