"""Whose photographs they are: `OUT/attribution.csv`, a line an image whose licence or rights holder is known."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ltrsys.data.shards.build_folder import ATTRIBUTION
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
