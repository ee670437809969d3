"""A study from its file to its table, on small letters."""

import csv
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors import safe_open

from ltrsys.cli.main import main
from ltrsys.config.reading import save_config
from ltrsys.first_stage.from_run import digest_of_start, digest_of_weights
from ltrsys.metrics.class_mean import paired_test_of_class_mean, paired_test_of_shares
from ltrsys.runs.folder import RunFolder
from ltrsys.studies.formats import FORMATS, terminal
from ltrsys.studies.study import OpenStudy, Study
from ltrsys.studies.table import Cell, Line, StudyTable
from tests.classifiers.runs import write_model

CONFIG = {
    "name": "letters",
    "data": {"image_size": 16, "resize": 16, "threads": 1, "lanes": 12, "samples_per_epoch": 64},
    "model": {"backbone": "resnet10", "stem": "small"},
    "train": {"epochs": 1, "batch_size": 16, "precision": "float32", "engine": "ddp", "device": "cpu"},
    "balance": {"crt": {"epochs": 1, "lr": 0.1, "batch_size": 64}},
    "tracking": {"wandb": "disabled"},
}
STUDY = {
    "title": "Two samplings",
    "source": "Kang et al., 2020, Table 5",
    "runs": {
        "instance": {"config": "letters.yaml", "seeds": [0, 1]},
        "balanced": {"config": "letters.yaml", "overrides": ["data.sampler.kind=class_balanced"]},
    },
    "columns": ["many", "few", "all", "mean_class_accuracy"],
    "equal_footing": True,
    "versus": "Instance",
    "rows": [
        {"label": "Instance", "run": "instance", "section": "Joint", "reference": {"many": 65.9, "all": 44.4}},
        {"label": "Balanced", "run": "balanced", "section": "Joint", "reference": {"all": 45.1}},
        {"label": "cRT", "run": "instance", "classifier": "crt", "section": "Decoupled"},
        {"label": "MLP of 3", "run": "instance", "classifier": "mlp", "section": "Decoupled",
         "settings": {"layers": 3, "hidden": 8, "epochs": 1}},
    ],
}  # fmt: skip


def ltrsys(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as exit_:
        main([*map(str, arguments)])
    return int(exit_.value.code or 0)


def written(folder: Path, shards: Path, **changes: object) -> Path:
    config = {**CONFIG, "runs": str(folder / "runs"), "data": {**CONFIG["data"], "shards": str(shards)}}
    (folder / "letters.yaml").write_text(yaml.safe_dump(config))
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump({**STUDY, **changes}))
    return path


