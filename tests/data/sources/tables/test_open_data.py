"""iNaturalist's open data: small tables of the layout that it documents."""

import gzip
import logging
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ltrsys.data.shards.building import build_shards
from ltrsys.data.sources.source import Source, SourceOptions
from ltrsys.data.sources.table import TableSource
from ltrsys.data.sources.tables.joining import UuidPlaces, once_each
from ltrsys.data.sources.tables.open_data import BUCKET
from ltrsys.errors import DataError, LtrsysError, UsageError
from tests.data.sources.image_server import Answer, ImageServer
from tests.data.sources.pictures import encode, picture

TAXA = (
    ("taxon_id", "ancestry", "rank_level", "rank", "name", "active"),
    ("48460", "", "100.0", "stateofmatter", "Life", "t"),
    ("1", "48460", "70.0", "kingdom", "Animalia", "t"),
    ("3", "48460/1", "50.0", "class", "Aves", "t"),
    ("20", "48460/1/3", "20.0", "genus", "Bubo", "t"),
    ("21", "48460/1/3/20", "10.0", "species", "Bubo bubo", "t"),
    ("22", "48460/1/3/20/21", "5.0", "subspecies", "Bubo bubo hispanus", "t"),
    ("23", "48460/1/3/20", "10.0", "hybrid", "Bubo × bubo", "t"),
    ("30", "48460\\1", "10.0", "species", 'Asio "otus"', "f"),
)
OBSERVATIONS = (
    ("observation_uuid", "observer_id", "latitude", "longitude", "positional_accuracy", "taxon_id", "quality_grade",
     "observed_on", "anomaly_score"),
    ("{1}", "7", "41.5", "-2.25", "10", "21", "research", "2020-01-02", ""),
    ("{2}", "8", "", "", "", "22", "research", "", "0.5"),
    ("{3}", "8", "1.0", "2.0", "", "30", "needs_id", "2021-01-01", ""),
    ("{4}", "9", "1.0", "2.0", "", "20", "research", "2021-01-01", ""),
    ("{5}", "9", "1.0", "2.0", "", "", "casual", "2021-01-01", ""),
    ("{6}", "9", "1.0", "2.0", "", "30", "research", "2021-01-03", ""),
)  # fmt: skip
PHOTOS = (
    ("photo_uuid", "photo_id", "observation_uuid", "observer_id", "extension", "license", "width", "height",
     "position"),
    ("{91}", "101", "{1}", "7", "jpg", "CC-BY", "500", "400", "0"),
    ("{92}", "102", "{1}", "7", "jpeg", "CC0", "500", "400", "1"),
    ("{93}", "103", "{2}", "8", "png", "CC-BY-NC", "500", "400", "0"),
    ("{94}", "104", "{3}", "8", "jpg", "CC0", "500", "400", "0"),
    ("{95}", "105", "{4}", "9", "jpg", "CC0", "500", "400", "0"),
    ("{96}", "102", "{2}", "8", "jpeg", "CC0", "500", "400", "0"),
    ("{97}", "107", "{6}", "9", "jpg", "CC0", "500", "400", "0"),
    ("{98}", "108", "{6}", "9", "jpg", "CC0", "500", "400", "0"),
    ("{99}", "108", "{1}", "7", "jpg", "CC0", "500", "400", "0"),
    ("{90}", "109", "{77}", "7", "jpg", "CC0", "500", "400", "0"),
)  # fmt: skip
TABLES = {"taxa": TAXA, "observations": OBSERVATIONS, "photos": PHOTOS}


def uuid(number: str) -> str:
    return f"c075c500-b566-44aa-847c-{int(number):012x}"


def text(rows: tuple[tuple[str, ...], ...]) -> str:
    lines = ("\t".join(uuid(value[1:-1]) if value.startswith("{") else value for value in row) + "\n" for row in rows)
    return "".join(lines)


