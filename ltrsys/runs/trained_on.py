"""Which dataset a run was trained on: its record is kept in the run folder, to say later what has changed."""

from ltrsys.data.index.dataset import Dataset
from ltrsys.data.index.difference import Difference, difference
from ltrsys.data.index.records import parse_record, write_record
from ltrsys.errors import DataError
from ltrsys.files import read_json
from ltrsys.runs.folder import RunFolder


def keep_record(run: RunFolder, dataset: Dataset) -> None:
    """Write `RUN/dataset.json`. A run that goes on has the dataset it was begun with, or is refused before."""
    write_record(run.path, dataset.record)


def changes_since(run: RunFolder, dataset: Dataset) -> Difference | None:
    """Return how `dataset` differs from what the run was trained on; None where it does not, or nobody knows.

    Runs of ltrsys 0.2.0 and earlier, and imported ones, do not know.

    Raises:
        DataError: Where the run's record is damaged.
    """
    if not run.dataset.exists():
        return None
    try:
        record = parse_record(read_json(run.dataset, "record of a dataset"), str(run.dataset))
    except DataError:
        raise DataError(
            f"{run.dataset}: this copy of the record of the run's shards is damaged. Without it nobody "
            "can say what has changed in them since: remove it to go on."
        ) from None
    return None if record == dataset.record else difference(record, dataset.record)