@pytest.mark.long
def test_a_study_is_run_shown_and_not_run_twice(
    tiny_shards: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    path = written(tmp_path, tiny_shards)
    assert ltrsys("study", "status", path) == 0
    assert "letters-instance-seed1: missing; 0 of 3 rows measured" in capfd.readouterr().out
    assert ltrsys("study", "show", path) == 0
    assert "Not all trainings are measured: Instance, Balanced, cRT, MLP of 3." in _joined(capfd.readouterr().out)

    assert ltrsys("study", "run", path) == 0
    printed = capfd.readouterr().out
    runs = [tmp_path / "runs" / f"letters-{name}" for name in ("instance-seed0", "instance-seed1", "balanced-seed0")]
    assert all((run / "model.safetensors").exists() for run in runs)
    assert re.search(r"Instance\s+│\s+[\d.]+ ± [\d.]+", printed)
    assert "Published: Kang et al., 2020, Table 5; not measured here." in _joined(printed)
    assert "Not all trainings" not in printed

    files = {file: file.stat().st_mtime_ns for run in runs for file in run.rglob("*") if file.name != "lock"}
    assert ltrsys("study", "run", path) == 0
    assert {file: file.stat().st_mtime_ns for file in files} == files, "what is there is not made again"
    assert ltrsys("study", "status", path) == 0
    assert "letters-instance-seed0: trained; 3 of 3 rows measured" in capfd.readouterr().out

    assert ltrsys("study", "show", path, "--format", "json") == 0
    table = json.loads(capfd.readouterr().out)
    assert [row["seeds"] for row in table["rows"]] == [2, 1, 2, 2]
    assert table["rows"][0]["published"] == {"many": 65.9, "all": 44.4}
    assert table["rows"][0]["p_value"] is None
    assert 0 < table["rows"][2]["p_value"] <= 1
    reference = table["rows"][0]["accuracy"]
    assert reference["few at equal many"] == reference["tilted few"], "the others are compared with it"
    assert table["rows"][0]["few_shot_p_value"] is None
    assert table["rows"][2]["accuracy"]["tilted mean"]["mean"] is not None
    assert table["rows"][3]["parameters"] == "3 layers, 8 hidden"
    _rows_are_those_of_balance(runs[0], table)

    for form in FORMATS:
        assert ltrsys("study", "show", path, "--format", form, "--out", tmp_path / f"table.{form}") == 0
        assert "Balanced" in (tmp_path / f"table.{form}").read_text()


def _rows_are_those_of_balance(run: Path, table: dict) -> None:
    assert ltrsys("balance", run, "--classifiers", "joint,crt") == 0
    lines = {line["classifier"]: line for line in json.loads((run / "results.json").read_text())["results"]}
    for name, row in (("joint", 0), ("crt", 2)):
        both = [line_of(path)["all"] for path in run.parent.glob(f"letters-instance-*/rows/{name}-*.safetensors")]
        assert lines[name]["all"] in both
        assert table["rows"][row]["accuracy"]["all"]["mean"] == pytest.approx(sum(both) / 2)


@pytest.mark.long
def test_rows_on_other_features_are_those_of_balance(tiny_shards: Path, tmp_path: Path) -> None:
    labels = {"Joint": "joint", "Cosine": "cosine", "Cosine, no ReLU": "cosine_no_relu"}
    rows = [{"label": label, "run": "instance", "classifier": name} for label, name in labels.items()]
    changes = {"runs": {"instance": {"config": "letters.yaml"}}, "versus": None}
    first = OpenStudy.read(written(tmp_path, tiny_shards, **changes, rows=rows[:1]))
    run = first.trainings[0].run
    run.path.mkdir(parents=True)
    save_config(first.trainings[0].config, run.config_file)
    write_model(run, first.trainings[0].config, seed=0)
    assert ltrsys("study", "run", first.path) == 0
    assert not list(run.features.rglob("*no_relu*")), "no row takes them"
    path = written(tmp_path, tiny_shards, **changes, rows=rows)
    assert ltrsys("study", "run", path) == 0
    assert ltrsys("balance", run.path, "--classifiers", ",".join(labels.values())) == 0
    lines = json.loads((run.path / "results.json").read_text())["results"]
    measured = {line["classifier"]: line for line in map(line_of, (run.path / "rows").iterdir())}
    of_balance_alone = {"calibration": None}
    assert [measured[name] for name in labels.values()] == [line | of_balance_alone for line in lines]


def line_of(path: Path) -> dict:
    with safe_open(path, framework="np") as file:
        return json.loads(file.metadata()["line"])


def _joined(text: str) -> str:
    return " ".join(text.split())


RETRAINED = {
    "runs": {
        "classifier": {"config": "letters.yaml", "from": "instance",
                       "overrides": ["train.trainable=classifier", "train.reset_classifier=true"]},
        "instance": {"config": "letters.yaml", "seeds": [1, 0]},
    },
    "rows": [{"label": "C", "run": "classifier"}, {"label": "Joint", "run": "instance"}],
    "versus": None,
    "source": None,
}  # fmt: skip
"""A run that starts from one that the file names after it."""


@pytest.mark.long
def test_a_run_that_starts_from_another_waits_for_it_and_is_trained_after_it(
    tiny_shards: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, tiny_shards, **RETRAINED)
    first, second = (RunFolder(tmp_path / "runs" / f"letters-{key}-seed0") for key in ("instance", "classifier"))
    assert ltrsys("study", "status", path) == 0
    told = capfd.readouterr().out
    assert f"{second.path}: waits for {first.path}; 0 of 1 rows measured" in told
    assert f"{first.path}: missing;" in told

    assert ltrsys("study", "run", path) == 0
    assert digest_of_start(second.path) == digest_of_weights(first.path)
    assert yaml.safe_load(second.config_file.read_text())["train"]["from_run"] == str(first.path)
    assert ltrsys("study", "status", path) == 0
    assert f"{second.path}: trained; 1 of 1 rows measured" in capfd.readouterr().out

    other = RunFolder(tmp_path / "runs" / "letters-instance-seed1")
    first.model.write_bytes(other.model.read_bytes())
    assert ltrsys("study", "status", path) == 2
    assert f"{second.path}: was not started from the weights that {first.path} holds now" in capfd.readouterr().err


def retrained(**changes: object) -> dict:
    return {**RETRAINED, "runs": {**RETRAINED["runs"], "classifier": {**RETRAINED["runs"]["classifier"], **changes}}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (retrained(**{"from": "instanc"}), "run `classifier`: starts from `instanc`, which is no run of the study."),
        (retrained(seeds=[0, 2]), "run `classifier`: there is no seed 2 of the run `instance`, which it starts from"),
        (retrained(**{"from": "classifier"}), "runs start from one another: `classifier` from `classifier`. Leave out"),
        ({**RETRAINED, "runs": {name: {"config": "letters.yaml", "from": other} for name, other in
                                (("instance", "b"), ("b", "classifier"), ("classifier", "b"))}},
         "runs start from one another: `b` from `classifier` from `b`. Leave out one `from`"),
        ({"rows": [{"label": "a", "run": "instanc"}]}, "there is no run `instanc`. Did you mean instance?"),
        ({"rows": [{"label": "a", "run": "instance", "classifier": "crtt"}], "versus": None},
         "`crtt`: unknown classifier. Did you mean crt?"),
        ({"source": None}, "row `Instance` has reference numbers, and the study has no `source`"),
        ({"versus": "cRTT"}, "versus: there is no row `cRTT` of a run. Did you mean cRT?"),
        ({"rows": [{"label": "a"}]}, "row `a` has neither a run nor reference numbers"),
        ({"rows": [STUDY["rows"][0], STUDY["rows"][0]]}, "two rows are called `Instance`"),
        ({"colums": ["all"]}, "colums"),
        ({"runs": {"instance": {"config": "letters.yaml", "seeds": [0, 0]}}, "versus": None,
          "rows": [{"label": "a", "run": "instance"}]}, "the runs `instance` and `instance` share the folder"),
        ({"runs": {"instance": {"config": "letters.yaml", "overrides": ["train.epoch=3"]}}, "versus": None,
          "rows": [{"label": "a", "run": "instance"}]}, "Did you mean `train.epochs`?"),
        ({"runs": {"instance": {"config": "letters.yaml", "overrides": ["model.head=cosine"]}}, "versus": None,
          "rows": [{"label": "a", "run": "instance", "classifier": "tau"}]}, "tau does not apply to model.head=cosine"),
        ({"runs": {"instance": {"config": "letters.yaml",
                                "overrides": ["model.backbone=efficientnet_b0", "model.stem=imagenet"]}},
          "versus": None, "rows": [{"label": "a", "run": "instance", "classifier": "cosine_no_relu"}]},
         "cosine_no_relu does not apply to model.backbone=efficientnet_b0"),
    ],
)  # fmt: skip
def test_a_wrong_study_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict, message: str
) -> None:
    assert ltrsys("study", "status", written(tmp_path, tmp_path / "shards", **changes)) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert message in error


