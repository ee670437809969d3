"""iNaturalist's open data on AWS: `observations.csv.gz`, `photos.csv.gz` and `taxa.csv.gz`, as one data set.

The layout is that of https://github.com/inaturalist/inaturalist-open-data/tree/main/Metadata: values with tabs between
them and no quotes. Photographs are at `photos/ID/medium.EXTENSION` of the bucket, and are kept by this path. A class is
a species; what is of a subspecies belongs to it.
"""

import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ltrsys.data.index.records import ClassRecord
from ltrsys.data.sources.fetching.reader import FetchedImages, is_url
from ltrsys.data.sources.files.text_files import quoted
from ltrsys.data.sources.source import Items, Source, SourceOptions, require_folder
from ltrsys.data.sources.tables.columns import named_columns
from ltrsys.data.sources.tables.joining import UuidPlaces, once_each, uuids, whole_numbers
from ltrsys.data.sources.tables.open_data_taxa import Taxa
from ltrsys.data.sources.tables.text_tables import TextTable, opener
from ltrsys.data.sources.tables.values import SharedTexts
from ltrsys.errors import DataError, UsageError

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger("ltrsys")

BUCKET = "https://inaturalist-open-data.s3.amazonaws.com"
USERS = "https://www.inaturalist.org/users"
SIZE = "medium"
"""The long side has 500 pixels."""

_KNOWN_OF_OBSERVATIONS = {"date": "observed_on", "latitude": "latitude", "longitude": "longitude"}


def read_open_data(options: SourceOptions) -> Source:
    """Read the three tables below the root.

    Raises:
        UsageError: Where no root was given, or a URL that is none.
        DataError: Where a table is missing or damaged, lacks a column or has a value that is none of its kind, and
            where no photograph is left.
    """
    root = options.required_root("table --preset inaturalist_open_data")
    base = (options.photo_url or BUCKET).rstrip("/")
    if not is_url(base):
        raise UsageError(f"--photo-url {quoted(base)} does not begin with http:// or https://.")
    require_folder(root, "observations.csv.gz, photos.csv.gz and taxa.csv.gz")
    tables = {name: _table(root, name) for name in ("taxa", "observations", "photos")}
    observations = _Observations(tables["observations"], options.quality_grade)
    classes, label_of = _classes(tables["taxa"], observations.taxa)
    photos = _Photos(tables["photos"], observations.identifiers, label_of)
    kept, num_again, num_ambiguous = once_each(photos.numbers, label_of[photos.observations])
    used, labels = np.unique(label_of[photos.observations[kept]], return_inverse=True)
    log.info(
        "%s: %d photographs of %d species, from %d observations (--quality-grade %s). Left out: %d of observations "
        "that are of no species, %d that another observation of the species has, and %d that show several.",
        root, len(kept), len(used), len(observations.taxa), options.quality_grade, photos.num_without_species,
        num_again, num_ambiguous,
    )  # fmt: skip
    if not len(kept):
        raise DataError(
            f"{root}: no photograph is left: none belongs to an observation of a species with --quality-grade "
            f"{options.quality_grade}. --quality-grade any takes all."
        )
    details = photos.details(kept) | observations.details(photos.observations[kept])
    items = Items(photos.names(kept), labels.astype(np.int32), details)
    images = FetchedImages(
        options.images or root,
        base=base,
        connections=options.connections,
        requests_per_second=options.requests_per_second,
    )
    records = [classes[label] for label in used]
    return Source("table", root.resolve().name, records, {"train": items}, images, images.version)


def _table(root: Path, name: str) -> TextTable:
    path = next((path for end in (".csv.gz", ".csv") if (path := root / f"{name}{end}").exists()), None)
    if path is None:
        raise DataError(f"{root}: there is no {name}.csv.gz here; fetch it from {BUCKET}/{name}.csv.gz.")
    return TextTable(str(path), opener(path), delimiter="\t", quote=None)


def _classes(table: TextTable, taxa: NDArray[np.int64]) -> tuple[list[ClassRecord], NDArray[np.int32]]:
    """Return the species of observations in the order of their names, and the place of each observation's or -1."""
    known = Taxa(table)
    different, taxon_of = np.unique(taxa, return_inverse=True)
    species = [known.species(int(taxon)) for taxon in different]
    records = sorted({record.source_id: record for record in species if record is not None}.values(), key=_name_and_id)
    place_of = {record.source_id: place for place, record in enumerate(records)}
    labels = [-1 if record is None else place_of[record.source_id] for record in species]
    names = [record.name for record in records]
    alike = {name for place, name in enumerate(names[1:]) if names[place] == name}  # an animal and a plant, mostly
    records = [
        record.model_copy(update={"name": f"{record.name} ({record.source_id})"}) if record.name in alike else record
        for record in records
    ]
    return records, np.array(labels, dtype=np.int32)[taxon_of]


def _name_and_id(record: ClassRecord) -> tuple[str, str | None]:
    return record.name, record.source_id


