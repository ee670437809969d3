"""Darwin Core archives: small ones of GBIF's layout, with and without a `meta.xml`."""

import logging
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ltrsys.data.sources.source import Source, SourceOptions
from ltrsys.data.sources.table import TableSource
from ltrsys.errors import DataError, LtrsysError, UsageError
from tests.data.sources.image_server import Answer, ImageServer

OWL = {
    "scientificName": "Bubo bubo (L.)", "kingdom": "Animalia", "phylum": "Chordata", "class": "Aves",
    "order": "Strigiformes", "family": "Strigidae", "genus": "Bubo", "species": "Bubo bubo",
}  # fmt: skip
OCCURRENCES = [
    OWL
    | {
        "gbifID": "1",
        "license": "CC_BY_4_0",
        "rightsHolder": "Ann",
        "recordedBy": "Bob",
        "occurrenceStatus": "PRESENT",
        "eventDate": "2020-01-02T10:00",
        "locality": 'the "old" wood',
        "decimalLatitude": "1.5",
        "decimalLongitude": "2.5",
    },
    OWL | {"gbifID": "2", "scientificName": "Asio otus (L.)", "genus": "Asio", "species": "Asio otus"},
    OWL | {"gbifID": "3", "scientificName": "Strigidae", "taxonRank": "FAMILY", "genus": "", "species": ""},
    OWL | {"gbifID": "4", "occurrenceStatus": "ABSENT"},
    OWL | {"gbifID": "5"},
    OWL | {"gbifID": "6"},
]
PHOTO = {"type": "StillImage", "format": "image/jpeg"}
MULTIMEDIA = [
    PHOTO
    | {
        "gbifID": "1",
        "identifier": "{url}/1.jpg",
        "creator": "Cid",
        "license": "http://creativecommons.org/licenses/by/4.0/",
        "rightsHolder": "Dan",
    },
    {"gbifID": "1", "type": "StillImage", "identifier": "{url}/2.jpg"},
    {"gbifID": "2", "format": "image/png", "identifier": "{url}/3.png"},
    {"gbifID": "2", "type": "Sound", "format": "audio/mpeg", "identifier": "{url}/4.mp3"},
    PHOTO | {"gbifID": "2"},
    PHOTO | {"gbifID": "3", "identifier": "{url}/5.jpg"},
    PHOTO | {"gbifID": "4", "identifier": "{url}/6.jpg"},
    PHOTO | {"gbifID": "5", "identifier": "{url}/2.jpg"},
    PHOTO | {"gbifID": "5", "identifier": "{url}/3.png"},
    PHOTO | {"gbifID": "9", "identifier": "{url}/7.jpg"},
]


def table(rows: list[dict[str, str]]) -> str:
    columns = ["gbifID", *sorted({column for row in rows for column in row} - {"gbifID"})]
    lines = [columns, *([row.get(column, "") for column in columns] for row in rows)]
    return "".join("\t".join(line) + "\n" for line in lines)


META = """<archive xmlns="http://rs.tdwg.org/dwc/text/" metadata="metadata.xml">
 <core encoding="UTF-8" fieldsTerminatedBy="," linesTerminatedBy="\\n" fieldsEnclosedBy='&quot;' ignoreHeaderLines="0"
   rowType="http://rs.tdwg.org/dwc/terms/Occurrence">
  <files><location>occ.csv</location></files>
  <id index="0"/>
  <field index="2" term="http://rs.tdwg.org/dwc/terms/scientificName"/>
  <field index="1" term="http://rs.tdwg.org/dwc/terms/family"/>
 </core>
 <extension encoding="UTF-8" fieldsTerminatedBy="\\t" fieldsEnclosedBy="" ignoreHeaderLines="1"
   rowType="http://rs.tdwg.org/ac/terms/Multimedia">
  <files><location>media.txt</location></files>
  <coreid index="1"/>
  <field index="0" term="http://rs.tdwg.org/ac/terms/accessURI"/>
 </extension>
</archive>"""
DESCRIBED = {
    "meta.xml": META,
    "occ.csv": 'o:1,Strigidae,"Bubo bubo, L."\no:2,Strigidae,Asio otus\n',
    "media.txt": "address\tof\nhttp://x/a.jpg\to:2\nhttp://x/b.jpg\to:1\n",
}


def write(root: Path, files: dict[str, str]) -> Path:
    root.mkdir(exist_ok=True)
    for name, text in files.items():
        (root / name).write_text(text)
    return root


def gbif(url: str = "http://x") -> dict[str, str]:
    return {"occurrence.txt": table(OCCURRENCES), "multimedia.txt": table(MULTIMEDIA).replace("{url}", url)}


def read(root: Path, **options: Any) -> Source:
    return TableSource.read(SourceOptions(root, preset="darwin_core", **options))


def test_photographs_are_joined_with_their_species(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "ltrsys"):
        source = read(write(tmp_path / "download", gbif()))
    items = source.splits["train"]
    assert [(name, source.classes[label].name) for name, label in zip(items.names, items.labels, strict=True)] == [
        ("http://x/1.jpg", "Bubo bubo"),
        ("http://x/2.jpg", "Bubo bubo"),
    ]
    assert [record.name for record in source.classes] == ["Bubo bubo"]
    assert list(source.classes[0].taxonomy) == ["kingdom", "phylum", "class", "order", "family", "genus", "species"]
    details = {column: values.tolist() for column, values in items.details.items()}
    assert details == {
        "observation": ["1", "1"],
        "location": ['the "old" wood'] * 2,
        "date": ["2020-01-02T10:00"] * 2,
        "latitude": ["1.5", "1.5"],
        "longitude": ["2.5", "2.5"],
        "licence": ["http://creativecommons.org/licenses/by/4.0/", "CC_BY_4_0"],
        "rights_holder": ["Dan", "Ann"],
    }
    assert "2 photographs of 1 species" in caplog.text or "2 photographs of 2 species" in caplog.text
    assert (
        "2 media that are no photographs with a URL, 3 photographs of occurrences of no species, 1 that" in caplog.text
    )
    assert "and 2 that show several" in caplog.text