def test_rows_are_compared_within_their_section_where_it_has_the_row_that_is_named() -> None:
    runs = {"small": {"config": "letters.yaml"}}
    rows = [
        {"label": label, "run": "small", "section": section}
        for section, label in (("A", "Joint"), ("A", "cRT"), ("B", "cRT"), ("B", "Joint"), ("", "LWS"))
    ]
    study = Study.model_validate({"title": "", "runs": runs, "versus": "Joint", "rows": rows})
    against = [study.compared_with(row) for row in study.rows]
    assert [None if row is None else (row.section, row.label) for row in against] == [
        ("A", "Joint"), ("A", "Joint"), ("B", "Joint"), ("B", "Joint"), ("A", "Joint"),
    ]  # fmt: skip


def test_published_numbers_stand_alone_where_a_row_has_no_run(
    tiny_shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"label": "FSLwF", "reference": {"all": 28.4}}, {"label": "Joint", "run": "instance"}]
    path = written(tmp_path, tiny_shards, rows=rows, versus="Joint", equal_footing=False)
    assert ltrsys("study", "show", path, "--format", "csv") == 0
    line = next(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert (line["row"], line["published all"], line["all"], line["p"]) == ("FSLwF", "28.4", "", "")
    assert ltrsys("study", "show", path) == 0
    assert "Not all trainings are measured: Joint." in _joined(capsys.readouterr().out)


def test_a_study_that_is_not_there_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ltrsys("study", "show", tmp_path / "no.yaml") == 2
    assert "no.yaml: cannot read this study: No such file or directory." in capsys.readouterr().err
    (tmp_path / "bad.yaml").write_text("title: [")
    assert ltrsys("study", "show", tmp_path / "bad.yaml") == 2
    assert "not valid YAML" in capsys.readouterr().err


def test_a_run_of_another_config_is_refused(
    tiny_shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, tiny_shards)
    run = RunFolder(tmp_path / "runs" / "letters-instance-seed0")
    run.path.mkdir(parents=True)
    config = {**yaml.safe_load((tmp_path / "letters.yaml").read_text()), "name": "letters-instance-seed0"}
    config["train"] = {**config["train"], "epochs": 7}
    run.config_file.write_text(yaml.safe_dump(config))
    assert ltrsys("study", "run", path) == 2
    assert "was made with train.epochs=7, but this study says 1" in capsys.readouterr().err


@pytest.mark.long
def test_a_training_that_fails_is_named_and_goes_on_with_the_same_command(
    tiny_shards: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, tmp_path / "moved away")
    assert ltrsys("study", "run", path) == 1
    assert "letters-balanced-seed0: this training of the study ended with exit code 1" in capfd.readouterr().err
    (tmp_path / "moved away").symlink_to(tiny_shards)
    assert ltrsys("study", "run", path) == 0


def table() -> StudyTable:
    cells = {"many": Cell(61.23, 0.5), "all": Cell(None, None)}
    return StudyTable(
        "A & B_1", "Somebody, 50 %", ["many", "all"], "τ",
        [
            Line("τ", "", 3, 3, cells, None, {"many": 60.0}, "τ = 0.5 | 0.6"),
            Line("<cRT>", "Ours", 1, 3, cells, 0.0004, {}, "", (-1.25, -2.0, -0.5)),
        ],
    )  # fmt: skip


def test_markdown_and_html_escape_what_would_be_markup() -> None:
    text = FORMATS["markdown"](table())
    assert "| τ | 61.2 ± 0.5 | – | – | – | 60.0 | τ = 0.5 \\| 0.6 |" in text
    assert "| <cRT> | 61.2 ± 0.5 | – | -1.2 [-2.0, -0.5] | 4e-04 |  |  |" in text
    assert "Not all trainings are measured: <cRT>." in text
    page = FORMATS["html"](table())
    assert "<td>&lt;cRT&gt;</td>" in page
    assert "<caption>A &amp; B_1</caption>" in page


def test_latex_escapes_what_would_be_a_command() -> None:
    text = FORMATS["latex"](table())
    assert "$\\tau$ & 61.2 $\\pm$ 0.5 & -- & -- & -- & 60.0 & $\\tau$ = 0.5 | 0.6 \\\\" in text
    assert "\\multicolumn{7}{l}{\\emph{Ours}} \\\\" in text


def test_csv_has_numbers_in_columns_of_their_own() -> None:
    rows = list(csv.DictReader(io.StringIO(FORMATS["csv"](table()))))
    assert rows[0]["many"] == "61.23"
    assert rows[0]["many deviation"] == "0.5"
    assert rows[0]["all"] == ""
    assert rows[0]["published many"] == "60.0"
    assert rows[1]["p"] == "0.0004"
    assert [rows[1][f"difference{end}"] for end in ("", " low", " high")] == ["-1.25", "-2.0", "-0.5"]
    assert rows[0]["difference"] == ""


def test_the_paired_test_of_one_training_is_that_of_the_classifier() -> None:
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(6), [2, 3, 4, 30, 30, 30])
    ours, theirs = random.random(len(labels)) < 0.7, random.random(len(labels)) < 0.4
    together = paired_test_of_shares(labels, ours.astype(float), theirs.astype(float), 6)
    assert together == pytest.approx(paired_test_of_class_mean(labels, ours, theirs, 6), abs=0.01)
    assert paired_test_of_shares(labels, ours.astype(float), ours.astype(float), 6) == 1.0


