"""The figures of a study: what is refused, and what is drawn of small letters and digits."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from matplotlib.figure import Figure

from ltrsys.data.shards.building import build_shards
from ltrsys.data.sources.digits import read_digits
from ltrsys.evaluation.results import TauCurve
from ltrsys.runs.folder import RunFolder
from ltrsys.studies.figures.base import FIGURES
from tests.studies.test_studies import CONFIG, ltrsys

TWO_RUNS = {"instance": {"config": "letters.yaml"}, "balanced": {"config": "letters.yaml"}}
JOINT = {"label": "Joint", "run": "instance"}
TAU = {"label": "tau", "run": "instance", "classifier": "tau"}
PLACED = {**JOINT, "x": "Joint", "series": "Instance"}


def written(folder: Path, shards: Path, name: str = "study", **study: Any) -> Path:
    """Write a study of one run of small letters, changed by `study`, and its config."""
    config = {**CONFIG, "runs": str(folder / "runs"), "data": {**CONFIG["data"], "shards": str(shards)}}
    (folder / "letters.yaml").write_text(yaml.safe_dump(config))
    path = folder / f"{name}.yaml"
    begin = {"title": "Letters", "runs": {"instance": {"config": "letters.yaml"}}, "rows": [JOINT]}
    path.write_text(yaml.safe_dump({**begin, **study}))
    return path


@pytest.mark.parametrize(
    ("study", "message"),
    [
        ({"figure": "split"}, "study.yaml: figure: `split`: unknown figure. Did you mean splits?"),
        ({"figure": "splits"}, "figure: splits places each row, and row `Joint` has no `x`."),
        ({"figure": "backbones", "rows": [{**JOINT, "x": "ResNet-10"}]}, "row `Joint` has no `series`."),
        ({"figure": "backbones", "rows": []}, "figure: backbones shows rows, and the study has none."),
        ({"figure": "splits", "rows": [PLACED, {**PLACED, "label": "again"}]},
         "the rows `Joint` and `again` have one place, x: Joint, series: Instance."),
        ({"rows": [PLACED]}, "row `Joint` has `x` or `series`, which are for figure: splits, backbones; the study has"),
        ({"figure": "decision_regions", "rows": [PLACED]}, "which are for figure: splits, backbones; this one is"),
        ({"rows": []}, "rows: a table has at least one"),
        ({"figure": "weight_norms_and_tau"}, "weight_norms_and_tau needs a row with classifier: tau."),
        ({"figure": "weight_norms_and_tau", "rows": [TAU]}, "needs a row with classifier: joint."),
        ({"figure": "weight_norms_and_tau", "rows": [JOINT, TAU, {**TAU, "label": "again"}]},
         "there are two rows with classifier: tau."),
        ({"figure": "weight_norms_and_tau", "rows": [JOINT, TAU, {**JOINT, "label": "n", "classifier": "ncm"}]},
         "ncm has no weight norms. Leave out its row."),
        ({"figure": "weight_norms_and_tau", "runs": TWO_RUNS, "rows": [JOINT, {**TAU, "run": "balanced"}]},
         "is of one run, and there are rows of instance, balanced."),
        ({"figure": "decision_regions", "runs": TWO_RUNS, "rows": [JOINT, {**TAU, "run": "balanced"}]},
         "is of one run, and there are rows of instance, balanced."),
        ({"figure": "decision_regions", "runs": {"instance": {"config": "letters.yaml", "seeds": [0, 1]}}},
         "is of one training, and run `instance` has 2 seeds. Give one."),
        ({"figure": "decision_regions"}, "model.backbone=resnet10 of run `instance` has 512. Take lenet_2d."),
        ({"figure": "trade_off"}, "figure: trade_off is of tilted scores. Give equal_footing: true."),
        ({"figure": "trade_off", "equal_footing": True, "columns": ["few", "all"]}, "Add many to `columns`."),
        ({"figure": "trade_off", "equal_footing": True, "rows": [{**JOINT, "label": str(n)} for n in range(9)]},
         "9 rows are more than can be told apart, which is 8."),
        ({"figure": "sampling_weights", "runs": TWO_RUNS, "rows": []},
         "is of the class counts of one run, and there are 2. Leave one."),
    ],
)  # fmt: skip
def test_what_cannot_be_drawn_is_one_line_before_anything_is_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], study: dict, message: str
) -> None:
    assert ltrsys("study", "run", written(tmp_path, tmp_path / "shards", **study)) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert message in error
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "png"], "--format png: a picture is not printed. Give --out FILE.png."),
        (["--format", "png", "--out", "a.png"], "has no key `figure`, and is a table alone: terminal, markdown,"),
        (["--out", "a.svg"], "--format svg: "),
        (["--format", "png", "--out", "a.svg"], "the file is not called .png"),
        (["--format", "pgn", "--out", "a.png"], "--format pgn: unknown format. Did you mean png?"),
    ],
)
def test_a_picture_that_cannot_be_had_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: list, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert ltrsys("study", "show", written(tmp_path, tmp_path / "shards"), *arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert message in error
    assert not list(tmp_path.glob("a.*"))


def test_rows_that_are_not_measured_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [PLACED, {**PLACED, "label": "cRT", "classifier": "crt", "x": "cRT"}]
    path = written(tmp_path, tmp_path / "shards", figure="splits", rows=rows)
    assert ltrsys("study", "show", path, "--out", tmp_path / "figure.png") == 2
    error = capsys.readouterr().err
    assert f"{path}: not measured on all seeds: row `Joint` and 1 more. `ltrsys study run {path}` measures" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "figure.png").exists()


@pytest.mark.long
def test_sampling_weights_need_no_training(
    tiny_shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], figures: list[Figure]
) -> None:
    path = written(tmp_path, tiny_shards, figure="sampling_weights", rows=[])
    for command in ("run", "status"):
        assert ltrsys("study", command, path) == 0
        assert "there are no rows, and so nothing to train." in capsys.readouterr().out
    assert not (tmp_path / "runs").exists()
    assert ltrsys("study", "show", path) == 2
    assert "there are no rows, and so no table." in capsys.readouterr().err
    for suffix, begin in (("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")):
        assert ltrsys("study", "show", path, "train.epochs=8", "--out", tmp_path / f"figure.{suffix}") == 0
        assert (tmp_path / f"figure.{suffix}").read_bytes().startswith(begin)
    fixed, progressive = figures[0].axes
    assert fixed.lines[0].get_ydata()[0] == pytest.approx(120 / 425)
    assert [line.get_label() for line in progressive.lines] == ["t = 1", "t = 2", "t = 4", "t = 6", "t = 8"]


@pytest.fixture(scope="module")
def letters(tiny_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a run of two seeds is trained and every row of these tests is measured."""
    folder = tmp_path_factory.mktemp("figures")
    runs = {"instance": {"config": "letters.yaml", "seeds": [0, 1]}}
    tau = {"run": "instance", "classifier": "tau", "settings": {"grid": [1.0]}}
    placed = [
        {**PLACED},
        {**PLACED, "label": "cRT", "classifier": "crt", "x": "cRT"},
        {**tau, "label": "tau 1", "x": "Joint", "series": "tau 1"},
    ]
    norms = [JOINT, TAU, {"label": "cRT", "run": "instance", "classifier": "crt"}]
    for name, study in {
        "splits": {"figure": "splits", "rows": placed, "columns": ["many", "few", "all"]},
        "backbones": {"figure": "backbones", "rows": placed, "columns": ["all"]},
        "norms": {"figure": "weight_norms_and_tau", "rows": norms},
        "trade": {"figure": "trade_off", "rows": norms, "equal_footing": True},
    }.items():
        assert ltrsys("study", "run", written(folder, tiny_shards, name, runs=runs, **study)) == 0
    return folder


