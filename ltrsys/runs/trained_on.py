"""Which dataset a run was trained on: its record is kept in the run folder, to say later what has changed."""

from ltrsys.data.index.dataset import Dataset
from ltrsys.data.index.difference import Difference, difference, difference_of_classes
from ltrsys.data.index.records import DatasetRecord, parse_record, write_record
from ltrsys.errors import DataError
from ltrsys.files import read_json
from ltrsys.models.signature import signature_in
from ltrsys.runs.folder import RunFolder


def keep_record(run: RunFolder, dataset: Dataset) -> None:
    """Write `RUN/dataset.json`. A run that goes on has the dataset it was begun with, or is refused before."""
    write_record(run.path, dataset.record)


def kept_record(run: RunFolder) -> DatasetRecord | None:
    """Return the record of what a run was trained on; None where it has none, as imported ones.

    Raises:
        DataError: Where it is damaged.
    """
    if not run.dataset.exists():
        return None
    try:
        return parse_record(read_json(run.dataset, "record of a dataset"), str(run.dataset))
    except DataError:
        raise DataError(
            f"{run.dataset}: this copy of the record of the run's shards is damaged. Without it nobody "
            "can say what has changed in them since: remove it to go on."
        ) from None


def changes_since(run: RunFolder, dataset: Dataset) -> Difference | None:
    """Return how `dataset` differs from what the run was trained on; None where it does not, or nobody knows.

    A run without a record, as imported ones are, knows its classes alone, by its model's signature; those of ltrsys
    0.2.0 and earlier know nothing.

    Raises:
        DataError: Where the run's record, or its model, is damaged.
    """
    record = kept_record(run)
    if record is None:
        signature = signature_in(run.model) if run.model.exists() else None
        if signature is None:
            return None
        found = difference_of_classes(signature.classes, dataset.record.classes)
        return found if found.classes or found.rest else None
    return None if record == dataset.record else difference(record, dataset.record)
