from pathlib import Path

from ltrsys.runs.reading_metrics import read_metrics


def test_numbers_are_read_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "loss": 2.5, "lr": null, "on": true, "name": "a", "bad": NaN}\n\n[1]\n{"step": 2, "lo')
    assert list(read_metrics(path)) == [{"step": 1, "loss": 2.5, "lr": None, "bad": None}]
    assert list(read_metrics(tmp_path / "none")) == []