def table_of(path: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, dict]:
    capsys.readouterr()
    assert ltrsys("study", "show", path, "--format", "json") == 0
    return {row["label"]: row["accuracy"] for row in json.loads(capsys.readouterr().out)["rows"]}


@pytest.mark.long
def test_splits_have_a_panel_for_each_column_with_the_numbers_of_the_table(
    letters: Path, capsys: pytest.CaptureFixture[str], figures: list[Figure]
) -> None:
    table = table_of(letters / "splits.yaml", capsys)
    assert ltrsys("study", "show", letters / "splits.yaml", "--format", "png", "--out", letters / "splits.png") == 0
    panels = figures[0].axes
    assert [axes.get_title() for axes in panels] == ["many", "few", "all"]
    for axes, column in zip(panels, ("many", "few", "all"), strict=True):
        assert [label.get_text() for label in axes.get_xticklabels()] == ["Joint", "cRT"]
        instance, tau = axes.containers
        means = [table[label][column]["mean"] for label in ("Joint", "cRT")]
        np.testing.assert_allclose(instance[0].get_ydata().astype(float), means)
        np.testing.assert_allclose(tau[0].get_ydata().astype(float), [table["tau 1"][column]["mean"]])
    bars = panels[2].containers[0][2][0].get_segments()
    spread = table["cRT"]["all"]["standard_deviation"]
    assert np.ptp(bars[1][:, 1]) == pytest.approx(2 * spread)
    assert [text.get_text() for text in figures[0].legends[0].get_texts()] == ["Instance", "tau 1"]


@pytest.mark.long
def test_backbones_are_lines(letters: Path, figures: list[Figure]) -> None:
    assert ltrsys("study", "show", letters / "backbones.yaml", "--out", letters / "backbones.svg") == 0
    (axes,) = figures[0].axes
    assert axes.containers[0][0].get_linestyle() == "-"
    assert axes.containers[0][0].get_xdata().tolist() == [0, 1]


