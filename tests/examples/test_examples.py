"""The examples: five methods of a user's own, each one file, from shards to the table."""

import json
import multiprocessing
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
import yaml

from ltrsys.cli.main import main
from ltrsys.config.reading import load_run_config
from ltrsys.config.schema import Config
from ltrsys.evaluation.results import read_results
from ltrsys.runs.folder import RunFolder

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("plugins_forgotten")]
EXAMPLES = Path(__file__).parent.parent.parent / "examples"
PLUGINS = sorted(EXAMPLES.glob("*.py"))


def ltrsys(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as exit_:
        main([*map(str, arguments)])
    return int(exit_.value.code or 0)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = tmp_path_factory.mktemp("examples")
    source = EXAMPLES / "stripes_source.py"
    build = ("stripes", "--plugin", source, "--out", folder / "shards", "--max-count", "16")
    assert ltrsys("shards", *build, "--workers", "2") == 0  # other processes load the plug-in too
    config = {
        "name": "stripes",
        "runs": str(folder / "runs"),
        "plugins": [str(path) for path in PLUGINS if path.stem != "stripes_source"],
        "data": {
            "shards": str(folder / "shards"), "image_size": 16, "resize": 16, "threads": 1, "lanes": 12,
            "sampler": {"kind": "capped", "cap": 8},
        },
        "model": {"backbone": "resnet10", "stem": "small"},
        "train": {
            "epochs": 2, "batch_size": 16, "precision": "float32", "engine": "ddp", "loss": {"kind": "brier"},
            "checkpoint_every_steps": 1,
        },
        "balance": {"classifiers": ["joint", "unbiased"], "unbiased": {"scale": 2.0}},
        "tracking": {"wandb": "disabled", "csv": True},
    }  # fmt: skip
    (folder / "stripes.yaml").write_text(yaml.safe_dump(config))
    assert ltrsys("train", "--config", folder / "stripes.yaml") == 0
    return RunFolder(folder / "runs" / "stripes")


@pytest.mark.parametrize("path", PLUGINS, ids=lambda path: path.stem)
def test_an_example_is_one_short_file(path: Path) -> None:
    assert len(path.read_text().splitlines()) < 40


def test_a_run_of_plugins_is_in_the_table_the_plots_and_the_results(
    run: RunFolder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)  # a run is balanced from anywhere
    assert ltrsys("balance", run.path) == 0
    assert "Unbiased" in capsys.readouterr().out
    assert [line.classifier for line in read_results(run.results).results] == ["joint", "unbiased"]
    assert (run.report / "accuracy_by_split.png").exists()
    assert "test/unbiased/all" in (run.path / "metrics.csv").read_text()
    assert "unbiased" in (run.report / "per_class.csv").read_text().splitlines()[0]


def test_a_classifier_of_a_plugin_is_evaluated_by_another_process(run: RunFolder, tmp_path: Path) -> None:
    assert ltrsys("balance", run.path) == 0
    command = [sys.executable, "-c", "from ltrsys.cli.main import main; main()", "evaluate", str(run.path)]
    options = ["--classifier", "unbiased", "--split", "test", "--json"]
    done = subprocess.run([*command, *options], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (line,) = json.loads(done.stdout)["results"]
    expected = json.loads(run.results.read_text())["results"][1]
    assert line == {**expected, "tilt": None, "calibration": None}, "which are of the table alone"


def test_a_changed_plugin_is_fitted_anew(run: RunFolder, tmp_path: Path) -> None:
    source = EXAMPLES / "unbiased_classifier.py"
    plugin = tmp_path / "mine.py"
    plugin.write_text(source.read_text().replace('"unbiased"', '"mine"').replace("Unbiased", "Mine"))
    command = [sys.executable, "-c", "from ltrsys.cli.main import main; main()", "balance", str(run.path)]
    call = [*command, "--classifiers", "mine", "--plugin", str(plugin)]

    def balanced() -> bytes:
        subprocess.run(call, check=True, capture_output=True, timeout=300)
        return (run.classifiers / "mine.safetensors").read_bytes()

    first = balanced()
    assert balanced() == first
    plugin.write_text(plugin.read_text() + "\n# another one\n")
    assert balanced() != first, "its fingerprint is another one"

    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 2
    assert "holds a line of `mine`, which comes from a plug-in" in done.stderr
    assert "--plugin FILE.py" in done.stderr
    run.results.unlink()  # as the message says
    assert ltrsys("balance", run.path) == 0


def test_a_config_with_plugins_goes_to_other_processes(run: RunFolder) -> None:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor:
        assert executor.submit(scale_of, load_run_config(run)).result() == 2.0


def scale_of(config: Config) -> float:
    section = config.balance.of("unbiased").model_dump()
    return float(section["scale"])


def test_a_run_of_plugins_goes_on_from_its_checkpoint(run: RunFolder) -> None:
    checkpoints = sorted(run.checkpoints.glob("step-*.safetensors"))
    losses = [line for line in run.metrics.read_text().splitlines() if "train/loss" in line]
    checkpoints[-1].unlink()
    run.model.unlink()
    assert ltrsys("train", "--config", run.config_file) == 0
    assert run.model.exists()
    again = [json.loads(line) for line in run.metrics.read_text().splitlines() if "train/loss" in line]
    losses_again = [line["train/loss"] for line in again]
    assert losses_again == [json.loads(line)["train/loss"] for line in losses]
    assert load_run_config(run).data.sampler.kind == "capped"
    lines = [line.split(",") for line in (run.path / "metrics.csv").read_text().splitlines()]
    assert [float(value) for _, name, value in lines if name == "train/loss"] == losses_again


def test_other_settings_of_a_plugin_are_another_experiment(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert ltrsys("train", "--config", run.config_file, "data.sampler.cap=9") == 2
    assert "begun with data.sampler.cap=8, but the config now says 9" in capsys.readouterr().err


def test_all_methods_are_listed_with_those_of_plugins(capsys: pytest.CaptureFixture[str]) -> None:
    assert ltrsys("methods", "--json", *(part for path in PLUGINS for part in ("--plugin", path))) == 0
    found = json.loads(capsys.readouterr().out)
    names = {kind: [method["name"] for method in methods] for kind, methods in found.items()}
    for kind, name in (
        ("sampler", "capped"), ("loss", "brier"), ("classifier", "unbiased"), ("source", "stripes"), ("tracker", "csv"),
    ):  # fmt: skip
        assert names[kind][-1] == name
    assert ltrsys("methods", "clasifier") == 2
    assert "Did you mean classifier?" in capsys.readouterr().err
