import re
from pathlib import Path

from ltrsys.metrics.accuracy import ALL_COLUMNS
from ltrsys.runs.metric_names import METRICS, OLDER_KEYS, VAL, is_result, result_key

ROOT = Path(__file__).parents[2]


def test_every_number_has_a_name_of_its_own_in_a_section() -> None:
    keys = [metric.key for metric in METRICS]
    assert len(set(keys)) == len(keys)
    assert {metric.section for metric in METRICS} == {"", "train", "val", "data", "perf", "balance"}
    assert set(VAL) == set(ALL_COLUMNS), "what is measured on val is named"
    assert set(OLDER_KEYS.values()) <= set(keys)
    assert not set(OLDER_KEYS) & set(keys)


def test_results_are_told_from_what_training_logs() -> None:
    assert result_key("test", "crt", "few") == "test/crt/few"
    assert is_result("test/crt/few")
    assert is_result("val/joint/mean_class_accuracy")
    assert not any(is_result(metric.key) for metric in METRICS)
    assert not is_result("balance/accuracy/plot")


def test_training_md_says_what_each_number_is() -> None:
    _, _, section = (ROOT / "docs" / "training.md").read_text().partition("## What is written")
    table, _, _ = section.partition("`best.safetensors`")
    rows = re.findall(r"^\| `([^`]+)` \| (.*?) \| (.*) \|$", table, re.MULTILINE)
    assert rows == [(metric.key, metric.unit, metric.description) for metric in METRICS]