def test_a_zip_is_read_as_its_folder(tmp_path: Path) -> None:
    root = write(tmp_path / "download", gbif())
    with zipfile.ZipFile(tmp_path / "download.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in gbif():
            archive.write(root / name, name)
    with pytest.raises(UsageError, match="name the folder that they are fetched into, --images FOLDER"):
        read(tmp_path / "download.zip")
    source = read(tmp_path / "download.zip", images=tmp_path / "images")
    assert source.splits["train"].names == read(root).splits["train"].names
    assert source.name == read(root).name == "download"
    content = (tmp_path / "download.zip").read_bytes()
    (tmp_path / "cut.zip").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"this is no .zip, or one that is damaged or cut"):
        read(tmp_path / "cut.zip", images=tmp_path)


def test_photographs_are_fetched_from_their_urls(images_online: ImageServer, tmp_path: Path) -> None:
    images_online.give("/1.jpg", Answer(b"jpeg"))
    source = read(write(tmp_path / "download", gbif(images_online.url)))
    assert source.read(source.splits["train"].names[0]) == b"jpeg"
    assert source.read(source.splits["train"].names[0]) == b"jpeg"
    assert images_online.requests == {"/1.jpg": 1}


def test_meta_xml_says_where_the_columns_are(tmp_path: Path) -> None:
    source = read(write(tmp_path / "archive", DESCRIBED))
    items = source.splits["train"]
    assert items.names == ["http://x/a.jpg", "http://x/b.jpg"]
    assert [source.classes[label].name for label in items.labels] == ["Asio otus", "Bubo bubo, L."]
    assert items.details["observation"].tolist() == ["o:2", "o:1"]
    assert source.classes[0].taxonomy == {"family": "Strigidae"}


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("meta.xml", "</archive>", "", r"meta.xml: this is no XML that describes an archive"),
        ("meta.xml", "dwc/terms/Occurrence", "dwc/terms/Event", r"meta.xml: this archive has no core of occurrences"),
        ("meta.xml", "ac/terms/Multimedia", "ac/terms/Sound", r"this archive has no extension Multimedia"),
        ("meta.xml", "media.txt", "other.txt", r"expected one file of the archive, and `other.txt` is named"),
        ("meta.xml", 'encoding="UTF-8"', 'encoding="UTF-16"', r"meta.xml: occ.csv is in `UTF-16`. Turn it into UTF-8"),
        ("meta.xml", '<id index="0"/>', "", r"meta.xml: occ.csv has no <id index=...>, which joins the tables"),
        ("meta.xml", 'fieldsTerminatedBy=","', 'fieldsTerminatedBy="||"', r"occ.csv has `\|\|` between values"),
        ("meta.xml", 'ignoreHeaderLines="0"', 'ignoreHeaderLines="7"', r"occ.csv has `7` lines of names"),
        ("meta.xml", "accessURI", "subject", r"media.txt: there is no column identifier, the URL of the photograph"),
        ("meta.xml", "scientificName", "other", r"occ.csv: there is no column species or scientificName"),
        ("meta.xml", 'index="2"', 'index="5"', r"occ.csv:1: 3 values and not 6, as the header has"),
        ("occ.csv", "o:1,Strigidae,", "o:1,", r"occ.csv:1: 2 values and not 3"),
        ("occ.csv", "o:", "p:", r"no photograph is left"),
        ("media.txt", "http:", "ftp:", r"no photograph is left: none has a URL"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, name: str, old: str, new: str, message: str) -> None:
    files = DESCRIBED | {name: DESCRIBED[name].replace(old, new)}
    with pytest.raises(DataError, match=message) as error:
        read(write(tmp_path / "archive", files))
    assert "\n" not in str(error.value)


def test_what_is_no_archive_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no such archive"):
        read(tmp_path / "other")
    with pytest.raises(DataError, match=r"there is no occurrence.txt and no meta.xml here"):
        read(tmp_path)
    files = gbif() | {"multimedia.txt": table(MULTIMEDIA).replace("gbifID", "id")}
    with pytest.raises(DataError, match=r"there is no column gbifID, and no meta.xml that names another"):
        read(write(tmp_path / "download", files))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    name=st.sampled_from(sorted(DESCRIBED)),
    data=st.binary(max_size=20) | st.sampled_from([b"\t", b",", b'"', b"\n", b"&lt;", b"<field/>"]),
    place=st.integers(0, 900),
    skipped=st.integers(0, 30),
    zipped=st.booleans(),
)
def test_any_archive(name: str, data: bytes, place: int, skipped: int, zipped: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = write(Path(folder, "archive"), DESCRIBED)
        path = root / name
        if zipped:
            path = Path(folder, "archive.zip")
            with zipfile.ZipFile(path, "w") as archive:
                for member in DESCRIBED:
                    archive.write(root / member, member)
            root = path
        whole = path.read_bytes()
        path.write_bytes(whole[:place] + data + whole[place + skipped :])
        try:
            source = read(root, images=Path(folder))
        except LtrsysError as error:
            refusal = str(error)
        else:
            refusal = ""
            assert source.splits["train"].labels.max() < len(source.classes)
        assert "\n" not in refusal