@pytest.mark.long
def test_the_level_of_the_paired_test_holds_over_seeds() -> None:
    random = np.random.default_rng(1)
    labels = np.repeat(np.arange(10), [1, 2, 3, 5, 8, 13, 21, 34, 55, 89])
    rejected = 0
    for _ in range(200):
        difficulty = random.random(len(labels))
        first, second = ((random.random((3, len(labels))) < difficulty).mean(axis=0) for _ in range(2))
        rejected += paired_test_of_shares(labels, first, second, 10) < 0.05
    assert 1 <= rejected <= 20  # 10 are expected; at 4.2 % of 200 or so the binomial leaves this once in 1,000


@pytest.mark.parametrize("width", [40, *range(53, 75), 100, 300])
def test_a_terminal_breaks_no_number_however_narrow_it_is(width: int) -> None:
    text = terminal(table(), width=width)
    assert all(line[-1] in "┓┃┩│┘┤" for line in text.splitlines() if line[0] in "┏┃┡│└├"), "none is cut off"
    assert max(map(len, text.splitlines())) <= width
    rows = [line for line in text.splitlines() if line.startswith("│ <cRT>")]
    assert " ".join(rows).count("61.2 ± 0.5") == 1
    assert " ".join(rows).count("-1.2 [-2.0, -0.5]") == 1
    assert (len(rows) == 1) is (width >= 100)
    assert text.count("A & B_1") == 1
