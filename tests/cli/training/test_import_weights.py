"""`ltrsys import-weights` from a checkpoint of the paper's code to the table."""

import hashlib
import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torchvision.models.resnet import BasicBlock, ResNet

from ltrsys.config.reading import load_config, load_run_config, save_config
from ltrsys.data.index.dataset import Dataset
from ltrsys.models.signature import Signature
from ltrsys.models.stored.weights import load_network, save_tensors
from ltrsys.runs.folder import RunFolder
from tests.classifiers.runs import make_config
from tests.cli.training.test_balance import ltrsys
from tests.models.stored.test_published import paper_layout

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.long]


@pytest.fixture
def experiment(tmp_path, tiny_shards):
    """The config of an experiment on the tiny shards, with a ResNet-10."""
    path = tmp_path / "experiment.yaml"
    save_config(make_config(tmp_path / "runs" / "theirs", tiny_shards), path)
    path.write_text(path.read_text().replace("shufflenet_v2_x0_5", "resnet10"))
    return path


@pytest.fixture
def checkpoint(tmp_path):
    torch.manual_seed(0)
    network = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=12)
    path = tmp_path / "final_model_checkpoint.pth"
    torch.save(paper_layout(network, scales=torch.arange(1.0, 13.0)), path)
    return path, network


def test_a_checkpoint_of_the_paper_s_code_is_balanced(experiment, checkpoint, tmp_path, capsys):
    path, network = checkpoint
    assert ltrsys("import-weights", path, "--config", experiment) == 0
    printed = capsys.readouterr().out
    assert "resnet10 with 12 classes" in printed
    assert "output i is taken for class i" in printed
    assert "factors of LWS are left out" in printed
    run = RunFolder(tmp_path / "runs" / "theirs")
    assert load_run_config(run) == load_config(experiment)
    loaded = load_network(load_run_config(run).model, 12, run.model)
    assert torch.equal(loaded.classifier.weight, network.fc.weight)
    with safe_open(run.model, framework="pt") as file:
        assert file.metadata() == {
            "imported_from": path.name,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            **signature_of(experiment).metadata(),
        }
    assert ltrsys("balance", run.path, "--classifiers", "joint,ncm,tau", "--json") == 0
    results = json.loads(capsys.readouterr().out)
    assert [line["classifier"] for line in results["results"]] == ["joint", "ncm", "tau"]


def test_a_model_that_names_other_classes_is_refused(experiment, checkpoint, tmp_path, capsys):
    path, _ = checkpoint
    assert ltrsys("import-weights", path, "--config", experiment) == 0
    theirs, signature = tmp_path / "theirs.safetensors", signature_of(experiment)
    other = signature.model_copy(update={"classes": signature.classes[::-1]})
    save_tensors(load_file(RunFolder(tmp_path / "runs" / "theirs").model), theirs, other.metadata())
    capsys.readouterr()
    assert ltrsys("import-weights", theirs, "--config", experiment, "--out", tmp_path / "runs" / "again") == 2
    assert "12 classes numbered anew" in capsys.readouterr().err
    assert not (tmp_path / "runs" / "again").exists()


def signature_of(experiment):
    config = load_config(experiment)
    return Signature.of(Dataset.open(config.data.shards).record, config.data)


def test_a_network_with_a_feature_layer_is_told_the_key_and_balanced_with_it(experiment, checkpoint, tmp_path, capsys):
    path, network = checkpoint
    content = paper_layout(network)
    layer = torch.nn.Linear(512, 512)
    named = layer.state_dict().items()
    content["state_dict_best"]["feat_model"] |= {f"module.fc_add.{name}": tensor for name, tensor in named}
    torch.save(content, path)
    assert ltrsys("import-weights", path, "--config", experiment) == 1
    assert "Its network has model.feature_layer=512." in capsys.readouterr().err
    assert ltrsys("import-weights", path, "--config", experiment, "model.feature_layer=512") == 0
    run = RunFolder(tmp_path / "runs" / "theirs")
    loaded = load_network(load_run_config(run).model, 12, run.model)
    assert torch.equal(loaded.backbone.fc.linear.weight, layer.weight)
    capsys.readouterr()
    assert ltrsys("balance", run.path, "--classifiers", "joint,crt_memory", "--json") == 0
    results = json.loads(capsys.readouterr().out)["results"]
    assert [line["classifier"] for line in results] == ["joint", "crt_memory"]
    assert all(line["tilt"] for line in results)


