"""`ltrsys compare`: balanced runs in, a comparison on the same images out."""

from collections.abc import Sequence
from pathlib import Path

from ltrsys.comparison.comparing import compare_balanced
from ltrsys.comparison.table import print_comparison
from ltrsys.errors import UsageError
from ltrsys.evaluation.balanced_run import BalancedRun


def compare_runs(
    folders: Sequence[Path],
    overrides: Sequence[str],
    *,
    classifiers: str | None,
    as_json: bool,
    plugins: Sequence[str] = (),
) -> None:
    """Print how classifiers of runs differ on the images that all of them are reported on.

    Args:
        folders: Two run folders or more that have been balanced.
        overrides: Changes to their configs that are allowed after training.
        classifiers: Names, separated by commas; all that every run has if not given.
        as_json: Whether JSON is printed in place of tables.
        plugins: Methods of one's own.

    Raises:
        UsageError: For a folder that is no finished run, fewer than two runs, or runs reported on other images.
        DataError: Where a run has not been balanced, or something has changed since.
    """
    if len({folder.resolve() for folder in folders}) < 2:
        raise UsageError("`ltrsys compare` needs two runs or more. The classifiers of one are in `ltrsys report RUN`.")
    runs = [BalancedRun.open(folder, overrides, plugins) for folder in folders]
    names = None if classifiers is None else [name.strip() for name in classifiers.split(",")]
    comparison = compare_balanced(runs, names)
    if as_json:
        print(comparison.model_dump_json(indent=1))
    else:
        print_comparison(comparison, named=names is not None)
