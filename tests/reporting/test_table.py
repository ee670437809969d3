"""The printed table."""

import io

import pytest
from rich.console import Console

from ltrsys.evaluation.results import Results, VersusJoint
from ltrsys.reporting.table import parameters, results_table
from tests.evaluation.test_results import make_line, make_results

VERSUS = VersusJoint(gained=250, lost=50, p_value=3e-21)


def printed(results: Results) -> list[str]:
    console = Console(width=80, file=io.StringIO())
    console.print(results_table(results))
    return console.file.getvalue().splitlines()


def row_of(lines: list[str], name: str) -> str:
    (row,) = (line for line in lines if line.strip().startswith(f"{name} "))
    return row


def test_the_table_fits_80_columns_without_losing_a_number() -> None:
    tuned = [
        make_line("ncm", versus_joint=VERSUS, params={"feature": "cl2n", "distance": "euclidean"}),
        make_line("crt", versus_joint=VERSUS),
        make_line("tau", versus_joint=VERSUS, params={"tau": 0.41874}, selected_on="learned"),
        make_line("lws", versus_joint=VERSUS),
    ]
    lines = printed(make_results(make_line(), *tuned))
    assert not any("…" in line for line in lines)
    for name in ("Joint", "NCM", "cRT", "τ-normalised", "LWS"):
        row = row_of(lines, name)
        assert row.split()[1:6] == ["91.0", "76.0", "40.0", "69.5", "68.0–71.0"]
        assert ("3e-21" in row) == (name != "Joint")


def test_an_empty_split_has_a_dash() -> None:
    lines = printed(make_results(make_line(few=None), few_classes=0))
    assert row_of(lines, "Joint").split()[:5] == ["Joint", "91.0", "76.0", "–", "69.5"]


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
