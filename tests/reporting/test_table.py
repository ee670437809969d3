"""The printed table."""

import io

import pytest
from rich.console import Console

from ltrsys.evaluation.results import ImagesPerClass, Results, VersusJoint
from ltrsys.reporting.table import parameters, results_table
from tests.evaluation.test_results import BALANCED, NATURAL, make_line, make_results

VERSUS = VersusJoint(gained=250, lost=50, p_value=3e-21, mean_class_accuracy_p_value=0.0124)


def printed(results: Results) -> list[str]:
    console = Console(width=80, file=io.StringIO())
    console.print(results_table(results))
    return console.file.getvalue().splitlines()


def row_of(lines: list[str], name: str) -> str:
    (row,) = (line for line in lines if line.strip().startswith(f"{name} "))
    return row


@pytest.mark.parametrize(
    ("counts", "interval", "p_value"), [(BALANCED, "68.0–71.0", "3e-21"), (NATURAL, "55.0–64.5", "0.012")]
)
def test_the_table_fits_80_columns_without_losing_a_number(counts: ImagesPerClass, interval: str, p_value: str) -> None:
    mean = {"mean_class_accuracy": 60.2, "confidence_95": {"all": (68.0, 71.0), "mean_class_accuracy": (55.0, 64.5)}}
    tuned = [
        make_line("ncm", **mean, versus_joint=VERSUS, params={"feature": "cl2n", "distance": "euclidean"}),
        make_line("crt", **mean, versus_joint=VERSUS),
        make_line("tau", **mean, versus_joint=VERSUS, params={"tau": 0.41874}, selected_on="learned"),
        make_line("lws", **mean, versus_joint=VERSUS),
    ]
    lines = printed(make_results(make_line(**mean), *tuned, images_per_class=counts))
    assert not any("…" in line for line in lines)
    for name in ("Joint", "NCM", "cRT", "τ-normalised", "LWS"):
        row = row_of(lines, name)
        assert row.split()[1:7] == ["91.0", "76.0", "40.0", "69.5", "60.2", interval]
        assert row.split()[7] == ("–" if name == "Joint" else p_value)


def test_an_empty_split_has_a_dash() -> None:
    lines = printed(make_results(make_line(few=None), few_classes=0))
    assert row_of(lines, "Joint").split()[:5] == ["Joint", "91.0", "76.0", "–", "69.5"]


@pytest.mark.parametrize(
    ("counts", "interval", "words"),
    [
        (BALANCED, "95 % of all", "The test split is balanced (20 images a class): all and mean are one."),
        (
            NATURAL,
            "95 % of mean",
            "The test split is not balanced (2 to 123 images a class, largest over smallest 61.5; 4 classes have "
            "none): mean, over the classes, is the fair column.",
        ),
    ],
)
def test_one_line_says_whether_the_split_is_balanced(counts: ImagesPerClass, interval: str, words: str) -> None:
    text = " ".join(" ".join(printed(make_results(make_line(), images_per_class=counts))).split())
    assert words in text
    assert interval in text
    assert ("randomisation test of the mean" in text) == (counts is NATURAL)


def test_what_is_not_known_of_a_file_of_format_1_is_not_said() -> None:
    text = " ".join(printed(make_results(make_line(), images_per_class=None)))
    assert "balanced" not in text
    assert "95 % of all" in text


@pytest.mark.parametrize(
    ("params", "selected_on", "words"),
    [
        ({"tau": 0.7}, "val", "τ = 0.7, chosen on val"),
        ({"tau": 0.2}, "train", "τ = 0.2, chosen on train"),
        ({"tau": 0.41874}, "learned", "τ = 0.4187, learned on train"),
        ({"tau": 0.3, "val_is_test": True}, "val", "τ = 0.3, chosen on val, which is the reported split"),
    ],
)
def test_the_table_says_what_tau_was_chosen_on(params: dict[str, object], selected_on: str, words: str) -> None:
    assert parameters(make_line("tau", params=params, selected_on=selected_on)) == words
