"""A Darwin Core archive as GBIF gives them: occurrences, and the URLs of their photographs in an extension.

A folder or a `.zip`. `meta.xml` names the files and their columns; without it they are `occurrence.txt` and
`multimedia.txt` with tabs between the values and names in the first line. A class is a `species`, or where there is no
such column a `scientificName`.
"""

import logging
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ltrsys.data.sources.fetching.reader import FetchedImages, is_url, required_folder
from ltrsys.data.sources.source import Items, Source, SourceOptions
from ltrsys.data.sources.tables.classes import ClassTable
from ltrsys.data.sources.tables.columns import RANKS
from ltrsys.data.sources.tables.darwin_core_archive import ArchiveTable, open_archive
from ltrsys.data.sources.tables.joining import once_each
from ltrsys.data.sources.tables.values import SharedTexts, coded
from ltrsys.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger("ltrsys")

_DETAILS = {
    "location": ("locationID", "locality"),
    "date": ("eventDate",),
    "latitude": ("decimalLatitude",),
    "longitude": ("decimalLongitude",),
    "licence": ("license", "rights"),
    "rights_holder": ("rightsHolder", "recordedBy"),
}
"""Terms of what is known of an occurrence, best first."""


def read_darwin_core(options: SourceOptions) -> Source:
    """Read the archive that the root is.

    Raises:
        UsageError: Where no root was given, or no folder for the images of a `.zip`.
        DataError: Where it is no archive or a damaged one, lacks a table or column, or no photograph is left.
    """
    root = options.required_root("table --preset darwin_core")
    core, media = open_archive(root)
    folder = required_folder(options.images, root if root.is_dir() else None)
    photographs = _Photographs(media)
    occurrences = _Occurrences(core, photographs.occurrence_number)
    label_of = occurrences.labels[photographs.occurrences]
    named = np.flatnonzero(label_of >= 0)
    digests = np.fromiter((hash(photographs.urls[row]) for row in named), np.int64, len(named))
    chosen, num_again, num_ambiguous = once_each(digests, label_of[named])
    kept = named[chosen]
    used, labels = np.unique(label_of[kept], return_inverse=True)
    log.info(
        "%s: %d photographs of %d species. Left out: %d media that are no photographs with a URL, %d photographs of "
        "occurrences of no species, %d that another occurrence of the species has, and %d that show several.",
        root, len(kept), len(used), photographs.num_left_out, len(label_of) - len(named), num_again,
        num_ambiguous,
    )  # fmt: skip
    if not len(kept):
        raise DataError(f"{root}: no photograph is left: none has a URL and belongs to an occurrence of a species.")
    places = photographs.occurrences[kept]
    details = {"observation": np.array(list(photographs.occurrence_number), dtype=np.object_)[places]}
    details |= {column: values[places] for column, values in occurrences.details.items()}
    for column, values in photographs.details.items():
        own = values[kept]
        details[column] = np.where(own == None, details.get(column, own), own)  # noqa: E711 - elementwise
    items = Items([photographs.urls[row] for row in kept], labels.astype(np.int32), details)
    images = FetchedImages(folder, connections=options.connections, requests_per_second=options.requests_per_second)
    records = [occurrences.classes[label] for label in used]
    return Source("table", root.resolve().stem, records, {"train": items}, images, images.version)


