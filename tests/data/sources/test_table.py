"""Tables with a row an image, as people and their programs write them."""

import contextlib
import gzip
import logging
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ltrsys.data.sources.source import Source, SourceOptions
from ltrsys.data.sources.table import TableSource
from ltrsys.data.sources.tables import text_tables
from ltrsys.data.sources.tables.columns import parse_columns
from ltrsys.errors import DataError, LtrsysError, UsageError

NAMES = ("a.jpg", "b.jpg", "x/c.jpg", "x/d.jpg")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return photographs(tmp_path / "images")


def photographs(root: Path) -> Path:
    for name in NAMES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    return root


def read(root: Path | None, content: str | bytes | pa.Table, ending: str = ".csv", **options: Any) -> Source:
    path = (root or Path(tempfile.mkdtemp())).parent / f"my{ending}"
    if isinstance(content, pa.Table):
        pq.write_table(content, path)
    else:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return TableSource.read(SourceOptions(root, table=path, **options))


def found(source: Source) -> dict[str, list[tuple[str, str]]]:
    """The images of each split with the names of their classes."""
    return {
        split: [(name, source.classes[label].name) for name, label in zip(items.names, items.labels, strict=True)]
        for split, items in source.splits.items()
    }


def test_each_row_is_an_image_and_classes_are_sorted_names(root: Path) -> None:
    source = read(root, "path,name\na.jpg,oak\nx/c.jpg,ash\nb.jpg,oak\n")
    assert [record.name for record in source.classes] == ["ash", "oak"]
    assert found(source) == {"train": [("a.jpg", "oak"), ("x/c.jpg", "ash"), ("b.jpg", "oak")]}
    assert source.read("a.jpg") == b"a.jpg"


def test_all_that_is_known_is_kept(root: Path) -> None:
    source = read(
        root,
        "file_name,category_id,category_name,observation,location_id,camera,date,lat,lon,license,rights holder,"
        "kingdom,phylum,class,order,family,genus,species\n"
        "a.jpg,1,red oak,o1,l1,c1,2020-01-02,1.5,-2.5,CC BY,Ann,Plantae,Tracheophyta,Magnoliopsida,Fagales,Fagaceae,"
        "Quercus,Quercus rubra\n"
        "b.jpg,0,,,,,,,,,,Animalia,,,,,,\n".replace("0,,", "0,owl,"),
    )
    details = {column: values.tolist() for column, values in source.splits["train"].details.items()}
    assert details == {
        "observation": ["o1", None],
        "location": ["l1", None],
        "camera": ["c1", None],
        "date": ["2020-01-02", None],
        "latitude": ["1.5", None],
        "longitude": ["-2.5", None],
        "licence": ["CC BY", None],
        "rights_holder": ["Ann", None],
    }
    assert [record.name for record in source.classes] == ["owl", "red oak"]
    assert source.classes[0].taxonomy == {"kingdom": "Animalia"}
    ranks = ["kingdom", "phylum", "class", "order", "family", "genus", "species"]
    assert list(source.classes[1].taxonomy) == ranks
    assert source.classes[1].taxonomy["class"] == "Magnoliopsida"


def test_columns_are_named_by_the_command_line(root: Path) -> None:
    columns = parse_columns("path=where, name=what it is,location=plot")
    source = read(root, "what it is,where,plot,name\noak,a.jpg,7,x\nash,b.jpg,8,y\n", columns=columns)
    assert found(source) == {"train": [("a.jpg", "oak"), ("b.jpg", "ash")]}
    assert source.splits["train"].details["location"].tolist() == ["7", "8"]


def test_a_column_class_is_the_label_unless_it_is_the_taxonomic_one(root: Path) -> None:
    assert found(read(root, "path,class\na.jpg,oak\n")) == {"train": [("a.jpg", "oak")]}
    assert len(read(root, "path,class\na.jpg,0\nb.jpg,1\n").classes) == 2
    both = read(root, "path,class,order,species\na.jpg,Aves,Strigiformes,Bubo bubo\n")
    assert found(both) == {"train": [("a.jpg", "Bubo bubo")]}
    assert both.classes[0].taxonomy == {"class": "Aves", "order": "Strigiformes", "species": "Bubo bubo"}


