"""Whose photographs they are: `OUT/attribution.csv`, a line an image whose licence or rights holder is known."""

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ltrsys.data.shards.build_folder import ATTRIBUTION
from ltrsys.errors import DataError
from ltrsys.files import replaced

COLUMNS = ("licence", "rights_holder")


def write_attribution(folder: Path, items: Sequence[str], details: Mapping[str, NDArray[np.object_]]) -> None:
    """Write the file into `folder`, where anything is known.

    Args:
        folder: Where the file goes.
        items: The images.
        details: What is known of them, by column (`Items.details`), [images] each.
    """
    columns = [details.get(column, np.full(len(items), None, object)) for column in COLUMNS]
    known = np.flatnonzero(np.any([[value is not None for value in column] for column in columns], axis=0)).tolist()
    if not known:
        return
    with replaced(folder / ATTRIBUTION, "w") as file:
        lines = csv.writer(file)  # as RFC 4180 has it
        lines.writerow(["item", *COLUMNS])
        for place in known:
            item = items[place].encode(errors="surrogateescape").decode(errors="replace")
            lines.writerow([item, *(column[place] or "" for column in columns)])


def licences_in(path: Path) -> Counter[str]:
    """Count the images of each licence in such a file; those of none under an empty name.

    Raises:
        DataError: Where it is no such file.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            return Counter(row[COLUMNS[0]] or "" for row in csv.DictReader(file, strict=True))
    except (KeyError, csv.Error, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: not a file of attributions as `ltrsys shards` writes it ({error!r}). Copy it again from where "
            "the shards were built."
        ) from None