def write(root: Path, **changed: str) -> Path:
    root.mkdir(exist_ok=True)
    for name, rows in TABLES.items():
        (root / f"{name}.csv.gz").write_bytes(gzip.compress(changed.get(name, text(rows)).encode()))
    return root


def read(root: Path, **options: Any) -> Source:
    return TableSource.read(SourceOptions(root, preset="inaturalist_open_data", **options))


def test_photographs_of_a_grade_are_joined_with_their_species(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "ltrsys"):
        source = read(write(tmp_path / "inat"))
    items = source.splits["train"]
    assert items.names == [f"photos/{name}" for name in
                           ("101/medium.jpg", "102/medium.jpeg", "103/medium.png", "107/medium.jpg")]  # fmt: skip
    assert [record.name for record in source.classes] == ['Asio "otus"', "Bubo bubo"]
    assert items.labels.tolist() == [1, 1, 1, 0]
    assert source.classes[1].source_id == "21"
    assert source.classes[1].taxonomy == {
        "kingdom": "Animalia",
        "class": "Aves",
        "genus": "Bubo",
        "species": "Bubo bubo",
    }
    assert source.classes[0].taxonomy == {"kingdom": "Animalia", "species": 'Asio "otus"'}
    details = {column: values.tolist() for column, values in items.details.items()}
    assert details == {
        "observation": [uuid("1"), uuid("1"), uuid("2"), uuid("6")],
        "date": ["2020-01-02", "2020-01-02", None, "2021-01-03"],
        "latitude": ["41.5", "41.5", None, "1.0"],
        "longitude": ["-2.25", "-2.25", None, "2.0"],
        "licence": ["CC-BY", "CC0", "CC-BY-NC", "CC0"],
        "rights_holder": [f"https://www.inaturalist.org/users/{user}" for user in (7, 7, 8, 9)],
    }
    assert "4 photographs of 2 species, from 4 observations (--quality-grade research). Left out: 1 of" in caplog.text
    assert "1 that another observation of the species has, and 2 that show several" in caplog.text


def test_another_grade_or_all_may_be_taken(tmp_path: Path) -> None:
    root = write(tmp_path / "inat")
    assert read(root, quality_grade="needs_id").splits["train"].names == ["photos/104/medium.jpg"]
    assert len(read(root, quality_grade="any").splits["train"]) == 5


def test_photographs_are_fetched_from_the_bucket_unless_they_are_there(
    images_online: ImageServer, tmp_path: Path
) -> None:
    root = write(tmp_path / "inat")
    for name in ("102/medium.jpeg", "103/medium.png", "107/medium.jpg"):
        images_online.give(f"/photos/{name}", Answer(encode(picture(40 + int(name[:3])), "JPEG")))
    (root / "photos/101").mkdir(parents=True)
    (root / "photos/101/medium.jpg").write_bytes(encode(picture(), "JPEG"))
    assert read(root).read.base == BUCKET == "https://inaturalist-open-data.s3.amazonaws.com"
    source = read(root, photo_url=f"{images_online.url}/", requests_per_second=1e6)
    dataset = build_shards(source, tmp_path / "out")
    assert dataset.record.splits["train"].class_counts == [1, 3]
    assert (root / "photos/103/medium.png").exists()
    assert sum(images_online.requests.values()) == 3
    assert (
        "photos/107/medium.jpg,CC0,https://www.inaturalist.org/users/9"
        in (tmp_path / "out/attribution.csv").read_text()
    )


def test_species_of_one_name_are_told_apart(tmp_path: Path) -> None:
    root = write(tmp_path / "inat", taxa=text(TAXA).replace('Asio "otus"', "Bubo bubo"))
    assert [record.name for record in read(root).classes] == ["Bubo bubo (21)", "Bubo bubo (30)"]