def test_a_network_that_does_not_take_the_image_size_makes_no_run(experiment, checkpoint, tmp_path, capsys):
    wrong = ("model.backbone=inception_v3", "data.image_size=32", "data.resize=32")
    assert ltrsys("import-weights", checkpoint[0], "--config", experiment, *wrong) == 2
    assert "model.backbone=inception_v3 does not take images of data.image_size=32" in capsys.readouterr().err
    assert not (tmp_path / "runs" / "theirs").exists()


def test_out_names_the_run_and_the_scales_can_be_multiplied_in(experiment, checkpoint, tmp_path):
    path, network = checkpoint
    out = tmp_path / "else where" / "mine"
    assert ltrsys("import-weights", path, "--config", experiment, "--out", out, "--apply-scales", "seed=3") == 0
    run = RunFolder(out)
    config = load_run_config(run)
    assert (config.name, config.run_folder, config.seed) == ("mine", out, 3)
    loaded = load_network(config.model, 12, run.model)
    scales = torch.arange(1.0, 13.0)
    assert torch.equal(loaded.classifier.weight, network.fc.weight * scales[:, None])
    assert torch.equal(loaded.classifier.bias, network.fc.bias * scales)


def test_what_cannot_be_imported_leaves_nothing_and_is_one_line(experiment, checkpoint, tmp_path, capsys):
    path, _ = checkpoint
    torch.save(ResNet(BasicBlock, [1, 1, 1, 1], num_classes=5).state_dict(), tmp_path / "five.pth")
    for arguments, code, message in (
        ([tmp_path / "five.pth"], 1, "its classifier has 5 classes, and data.shards has 12"),
        ([tmp_path / "five.pth", "--out", tmp_path / "-x"], 2, "name"),
        ([tmp_path / "none.pth"], 1, "no file of weights"),
        ([path, "model.backbone=resnet50"], 1, "They are those of model.backbone=resnet10."),
    ):
        assert ltrsys("import-weights", "--config", experiment, *arguments) == code
        printed = capsys.readouterr()
        assert message in printed.err
        assert printed.err.count("\n") == 1
        assert not (tmp_path / "runs").exists()


def test_an_import_that_a_full_disk_ended_can_be_run_again(experiment, checkpoint, small_disk, capsys):
    path, _ = checkpoint
    out = small_disk("5m") / "run"
    assert ltrsys("import-weights", path, "--config", experiment, "--out", out) == 1
    assert "the disk is full" in capsys.readouterr().err
    small_disk("100m")
    assert ltrsys("import-weights", path, "--config", experiment, "--out", out) == 0


def test_a_run_is_not_replaced(experiment, checkpoint, capsys):
    path, _ = checkpoint
    assert ltrsys("import-weights", path, "--config", experiment) == 0
    assert ltrsys("import-weights", path, "--config", experiment) == 2
    assert "model.safetensors: there is a run already" in capsys.readouterr().err


def test_scales_that_are_not_there_cannot_be_multiplied_in(experiment, tmp_path, capsys):
    torch.save(ResNet(BasicBlock, [1, 1, 1, 1], num_classes=12).state_dict(), tmp_path / "plain.pth")
    assert ltrsys("import-weights", tmp_path / "plain.pth", "--config", experiment, "--apply-scales") == 2
    assert "has no factors of LWS" in capsys.readouterr().err
