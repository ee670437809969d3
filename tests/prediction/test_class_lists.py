"""Lists of species and of frequencies, as people write them."""

from pathlib import Path

import numpy as np
import pytest

from ltrsys.data.index.records import ClassRecord
from ltrsys.errors import DataError
from ltrsys.prediction.class_lists import read_frequencies, read_species

CLASSES = [
    ClassRecord(name="Quercus robur", source_id="17"),
    ClassRecord(name="pedunculate oak, old", source_id="18", taxonomy={"species": "Quercus petraea"}),
    ClassRecord(name="Iris", source_id="19"),
    ClassRecord(name="Iris", source_id="20"),
    ClassRecord(name="17", source_id="21"),
]


def write(tmp_path: Path, text: str | bytes, name: str = "list.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(
    ("name", "text", "chosen"),
    [
        ("a.txt", "Quercus robur\n\npedunculate oak, old\n", [0, 1]),
        ("a.txt", "\ufeffquercus ROBUR \r\n", [0]),
        ("a.csv", "id,scientific name\n1,Quercus petraea\n2,Iris\n", [1, 2, 3]),
        ("a.tsv", "species\tn\nIris\t5\n", [2, 3]),
        ("a.csv", '"pedunculate oak, old"\nIris\n', [1, 2, 3]),
        ("a.csv", "name\n17\n", [4]),
        ("a.csv", "name\n18\n", [1]),
    ],
)
def test_names_are_found_by_name_species_or_id(tmp_path: Path, name: str, text: str, chosen: list[int]) -> None:
    assert np.flatnonzero(read_species(write(tmp_path, text, name), CLASSES)).tolist() == chosen


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "name\nIris\nQuercus robor\nnothing like it\n",
            "list.csv:3: `Quercus robor` is no class of this model (2 of 3 names are unknown). "
            "Did you mean Quercus robur?",
        ),
        ("name\nxyz\n", "list.csv:2: `xyz` is no class of this model."),
        ("", "this file is empty"),
        ("name\n", "there is no name in this list"),
        ("id,name\n1\n", "there is no name in this list"),
        (b"name\nIr\xeds\n", "not UTF-8"),
        ("name\n\0\n", "NUL"),
        ('name\n"Iris\n', "no row of a table"),
    ],
)
def test_what_is_no_list_of_classes_is_refused(tmp_path: Path, text: str | bytes, said: str) -> None:
    with pytest.raises(DataError) as error:
        read_species(write(tmp_path, text), CLASSES)
    assert said in str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        "name,count\nQuercus robur,30\nIris,10\n18,0\n",
        "Quercus robur,3\nIris,1\n",
        "count\tx\tname\n0.75\t\tQuercus robur\n.25\t\tIris\n",
    ],
)
def test_frequencies_sum_to_one_and_are_shared_by_classes_of_one_name(tmp_path: Path, text: str) -> None:
    assert read_frequencies(write(tmp_path, text), CLASSES).tolist() == [0.75, 0, 0.125, 0.125, 0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name,count\nIris,many\n", "list.csv:2: `many` is no frequency"),
        ("name,count\nIris,-1\n", "`-1` is no frequency"),
        ("name,count\nIris,nan\n", "`nan` is no frequency"),
        ("name,count\nIris\n", "`` is no frequency"),
        ("name,count\nIris,0\n", "no class has a frequency above 0"),
        ("name,colour\nIris,blue\n", "list.csv:1: there is no column of numbers"),
        ("name,colour,size\nIris,blue,3\n", "there is no column of numbers (frequency, count"),
        ("colour,count\nblue,3\n", "there is no column of names (name, species"),
    ],
)
def test_what_is_no_table_of_frequencies_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(DataError) as error:
        read_frequencies(write(tmp_path, text), CLASSES)
    assert said in str(error.value)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no such list of classes"):
        read_species(tmp_path / "none.csv", CLASSES)