class _Photographs:
    """The photographs of the extension; arrays of shape [photographs]."""

    def __init__(self, table: ArchiveTable) -> None:
        url = table.first_of(("identifier", "accessURI"))
        if url is None:
            raise table.lacks("identifier, the URL of the photograph")
        optional = {"type": ("type",), "format": ("format",), "licence": ("license", "UsageTerms", "rights")}
        optional["rights_holder"] = ("rightsHolder", "Owner", "creator")
        columns = {name: place for name, terms in optional.items() if (place := table.first_of(terms)) is not None}
        shared = {name: SharedTexts() for name in columns}
        self.urls: list[str] = []
        self.occurrence_number: dict[str, int] = {}
        """The number of each occurrence that has a photograph, by its id."""
        self.num_left_out = 0
        numbers = [np.zeros(0, np.int64)]
        texts: dict[str, list[NDArray[np.object_]]] = {name: [np.zeros(0, np.object_)] for name in columns}
        for core_ids, urls, *others in table.pieces([table.identifier, url, *columns.values()]):
            values = {name: shared[name](array) for name, array in zip(columns, others, strict=True)}
            rows = self._photographs(urls.to_pylist(), core_ids.to_pylist(), values)
            numbers.append(rows[1])
            for name in columns:
                texts[name].append(values[name][rows[0]])
        self.occurrences: NDArray[np.int64] = np.concatenate(numbers)
        self.details = {
            name: np.concatenate(pieces) for name, pieces in texts.items() if name in ("licence", "rights_holder")
        }

    def _photographs(
        self, urls: Sequence[str], core_ids: Sequence[str], values: dict[str, NDArray[np.object_]]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Take the rows that are photographs; returns them and the numbers of their occurrences."""
        nothing = np.full(len(urls), None, dtype=np.object_)
        kinds, formats = values.get("type", nothing), values.get("format", nothing)
        rows, numbers = [], []
        for row, (url, core_id) in enumerate(zip(urls, core_ids, strict=True)):
            kind, format = (kinds[row] or "StillImage").lower(), (formats[row] or "image/").lower()
            if kind in ("stillimage", "image") and format.startswith("image/") and is_url(url.strip()) and core_id:
                rows.append(row)
                numbers.append(self.occurrence_number.setdefault(core_id, len(self.occurrence_number)))
                self.urls.append(url.strip())
            else:
                self.num_left_out += 1
        return np.array(rows, dtype=np.int64), np.array(numbers, dtype=np.int64)


class _Occurrences:
    """The occurrences that have photographs; arrays of shape [occurrences]."""

    def __init__(self, table: ArchiveTable, number_of: dict[str, int]) -> None:
        name = table.first_of(("species", "scientificName"))
        if name is None:
            raise table.lacks("species or scientificName")
        ranks = {rank: place for rank in RANKS if (place := table.first_of((rank,))) is not None}
        columns = {name: place for name, terms in _DETAILS.items() if (place := table.first_of(terms)) is not None}
        status = table.first_of(("occurrenceStatus",))
        shared = {name: SharedTexts() for name in columns}
        self.details = {name: np.full(len(number_of), None, dtype=np.object_) for name in columns}
        numbers = np.full(len(number_of), -1, dtype=np.int64)
        classes = ClassTable()
        wanted = [table.identifier, name, name if status is None else status, *ranks.values(), *columns.values()]
        first = 0
        for ids, names, statuses, *others in table.pieces(wanted):
            places = np.array([number_of.get(core_id, -1) for core_id in ids.to_pylist()], dtype=np.int64)
            chosen = np.flatnonzero((places >= 0) & _is_known(names))
            if status is not None:
                codes, texts = coded(statuses)
                is_absent = np.array([(text or "").lower() == "absent" for text in texts])
                chosen = chosen[~is_absent[codes[chosen]]]
            first += len(places)
            if not len(chosen):
                continue
            numbers[places[chosen]] = classes.numbers(
                None,
                _take(names, chosen),
                {rank: _take(array, chosen) for rank, array in zip(ranks, others, strict=False)},
                partial(_where, table, first - len(places), chosen),
            )
            for column, array in zip(columns, others[len(ranks) :], strict=True):
                self.details[column][places[chosen]] = shared[column](_take(array, chosen))
        self.classes, ids_of = classes.finished(None, table.place) if (numbers >= 0).any() else ([], np.zeros(0, int))
        self.labels: NDArray[np.int32] = np.append(ids_of, -1)[numbers].astype(np.int32)


def _is_known(names: "pa.Array") -> NDArray[np.bool_]:
    codes, texts = coded(names)
    return np.array([text is not None for text in texts])[codes]


def _take(values: "pa.Array", rows: NDArray[np.int64]) -> "pa.Array":
    import pyarrow as pa

    return values.take(pa.array(rows))


def _where(table: ArchiveTable, first: int, rows: NDArray[np.int64], row: int) -> str:
    return table.where(first + int(rows[row]))
