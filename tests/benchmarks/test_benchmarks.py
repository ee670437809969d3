"""Every benchmark runs, and writes what it measured; how fast things are is no business of a test."""

import json
import subprocess
import sys
from importlib.util import find_spec

import pytest

from benchmarks.report import ROOT, interleaved, summary

TABLES = {
    "mixing": {
        "Over time: Places-LT, batches of 256": 11,
        "Over ranks: Places-LT": 11,
        "From epoch to epoch: Places-LT": 11,
    },
    "augmentation": {"Images a second": 8},
    "input": {"Images a second": 5, "Bytes read for each byte used": 11},
    "feeding": {"Feeding": 1},
    "step": {"Training step": 8},
    "precision": {"Training step on a CPU": 2},
    "losses": {"Losses, 8,142 classes": 12 + (find_spec("pytorch_metric_learning") is not None)},
    "predict": {"Naming photographs": 5, "An exported network": 3},
    "freezing": {"Training a part of the network": 4},
    "bank": {"Making a feature bank": 3, "Features over their input pipeline": 2},
    "bank_classifiers": {
        "Classifiers on a bank": 16,
        "Reading rows for gradient descent": 5,
        "Nearest training images": 2,
    },
    "checkpoint": {"A save": 1, "Records and checksums": 4},
    "scaling": {"Images a second by ranks": 4},
    "serve": {"Naming over HTTP": 6},
    "gpu_training": {"A training step on synthetic images": 6, "A training step on real shards": 1},
    "gpu_scaling": {"A training step by ranks": 4, "all_reduce by ranks": 1},
    "kernels": {
        "tau_logits and its gradients": 8,
        "tau_sweep, 512 features": 5,
        "ncm_search, 512 features": 9,
        "class_sums": 5,
        "By data, 512 features": 8,
        "One sweep over a bank on disk": 1,
    },
}


@pytest.mark.long
@pytest.mark.parametrize("name", TABLES)
def test_a_quick_run_prints_its_tables_and_writes_them(name, tmp_path):
    path = tmp_path / "results.json"
    command = [sys.executable, "-m", f"benchmarks.{name}", "--quick", "--json", str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    results = json.loads(path.read_text())
    assert (results["benchmark"], results["quick"]) == (name, True)
    assert {"processor", "cores", "commit", "versions"} <= results["environment"].keys()
    assert {table["title"]: len(table["rows"]) for table in results["tables"]} == TABLES[name]
    for table in results["tables"]:
        assert table["title"] in done.stdout
        for row in table["rows"]:
            assert list(row) == table["columns"]
            measured = [value for column, value in row.items() if not column.startswith("+")]  # which correlations do
            assert all(value >= 0 for value in measured if isinstance(value, float))


def test_cases_take_turns():
    turns = []
    results = interleaved({name: lambda name=name: turns.append(name) or len(turns) for name in "abc"}, rounds=20)
    rounds = [tuple(turns[first : first + 3]) for first in range(0, 60, 3)]
    assert all(sorted(one) == list("abc") for one in rounds)
    assert len(set(rounds)) > 3
    assert results == {name: [turn for turn, other in enumerate(turns, 1) if other == name] for name in "abc"}


def test_a_summary_is_the_median_and_a_fifth_on_either_side():
    assert summary([5.0, 1.0, 2.0, 4.0, 3.0, 6.0]) == {"median": 3.5, "p20": 2.0, "p80": 5.0}
    assert summary([7.0]) == {"median": 7.0, "p20": 7.0, "p80": 7.0}