@pytest.mark.parametrize(
    ("table", "old", "new", "message"),
    [
        ("photos", "\t101\t", "\tx1\t", r"photos.csv.gz:2: photo_id `x1` is no whole number"),
        ("photos", "\t101\t", "\t\t", r"photos.csv.gz:2: the photo_id is empty"),
        ("photos", "\tpng\t", "\t../x\t", r"photos.csv.gz:4: the extension `../x` is none of an image"),
        ("photos", "\tpng\t", "\t", r"photos.csv.gz:4: 8 values and not 9"),
        ("photos", "extension", "ending", r"there is no column `extension`.*There are: `photo_uuid`, `photo_id`"),
        ("photos", uuid("2"), "12", r"photos.csv.gz:4: observation_uuid `12` is no UUID"),
        ("observations", uuid("2"), "", r"observations.csv.gz:3: observation_uuid `` is no UUID"),
        ("observations", "\t22\t", "\t99\t", r"taxa.csv.gz: there is no taxon 99, which an observation has"),
        ("observations", "research", "casual", r"no photograph is left: .* --quality-grade any takes all"),
        ("taxa", "Bubo bubo\t", "\t", r"taxa.csv.gz: the species of taxon 21 has no name"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, table: str, old: str, new: str, message: str) -> None:
    changed = text(TABLES[table]).replace(old, new)
    with pytest.raises(DataError, match=message):
        read(write(tmp_path / "inat", **{table: changed}))


def test_a_table_that_is_missing_and_a_url_that_is_none_are_named(tmp_path: Path) -> None:
    root = write(tmp_path / "inat")
    with pytest.raises(UsageError, match="--photo-url `ftp://x` does not begin with http"):
        read(root, photo_url="ftp://x")
    (root / "taxa.csv.gz").unlink()
    with pytest.raises(DataError, match=r"there is no taxa.csv.gz here; fetch it from https://inat.*/taxa.csv.gz"):
        read(root)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    table=st.sampled_from(sorted(TABLES)),
    data=st.binary(max_size=20) | st.sampled_from([b"\t", b"\n", b"\t\t\n"]),
    place=st.integers(0, 700),
    skipped=st.integers(0, 40),
)
def test_any_tables(table: str, data: bytes, place: int, skipped: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = write(Path(folder, "inat"))
        whole = text(TABLES[table]).encode()
        (root / f"{table}.csv.gz").write_bytes(gzip.compress(whole[:place] + data + whole[place + skipped :]))
        try:
            source = read(root)
        except LtrsysError as error:
            refusal = str(error)
        else:
            refusal = ""
            assert source.splits["train"].labels.max() < len(source.classes)
        assert "\n" not in refusal


@given(
    entries=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), unique=True, max_size=9),
    asked=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=9),
)
def test_places_are_those_of_a_dict(entries: list[tuple[int, int]], asked: list[tuple[int, int]]) -> None:
    place_of = {entry: place for place, entry in enumerate(entries)}
    places = UuidPlaces(np.array(entries, dtype=np.uint64).reshape(-1, 2))
    found = places.find(np.array(asked, dtype=np.uint64).reshape(-1, 2))
    assert found.tolist() == [place_of.get(entry, -1) for entry in asked]


@given(rows=st.lists(st.tuples(st.integers(-2, 3), st.integers(0, 2)), max_size=12))
def test_each_image_is_kept_once_and_none_of_several_classes(rows: list[tuple[int, int]]) -> None:
    keys, labels = (np.array([row[part] for row in rows], dtype=kind) for part, kind in ((0, np.int64), (1, np.int32)))
    kept, num_again, num_ambiguous = once_each(keys, labels)
    classes_of = {key: {label for other, label in rows if other == key} for key, _ in rows}
    fine = [key for key, _ in rows if len(classes_of[key]) == 1]
    assert kept.tolist() == sorted({[key for key, _ in rows].index(key) for key in fine})
    assert num_again == len(fine) - len(kept)
    assert num_ambiguous == len(rows) - len(fine)