def test_labels_may_be_names_and_have_gaps(root: Path) -> None:
    columns = {"path": "path", "label": "species"}
    assert found(read(root, "path,species\na.jpg,oak\nb.jpg,ash\n", columns=columns))["train"][0] == ("a.jpg", "oak")
    gaps = read(root, "path,label\na.jpg,1\nb.jpg,3.0\n")
    assert [record.name for record in gaps.classes] == ["class 0", "class 1", "class 2", "class 3"]
    assert gaps.splits["train"].labels.tolist() == [1, 3]
    assert len(read(root, "path,label\na.jpg,1\n", num_classes=9).classes) == 9


def test_a_column_of_splits_makes_them(root: Path) -> None:
    source = read(root, "path,name,split\na.jpg,oak,Train\nb.jpg,oak,validation\nx/c.jpg,ash,TEST\nx/d.jpg,ash,train\n")
    assert found(source) == {
        "train": [("a.jpg", "oak"), ("x/d.jpg", "ash")],
        "val": [("b.jpg", "oak")],
        "test": [("x/c.jpg", "ash")],
    }


def test_splits_may_have_a_file_each_of_different_formats(root: Path) -> None:
    train, test = root.parent / "train.tsv", root.parent / "test.parquet"
    train.write_text("path\tname\tsplit\na.jpg\toak\tval\n")
    pq.write_table(pa.table({"name": ["ash"], "path": ["b.jpg"]}), test)
    source = TableSource.read(SourceOptions(root, {"train": train, "test": test}))
    assert found(source) == {"train": [("a.jpg", "oak")], "test": [("b.jpg", "ash")]}


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("start", ["", "\ufeff", "\n"])
def test_how_a_table_is_written_changes_nothing(root: Path, separator: str, end: str, start: str) -> None:
    lines = [("path", "name", "note"), ("a.jpg", "holm oak", ""), ("b.jpg", f'"ash{separator} ""common"""', '5" lens')]
    text = start + end.join(separator.join(line) for line in lines) + end * 2
    expected = {"train": [("a.jpg", "holm oak"), ("b.jpg", f'ash{separator} "common"')]}
    assert found(read(root, text)) == expected
    assert found(read(root, gzip.compress(text.encode()), ".csv.gz")) == expected


def test_quotes_may_hold_line_ends(root: Path) -> None:
    source = read(root, 'path,name,copyright\na.jpg,oak,"Ann\nand Bob"\nb.jpg,ash,\n')
    assert source.splits["train"].details["rights_holder"].tolist() == ["Ann\nand Bob", None]


def test_numbers_and_dates_of_parquet_are_text(root: Path) -> None:
    table = pa.table(
        {
            "path": pa.array(["a.jpg", "b.jpg"]).dictionary_encode(),
            "label": pa.array([1.0, 0.0]),
            "lat": pa.array([1.5, None]),
            "date": pa.array([date(2020, 1, 2), None]),
            "camera": pa.array([7, None], type=pa.int16()),
        }
    )
    source = read(root, table, ".parquet")
    assert source.splits["train"].labels.tolist() == [1, 0]
    details = {column: values.tolist() for column, values in source.splits["train"].details.items()}
    assert details == {"latitude": ["1.5", None], "date": ["2020-01-02", None], "camera": ["7", None]}


def test_listed_paths_are_understood_as_those_of_lists(root: Path) -> None:
    source = read(root, "path,name\nx\\c.jpg,oak\n./a.jpg,ash\nB.JPG,ash\n")
    assert source.splits["train"].names == ["x/c.jpg", "a.jpg", "b.jpg"]


