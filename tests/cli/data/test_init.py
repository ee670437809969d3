"""`ltrsys init` as it is typed: the config that it writes loads, trains and is balanced."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from ltrsys.cli.main import main
from ltrsys.config.reading import load_config
from ltrsys.metrics.config import ShotsConfig
from tests.classifiers.runs import without_splits
from tests.data.servers import serving

pytestmark = pytest.mark.usefixtures("one_thread")


def ltrsys(*arguments: object) -> int:
    with pytest.raises(SystemExit) as exit_:
        main([str(argument) for argument in arguments])
    return int(exit_.value.code or 0)


def named(shards: Path, folder: Path, name: str, side: int = 32) -> Path:
    """The dataset under another name; its images say that they are of another size."""
    shutil.copytree(shards, folder)
    record = json.loads((folder / "dataset.json").read_text())
    record["name"] = name
    (folder / "dataset.json").write_text(json.dumps(record))
    for column in ("width", "height"):
        path = folder / "train" / "index" / f"{column}.npy"
        np.save(path, np.full_like(np.load(path), side))
    return folder


def test_the_config_loads_and_says_why(tiny_shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "my.yaml"
    assert ltrsys("init", tiny_shards, "--out", out, "--backbone", "resnet10", "--gpus", "0", "--name", "mine") == 0
    printed = capsys.readouterr().out
    assert printed.splitlines()[1:] == [f"  ltrsys train --config {out}", "  ltrsys balance runs/mine"]
    config = load_config(out)
    assert (config.name, config.model.backbone, config.model.stem) == ("mine", "resnet10", "small")
    assert (config.data.image_size, config.data.resize, config.data.shards) == (32, 32, tiny_shards)
    assert (config.train.epochs, config.train.batch_size, config.train.precision) == (90, 16, "float32")
    assert config.train.optimizer.lr == pytest.approx(0.2 * 16 / 512)
    assert config.shots == ShotsConfig(many=100, few=20), "it leaves no group empty: 1, 5 and 6 classes"
    text = out.read_text()
    assert "# The paper's thresholds: 1 many-, 5 medium- and 6 few-shot classes." in text
    assert "12 classes; images: 425 train (3 to 120 a class), 120 val, 240 test." in text
    assert max(map(len, text.splitlines())) <= 120


@pytest.mark.long
def test_what_it_writes_is_trained_and_balanced(
    tiny_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert ltrsys("init", tiny_shards, "--out", "my.yaml", "--backbone", "resnet10", "--gpus", "0") == 0
    # DDP: of DeepSpeed a process has one life
    short = ("train.epochs=1", "data.samples_per_epoch=32", "tracking.wandb=disabled", "train.engine=ddp")
    assert ltrsys("train", "--config", "my.yaml", *short) == 0
    capsys.readouterr()
    assert ltrsys("balance", "runs/my", "--json") == 0
    results = json.loads(capsys.readouterr().out)
    assert results["split"] == "test"
    assert {line["classifier"] for line in results["results"]} == {"joint", "ncm", "crt", "tau", "lws"}


@pytest.mark.parametrize("gpus", [0, 1, 5, 8])
@pytest.mark.parametrize(("side", "backbone"), [(32, "resnext50_32x4d"), (150, "inception_v3"), (900, "vit_b_16")])
@pytest.mark.long
def test_any_of_them_loads(tiny_shards: Path, tmp_path: Path, gpus: int, side: int, backbone: str) -> None:
    shards = named(tiny_shards, tmp_path / "a: b # c", "Ärger: # 'der' \n$Name", side)
    out = tmp_path / "m y.yaml"
    assert ltrsys("init", shards, "--out", out, "--gpus", gpus, "--backbone", backbone, "--hours", "0.5") == 0
    config = load_config(out)
    assert config.data.shards == shards
    assert config.name == "m_y"
    assert config.train.batch_size % max(1, gpus) == 0
    assert config.data.lanes % max(1, gpus) == 0
    assert "Nothing was measured" in out.read_text()
    assert max(len(line) for line in out.read_text().splitlines() if "shards:" not in line) <= 120


@pytest.mark.parametrize(("side", "begins"), [(32, "FILE"), (150, True)])
def test_the_line_for_pretrained_weights_is_ready(
    tiny_shards: Path, tmp_path: Path, side: int, begins: str | bool
) -> None:
    out = tmp_path / "my.yaml"
    assert ltrsys("init", named(tiny_shards, tmp_path / "shards", "mine", side), "--out", out) == 0
    assert load_config(out).model.pretrained is False
    out.write_text(out.read_text().replace("# pretrained:", "pretrained:"))
    assert load_config(out).model.pretrained == begins, "published weights have no small stem"


def test_several_gpus_are_launched_by_deepspeed(
    tiny_shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "my.yaml"
    assert ltrsys("init", tiny_shards, "--out", out, "--gpus", "2") == 0
    assert f"  deepspeed --num_gpus 2 launchers/train.py --config {out}\n" in capsys.readouterr().out


@pytest.mark.long
def test_the_splits_decide_what_is_reported_and_what_tau_is_chosen_on(
    tiny_shards: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for left_out, select_on, words in (
        ((), "val", "results are of test"),
        (("test",), "train", "results are of val"),
        (("val",), "train", "results are of test"),
        (("val", "test"), "auto", "neither val nor test"),
    ):
        shards = without_splits(tiny_shards, tmp_path / f"without-{len(left_out)}{''.join(left_out)}", *left_out)
        assert ltrsys("init", shards, "--out", tmp_path / "my.yaml", "--force") == 0
        assert load_config(tmp_path / "my.yaml").balance.of("tau").model_dump()["select_on"] == select_on
        assert words in (tmp_path / "my.yaml").read_text()
    assert caplog.text.count("there is neither a test nor a val split") == 1


def test_nothing_is_replaced_without_force(
    tiny_shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "my.yaml"
    out.write_text("mine")
    assert ltrsys("init", tiny_shards, "--out", out) == 2
    assert "is there already. Choose another --out, or replace it with --force." in capsys.readouterr().err
    assert out.read_text() == "mine"
    assert ltrsys("init", tiny_shards, "--out", out, "--force") == 0
    load_config(out)


@pytest.mark.long
def test_wrong_input_is_one_line(tiny_shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    only_val = without_splits(tiny_shards, tmp_path / "val", "train")
    for arguments, code, message in (
        ((tmp_path,), 1, "there is no dataset index here"),
        (("ftp://host/shards",), 2, "ftp"),
        ((only_val,), 1, "there is no `train` split here (there is: val, test)"),
        ((tiny_shards, "--backbone", "resnt50"), 2, "no network is called 'resnt50'. Nearest: resnet50"),
        ((tiny_shards, "--backbone", "squeezenet1_0"), 2, "does not end in a linear layer"),
        ((tiny_shards, "--backbone", "inception_v3"), 2, "The nearest size that it takes is 75; resnet50"),
        ((tiny_shards, "--name", "a/b"), 2, "`name`: String should match"),
        ((tiny_shards, "--gpus", "426"), 2, "there are only 425 training images"),
        ((tiny_shards, "--gpus", "-1"), 2, "'--gpus'"),
        ((tiny_shards, "--hours", "0"), 2, "'--hours'"),
    ):
        assert ltrsys("init", *arguments, "--out", tmp_path / "my.yaml") == code
        printed = capsys.readouterr()
        assert printed.out == ""
        assert message in printed.err
        assert printed.err.count("\n") == 1
        assert not (tmp_path / "my.yaml").exists()


def test_a_url_is_taken(tiny_shards: Path, tmp_path: Path) -> None:
    with serving(tiny_shards) as server:
        assert ltrsys("init", server.url, "--out", tmp_path / "my.yaml") == 0
        assert load_config(tmp_path / "my.yaml").data.shards == server.url