class _Observations:
    """The observations of a grade; arrays of shape [observations]."""

    def __init__(self, table: TextTable, grade: str) -> None:
        import pyarrow as pa
        import pyarrow.compute as pc

        needed = ("observation_uuid", "taxon_id", "quality_grade", *_KNOWN_OF_OBSERVATIONS.values())
        self._columns: dict[str, list[pa.Array]] = {column: [] for column in _KNOWN_OF_OBSERVATIONS}
        identifiers, taxa = [np.zeros((0, 2), np.uint64)], [np.zeros(0, np.int64)]
        first = 0
        for uuid, taxon, quality, *others in table.pieces(named_columns(table.header, needed, table.place)):
            numbers = whole_numbers(taxon, "taxon_id", table, first)
            chosen = numbers >= 0  # without it nobody has said what it is
            if grade != "any":
                chosen &= pc.equal(quality, grade).fill_null(False).to_numpy(zero_copy_only=False)
            identifiers.append(uuids(uuid, "observation_uuid", table, first)[chosen])
            taxa.append(numbers[chosen])
            for column, values in zip(self._columns, others, strict=True):
                # As Arrow has them, of which a text takes some bytes and not the sixty of Python's.
                self._columns[column].append(values.filter(pa.array(chosen)).cast(pa.large_string()))
            first += len(numbers)
        self.identifiers = np.concatenate(identifiers)
        self.taxa: NDArray[np.int64] = np.concatenate(taxa)

    def details(self, places: NDArray[np.int64]) -> dict[str, NDArray[np.object_]]:
        """Return what is known of the observations at `places`, which may be there several times."""
        import pyarrow as pa

        different, again = np.unique(places, return_inverse=True)
        texts = [bytes(pair).hex() for pair in self.identifiers[different].astype(">u8").view("V16")[:, 0]]
        written = [f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}" for text in texts]
        details = {"observation": np.array(written, dtype=np.object_)[again]}
        for column, pieces in self._columns.items():
            values = pa.chunked_array(pieces).take(pa.array(different)).combine_chunks()
            details[column] = SharedTexts()(values)[again]
        return details


class _Photos:
    """The photographs of observations that were chosen and are of a species; arrays of shape [photographs]."""

    def __init__(self, table: TextTable, identifiers: NDArray[np.uint64], label_of: NDArray[np.int32]) -> None:
        places = UuidPlaces(identifiers)
        needed = ("photo_id", "observation_uuid", "observer_id", "extension", "license")
        numbers, observations = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        texts = {name: (SharedTexts(), [np.zeros(0, np.object_)]) for name in ("observer_id", "extension", "license")}
        self.num_without_species = 0
        first = 0
        for photo, uuid, *others in table.pieces(named_columns(table.header, needed, table.place)):
            own = whole_numbers(photo, "photo_id", table, first)
            found = places.find(uuids(uuid, "observation_uuid", table, first))
            is_species = np.append(label_of, -1)[found] >= 0
            self.num_without_species += int(((found >= 0) & ~is_species).sum())
            chosen = np.flatnonzero(is_species)
            for (shared, pieces), values in zip(texts.values(), others, strict=True):
                pieces.append(shared(values.take(_as_indices(chosen))))
            self._check(own[chosen], texts["extension"][1][-1], chosen, table, first)
            numbers.append(own[chosen])
            observations.append(found[chosen])
            first += len(own)
        self.numbers: NDArray[np.int64] = np.concatenate(numbers)
        self.observations: NDArray[np.int64] = np.concatenate(observations)
        self._texts = {name: np.concatenate(pieces) for name, (_, pieces) in texts.items()}

    def names(self, places: NDArray[np.int64]) -> list[str]:
        """Return the paths of photographs."""
        endings = self._texts["extension"][places]
        return [
            f"photos/{number}/{SIZE}.{ending}"
            for number, ending in zip(self.numbers[places].tolist(), endings, strict=True)
        ]

    def details(self, places: NDArray[np.int64]) -> dict[str, NDArray[np.object_]]:
        """Return the licence of photographs and the page of whoever took them."""
        page: dict[str | None, str | None] = {None: None}
        for observer in self._texts["observer_id"][places]:
            page.setdefault(observer, f"{USERS}/{observer}")
        holders = np.array([page[observer] for observer in self._texts["observer_id"][places]], dtype=np.object_)
        return {"licence": self._texts["license"][places], "rights_holder": holders}

    def _check(
        self,
        numbers: NDArray[np.int64],
        endings: NDArray[np.object_],
        rows: NDArray[np.int64],
        table: TextTable,
        first: int,
    ) -> None:
        """Refuse what would make a path that leads elsewhere."""
        fine = {ending for ending in set(endings) if ending is not None and re.fullmatch("[A-Za-z0-9]{1,5}", ending)}
        for row, number, ending in zip(rows.tolist(), numbers.tolist(), endings, strict=True):
            if number < 0:
                raise DataError(f"{table.where(first + row)}: the photo_id is empty.")
            if ending not in fine:
                raise DataError(f"{table.where(first + row)}: the extension {quoted(str(ending))} is none of an image.")


def _as_indices(places: NDArray[np.int64]) -> "pa.Array":
    import pyarrow as pa

    return pa.array(places)