def test_images_may_be_urls_or_both(root: Path) -> None:
    source = read(root, "path,name\nhttps://x.org/1.jpg,oak\na.jpg,ash\nHTTP://x.org/2.jpg,ash\nx\\c.jpg,oak\n")
    assert source.splits["train"].names == ["https://x.org/1.jpg", "a.jpg", "HTTP://x.org/2.jpg", "x/c.jpg"]
    assert source.read("a.jpg") == b"a.jpg"
    text = "image_url,path,name\nhttps://x.org/1.jpg,a.jpg,oak\n"
    assert read(root, text).splits["train"].names == ["a.jpg"]
    online = read(None, text, images=root)
    assert online.splits["train"].names == ["https://x.org/1.jpg"]


def test_pieces_of_a_file_are_as_the_whole(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_tables, "_BLOCK", 64)
    rows = [f"https://x.org/{row}.jpg,sp {row % 3},{'train' if row % 2 else 'test'},{row % 5}\n" for row in range(200)]
    source = read(root, "url,name,split,camera\n" + "".join(rows))
    assert [name for name, _ in found(source)["train"]] == [f"https://x.org/{row}.jpg" for row in range(1, 200, 2)]
    assert [name for _, name in found(source)["test"]] == [f"sp {row % 3}" for row in range(0, 200, 2)]
    assert source.splits["test"].details["camera"].tolist() == [str(row % 5) for row in range(0, 200, 2)]
    rows[150] = "https://x.org/150.jpg,,train,1\n"
    with pytest.raises(DataError, match=r"my.csv:152: the class name is empty"):
        read(root, "url,name,split,camera\n" + "".join(rows))
    rows[150] = "https://x.org/150.jpg\n"
    with pytest.raises(DataError, match=r"my.csv:152: 1 values and not 4"):
        read(root, "url,name,split,camera\n" + "".join(rows))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,name\na.jpg,oak\n", None),
        ("pat,nam\na.jpg,oak\n", "no column is known to hold the images' paths or URLs. There are: `pat`"),
        ("path,nam\na.jpg,oak\n", "no column is known to hold the classes. There are: .*Name it: --columns label=COL"),
        ("path,path,name\na.jpg,b.jpg,oak\n", "2 columns are called `path`. Rename all but one"),
        ("path,name,,\na.jpg,oak,,\n", None),
        ("path,name\na.jpg,oak\nb.jpg,\n", "my.csv:3: the class name is empty"),
        ("path,name\na.jpg,oak\n\n\nb.jpg,NaN\n", "my.csv:5: the class name is empty"),
        ("path,label\na.jpg,1\nb.jpg,nan\n", "my.csv:3: the label is empty"),
        ("path,label\na.jpg,1\nb.jpg,oak\n", "my.csv:3: the label `oak` is not a whole number of 0 or more"),
        ("path,label\na.jpg,1\nb.jpg,-1\n", "my.csv:3: the label `-1` is not a whole number"),
        ("path,label\na.jpg,1\nb.jpg,1.5\n", "my.csv:3: the label `1.5` is not a whole number"),
        ("path,label\na.jpg,oak\nb.jpg,1\n", "my.csv:3: the label `1` is a number, and others are names"),
        ("path,label\na.jpg,0\nb.jpg,500000\n", "my.csv:3: label 500000 would make 500001 classes, and only 2 of them"),
        ("path,label\na.jpg,0\nb.jpg,99999999999999999\n", "my.csv:3: label 99999999999999999 is out of range"),
        ("path,label,name\na.jpg,0,oak\nb.jpg,0,ash\n", "my.csv:3: label 0 is called `ash` here, and `oak` first.*:2"),
        ("path,label,name\na.jpg,0,oak\nb.jpg,1,oak\n", "my.csv:3: the class name `oak` has another label first.*:2"),
        ("path,name\na.jpg,oak\nb.jpg;ash\n", "my.csv:3: 1 values and not 2, as the header .*are mixed"),
        ("path,name\na.jpg,oak, red\n", "my.csv:2: 3 values and not 2"),
        ('path,name\na.jpg,oak\n"b.jpg,ash\nx/c.jpg,ash\n', "my.csv:3: 1 values and not 2.*a quote is not closed"),
        ('path,name\na.jpg,oak\nb.jpg,"ash\nx/c.jpg,ash\n', "my.csv:3: a value holds the rows below it: .*Close it"),
        ('path,name\na.jpg,"oak\nb.jpg,ash\nx/c.jpg,"ash"\n', "my.csv:2: a value holds the rows below it"),
        ('path,name,licence\na.jpg,oak,"x\nb.jpg,ash,y\n', "my.csv:2: a value holds the rows below it"),
        ('path,name,licence\na.jpg,"oak,x\nb.jpg,"ash,y\n', "my.csv:2: (2 values|the class name has several lines)"),
        ('path,name\na.jpg,oak\nb.jpg,"ash\n', "my.csv:3: a quote that this row opens is not closed before the end"),
        ('path,name\na.jpg,oak\nb.jpg,"red\nash"\n', "my.csv:3: the class name has several lines: `red.nash`"),
        ('path,name,width\na.jpg,oak,5"\n', None),
        ("path,name,split\na.jpg,oak,train\nb.jpg,oak,holdout\n", "my.csv:3: `holdout` is no split; write train, val"),
        ("path,name,split\na.jpg,oak,train\nb.jpg,oak,\n", "my.csv:3: the split is empty; write train, val or test"),
        ("path,name,split\na.jpg,oak,test\n", "no row is of the split train; the splits are test"),
        ("path,name\na.jpg,oak\nb.jpg,oak\n./a.jpg,ash\n", "my.csv:4: `a.jpg` is listed a second time, first at .*:2"),
        ("url,name\nhttp://x/a,oak\nhttp://x/b,oak\nhttp://x/a,oak\n", "my.csv:4: `http://x/a` is listed a sec.*:2"),
        ("url,name\na.jpg,oak\n", "my.csv:2: `a.jpg` is no URL that begins with http:// or https://"),
        ("path,name\ns3://x/a.jpg,oak\n", "my.csv:2: `s3://x/a.jpg` is no URL that begins with http"),
        ("path,name\na.jpg,oak\n ,ash\n", "my.csv:3: the path is empty"),
        ("path,name\na.jpg,oak\nc.jpg,ash\n", "my.csv:3: there is no `c.jpg` below"),
        ("path,name\nhttp://x/a,oak\na.jpg,oak\n../b.jpg,ash\n", "my.csv:4: `../b.jpg` leads out of the root"),
        ("path,name\n", "this table has a header and no row"),
        ("path,name", "this table has a header and no row"),
        ("", "this table is empty"),
        ("\ufeff\r\n\n", "this table is empty"),
        ("path,name\na.jpg,oak\0\n", "my.csv:1: this is no text in UTF-8, and perhaps UTF-16"),
        (b"path,name\na.jpg,h\xeatre\n", "my.csv:2: this line is not UTF-8, and perhaps Latin-1. Save it as UTF-8"),
        ("path,name\na.jpg,oak\n".encode("utf-16"), "my.csv:1: this is no text in UTF-8, and perhaps UTF-16"),
        (b"PK\x03\x04...", "this is a zip archive or an Excel file, and no table"),
        (b"PAR1...", "this is no Parquet file, or one that is damaged or cut"),
        ('path,name\na.jpg,"' + "x" * 9_000_000, "my.csv:2: from here on, a row is longer than|a quote is not closed"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_line(root: Path, text: str | bytes, message: str | None) -> None:
    if message is None:
        assert read(root, text, images=root).splits["train"].names == ["a.jpg"]
        return
    with pytest.raises(DataError, match=message) as error:
        read(root, text, images=root)
    assert "\n" not in str(error.value)


def test_advice_leads_on(root: Path) -> None:
    text = "path,taxon_number\na.jpg,48460\nb.jpg,3\n"
    with pytest.raises(DataError, match="Name it: --columns label=COLUMN"):
        read(root, text)
    with pytest.raises(DataError, match=r"label 48460 would make .* Say --num-classes 48461 .*--columns name=COLUMN"):
        read(root, text, columns=parse_columns("label=taxon_number"))
    assert len(read(root, text, columns=parse_columns("label=taxon_number"), num_classes=48461).classes) == 48461
    assert len(read(root, text, columns=parse_columns("name=taxon_number")).classes) == 2


def test_a_missing_column_is_told_with_the_nearest(root: Path) -> None:
    with pytest.raises(DataError, match=r"there is no column `specie`; the nearest is `species`. There are: `path`"):
        read(root, "path,species\na.jpg,oak\n", columns={"name": "specie"})


def test_a_group_that_is_empty_for_some_is_none_for_them(root: Path) -> None:
    source = read(root, "path,name,observation,camera\na.jpg,oak,o1,\nb.jpg,oak,,\nx/c.jpg,oak,NA,\n")
    assert source.splits["train"].details["observation"].tolist() == ["o1", None, None]
    assert "camera" not in source.splits["train"].details


def test_rows_of_a_class_that_differ_in_its_taxonomy_are_told(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "ltrsys"):
        source = read(root, "path,name,family\na.jpg,oak,\nb.jpg,oak,Fagaceae\nx/c.jpg,oak,Oleaceae\n")
    assert source.classes[0].taxonomy == {"family": "Fagaceae"}
    assert "rows of a class differ in its taxonomy, 1 times, such as in its family: `Oleaceae`, and `Fag" in caplog.text


def test_names_that_are_nearly_the_same_are_told(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "ltrsys"):
        source = read(root, "path,name\na.jpg,oak\nb.jpg,Oak\nx/c.jpg, oak\n")
    assert [record.name for record in source.classes] == ["Oak", "oak"]
    assert "`Oak` and `oak` differ in case or in accents only" in caplog.text


def test_a_parquet_file_that_is_cut_or_of_other_types_is_told(root: Path) -> None:
    table = pa.table({"path": list(NAMES), "name": ["oak"] * 4})
    whole = root.parent / "whole.parquet"
    pq.write_table(table, whole)
    content = whole.read_bytes()
    for end in (4, 20, len(content) // 2, len(content) - 1):
        with pytest.raises(DataError, match=r"my.parquet: this is no Parquet file, or one that is damaged or cut"):
            read(root, content[:end], ".parquet")
    nested = table.append_column("camera", [[["x"]] * 4])
    with pytest.raises(DataError, match=r"the column `camera` is of type list<.*>, which is no text, number or date"):
        read(root, nested, ".parquet")
    with pytest.raises(DataError, match="this table has no row"):
        read(root, table.slice(0, 0), ".parquet")
    with pytest.raises(DataError, match=r"my.parquet: row 4: the class name is empty"):
        read(root, pa.table({"path": list(NAMES), "name": ["oak", "ash", "oak", None]}), ".parquet")


def test_a_compressed_table_that_is_cut_is_told(root: Path) -> None:
    content = gzip.compress(b"path,name\n" + b"".join(b"%d.jpg,oak\n" % row for row in range(9999)))
    for damaged in (content[: len(content) // 2], b"path,name\na.jpg,oak\n", content[:500] + b"xxxx" + content[504:]):
        with pytest.raises(DataError, match=r"this file is damaged or cut .* Fetch or write it again"):
            read(root, damaged, ".csv.gz")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path", "`path` is not ROLE=COLUMN"),
        ("", "`` is not ROLE=COLUMN"),
        ("path=", "`path=` is not ROLE=COLUMN"),
        ("path=a,", "`` is not ROLE=COLUMN"),
        ("paths=a", "a column cannot be `paths`; did you mean path?"),
        ("zzz=a", "a column cannot be `zzz`; expected one of path, url, label"),
        ("path=a,path=b", "path is given twice, as `a` and `b`"),
        ("path=a,url=b", "give path or url, not both"),
    ],
)
def test_nonsense_for_columns_is_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message.replace("?", r"\?")):
        parse_columns(text)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "table needs --table FILE, or --train FILE"),
        (
            {"table": Path("a.csv"), "files": {"train": Path("b.csv")}},
            "Give one table of all splits, --table, or one of",
        ),
        ({"files": {"val": Path("b.csv")}}, "--train is missing"),
        ({"preset": "inat"}, "--preset `inat`: there is none; expected inaturalist_open_data or darwin_core"),
        ({"preset": "darwin_core", "table": Path("a.csv")}, "--preset darwin_core finds its tables below --root"),
        ({"preset": "darwin_core"}, "needs --root"),
        ({"preset": "darwin_core", "num_classes": 3}, "--num-classes is for lists"),
        ({"table": Path("a.csv"), "merge_classes": True}, "--merge-classes is for the annotations"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: Mapping[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        TableSource.read(SourceOptions(**options))


def test_what_the_table_does_not_have_is_refused(root: Path) -> None:
    with pytest.raises(UsageError, match="--num-classes is for labels that are numbers"):
        read(root, "path,name\na.jpg,oak\n", num_classes=3)
    with pytest.raises(UsageError, match="table needs --root"):
        read(None, "path,name\na.jpg,oak\n")
    with pytest.raises(UsageError, match="The images are URLs: name the folder that they are fetched into, --images"):
        read(None, "url,name\nhttp://x/a.jpg,oak\n")
    train = root.parent / "train.csv"
    train.write_text("path,name,part\na.jpg,oak,train\n")
    with pytest.raises(UsageError, match=r"--columns split=... is for one table of all splits"):
        TableSource.read(SourceOptions(root, {"train": train}, columns={"split": "part"}))
    with pytest.raises(DataError, match="there is no such table"):
        TableSource.read(SourceOptions(root, table=root / "other.csv"))


def test_pyarrow_is_loaded_for_tables_alone() -> None:
    code = "import sys; from ltrsys.data.sources.source import SOURCES; SOURCES.get('table'); "
    code += "print('pyarrow' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout == "False\n"


TABLE = (
    b"path,label,name,split,lat,class,family\n"
    b'a.jpg,0,"oak, red",train,1.5,x,Fagaceae\nb.jpg,1,ash,val,,y,\nx/c.jpg,1,ash,test,NaN,y,"F"\n'
)
BYTES = st.binary(max_size=40) | st.sampled_from(
    [b",", b'"', b"\n", b"\r", b"\t;", b"\xef\xbb\xbf", b"\0", b"http://a\n"]
)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(data=BYTES, place=st.integers(0, len(TABLE)), skipped=st.integers(0, 30), zipped=st.booleans())
@example(data=b"\xff\xfe", place=0, skipped=0, zipped=False)
@example(data=b"\xed\xa0\x80", place=50, skipped=0, zipped=False)
@example(data=b"\r\r", place=38, skipped=0, zipped=True)
@pytest.mark.long
def test_any_table(data: bytes, place: int, skipped: int, zipped: bool) -> None:
    changed = TABLE[:place] + data + TABLE[place + skipped :]
    with tempfile.TemporaryDirectory() as folder:
        root = photographs(Path(folder, "images"))
        for content in (data, changed, gzip.compress(TABLE)[:place] + data if zipped else b""):
            for ending in (".csv", ".tsv", ".csv.gz", ".parquet"):
                read_or_refused(root, content, ending)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.binary(max_size=20), place=st.integers(0, 2000), skipped=st.integers(0, 20))
def test_any_parquet_file(data: bytes, place: int, skipped: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = photographs(Path(folder, "images"))
        path = Path(folder, "whole.parquet")
        pq.write_table(pa.table({"path": list(NAMES), "label": [0, 1, 1, 0], "lat": [1.5, None, 2.0, 3.0]}), path)
        content = path.read_bytes()
        place %= len(content)
        read_or_refused(root, content[:place] + data + content[place + skipped :], ".parquet")


def read_or_refused(root: Path, content: bytes, ending: str) -> None:
    try:
        source = read(root, content, ending, images=root, keep_missing=True)
    except LtrsysError as error:
        refusal = str(error)
    else:
        refusal = ""
        check(source)
    assert "\n" not in refusal


def check(source: Source) -> None:
    for items in source.splits.values():
        assert len(items.names) == len(items.labels) > 0
        assert all(0 <= label < len(source.classes) for label in items.labels)
        for name in items.names:
            name.encode()
            with contextlib.suppress(OSError):
                source.version(name) if source.version else None
    for record in source.classes:
        record.model_dump_json()