@pytest.mark.long
def test_trade_offs_are_the_means_over_the_seeds_of_the_runs_own_curves(
    letters: Path, capsys: pytest.CaptureFixture[str], figures: list[Figure]
) -> None:
    capsys.readouterr()
    assert ltrsys("study", "show", letters / "trade.yaml", "--format", "json") == 0
    rows = {row["label"]: row for row in json.loads(capsys.readouterr().out)["rows"]}
    curve, cells = rows["cRT"]["trade_off"], rows["cRT"]["accuracy"]
    untilted = curve["t"].index(0.0)
    for column in ("many", "few"):
        assert curve[column][untilted] == pytest.approx(cells[column]["mean"])
    assert curve["many"][0] >= curve["many"][-1]
    assert curve["few"][0] <= curve["few"][-1]
    assert curve["chosen"][1] == pytest.approx(cells["tilted few"]["mean"])
    assert ltrsys("study", "show", letters / "trade.yaml", "--out", letters / "trade.png") == 0
    (axes,) = figures[0].axes
    drawn = axes.lines[6]  # three of each row: the curve, the marker, the ring
    np.testing.assert_allclose(drawn.get_xdata(), curve["many"])
    np.testing.assert_allclose(drawn.get_ydata(), curve["few"])
    assert [text.get_text() for text in figures[0].legends[0].get_texts()] == ["Joint", "tau", "cRT"]


@pytest.mark.long
def test_weight_norms_and_the_curve_by_tau_are_means_over_the_seeds(
    letters: Path, capsys: pytest.CaptureFixture[str], figures: list[Figure], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ltrsys("study", "show", letters / "norms.yaml", "--out", letters / "norms.png") == 0
    norms, counts, by_tau = figures[0].axes
    assert [text.get_text() for text in norms.get_legend().get_texts()] == ["Joint", "τ-normalised", "cRT"]
    runs = [RunFolder(letters / "runs" / f"letters-instance-seed{seed}") for seed in (0, 1)]
    curves = [_curve_of_balance(run) for run in runs]
    accuracy = next(line for line in by_tau.lines if line.get_label() == "all")
    np.testing.assert_allclose(accuracy.get_ydata(), np.mean([curve.all for curve in curves], axis=0))
    assert by_tau.collections, "the band of the standard deviation"
    assert counts.get_ylabel() == "training\nimages"


def _curve_of_balance(run: RunFolder) -> TauCurve:
    """Measure the curve by the other way there is: `ltrsys balance` writes it into `results.json`."""
    assert ltrsys("balance", run.path, "--classifiers", "joint,tau") == 0
    return TauCurve.model_validate(json.loads(run.results.read_text())["tau_curve"])


@pytest.mark.long
def test_decision_regions_are_those_of_the_classifiers(tmp_path: Path, figures: list[Figure]) -> None:
    build_shards(read_digits(seed=0, num_classes=3), tmp_path / "shards")
    rows = [
        JOINT,
        {**TAU, "label": "tau = 1", "settings": {"grid": [1.0]}},
        {**JOINT, "label": "NCM", "classifier": "ncm", "settings": {"feature": "plain", "distance": "cosine"}},
    ]
    run = {"config": "letters.yaml", "overrides": ["model={backbone: lenet_2d, stem: imagenet}", "data.lanes=3"]}
    path = written(tmp_path, tmp_path / "shards", figure="decision_regions", runs={"instance": run}, rows=rows)
    assert ltrsys("study", "run", path) == 0
    assert ltrsys("study", "show", path, "--out", tmp_path / "figure.png") == 0
    panels = figures[0].axes
    assert [axes.get_title() for axes in panels] == ["Joint", "tau = 1", "NCM"]
    features = np.load(tmp_path / "runs" / "letters-instance-seed0" / "features" / "train" / "features.npy")
    assert sum(len(line.get_xdata()) for line in panels[0].lines) == len(features)
    assert [len(axes.texts) for axes in panels] == [3, 3, 0], "an arrow for each weight vector"
    assert [text.get_text().partition(":")[0] for text in figures[0].legends[0].get_texts()] == ["0", "1", "2"]


@pytest.mark.usefixtures("plugins_forgotten")
def test_a_figure_of_one_s_own_is_one_file(tiny_shards: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from ltrsys.studies.figures.base import FIGURES, Figure\n"
        "@FIGURES.register\n"
        "class Mine(Figure):\n"
        "    name, summary, needs_rows = 'mine', 'the title', False\n"
        "    @classmethod\n"
        "    def draw(cls, material, path):\n"
        "        path.write_text(material.study.study.title)\n"
    )
    run = {"config": "letters.yaml", "overrides": [f"plugins=[{tmp_path / 'mine.py'}]"]}
    path = written(tmp_path, tiny_shards, figure="mine", runs={"instance": run}, rows=[])
    assert ltrsys("study", "show", path, "--out", tmp_path / "mine.svg") == 0
    assert (tmp_path / "mine.svg").read_text() == "Letters"


def test_every_kind_names_the_paper_s_figure() -> None:
    kinds = ("splits", "weight_norms_and_tau", "sampling_weights", "decision_regions", "backbones")
    for number, kind in enumerate(kinds, start=1):
        assert FIGURES.get(kind).source == f"Kang et al., 2020, Figure {number}"
