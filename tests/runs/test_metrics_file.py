from pathlib import Path

from ltrsys.runs.metric_names import METRICS, is_result
from ltrsys.runs.metrics_file import read_metrics

FILES = Path(__file__).parents[1] / "formats" / "files"
KNOWN = {metric.key for metric in METRICS}


def test_lines_of_0_2_0_have_the_names_of_today() -> None:
    lines = read_metrics(FILES / "0.2.0" / "metrics.jsonl")
    assert [line["step"] for line in lines] == [2, 3, 4, 6, 6, 6]
    assert all(key in KNOWN or is_result(key) for line in lines for key in line)
    training = [line for line in lines if "train/loss" in line]
    assert [line["train/loss"] for line in training] == [2.542133331298828, 2.0696945190429688, 2.1103787422180176]
    assert training[0]["train/learning_rate"] == 0.01866025403784439
    assert training[0]["data/stall_share"] == 0.030393853783607483
    assert training[0]["perf/images_per_second"] == 104.96327057994728
    assert training[0]["train/images"] == 96
    assert lines[1]["val/all"] == 8.333333333333334


def test_a_balancing_of_0_2_0_stands_after_the_training() -> None:
    *_, line = read_metrics(FILES / "0.2.0" / "metrics.jsonl")
    assert (line["step"], line["balance/number"], line["test/ncm/few"]) == (6, 1, 10.833333333333334)


def test_the_mean_over_the_classes_that_came_later_is_known() -> None:
    lines = read_metrics(FILES / "0.2.0" / "metrics_with_means.jsonl")
    assert lines[1]["val/mean_class_accuracy"] == 8.333333333333334
    assert lines[-1]["test/joint/mean_class_accuracy"] == 8.333333333333334
    assert all(key in KNOWN or is_result(key) for line in lines for key in line)


def test_what_is_no_whole_line_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1, "loss": 0.5}\n[]\n{"loss": 1}\n\xff\n{"step": 2, "loss": NaN}\n{"step": 3, "lo')
    assert read_metrics(path) == [{"step": 1, "train/loss": 0.5}, {"step": 2, "train/loss": None}]
    assert read_metrics(tmp_path / "nothing.jsonl") == []
