"""Network and classifier must belong together: what does not is refused by what differs, and the advice works."""

import shutil
from pathlib import Path

import pytest
import torch

from ltrsys.errors import DataError, UsageError
from ltrsys.models.signature import signature_in
from ltrsys.models.stored.weights import load_tensors, metadata_of, save_tensors
from ltrsys.prediction.loading import load_model
from ltrsys.runs.folder import RunFolder
from tests.cli.training.test_balance import ltrsys
from tests.prediction.conftest import SHORT

pytestmark = pytest.mark.long

CPU = torch.device("cpu")


def rewrite(path: Path, metadata: dict[str, str], tensors: dict[str, torch.Tensor] | None = None) -> None:
    save_tensors(load_tensors(path) if tensors is None else tensors, path, metadata)


def test_every_file_of_a_run_holds_the_names_of_the_classes(named: RunFolder) -> None:
    signature = load_model(named.path, "tau", CPU).signature
    assert [record.name for record in signature.classes][:2] == ["r", "Ĳ"]
    files = [named.model, *named.classifiers.glob("*.safetensors")]
    assert len(files) == 6
    assert {signature_in(path).sha256 for path in files} == {signature.sha256}  # type: ignore[union-attr]


def test_shards_and_features_need_not_be_there(named: RunFolder, again: RunFolder) -> None:
    shutil.rmtree(again.features)
    config = again.config_file.read_text()
    again.config_file.write_text(config.replace("shards: ", "shards: /no/such/place"))
    assert load_model(again.path, "crt", CPU).signature == load_model(named.path, "crt", CPU).signature


def test_classes_in_another_order_are_refused(again: RunFolder) -> None:
    path = again.classifiers / "crt.safetensors"
    signature = signature_in(path)
    assert signature is not None
    other = signature.model_copy(update={"classes": signature.classes[::-1]})
    rewrite(path, metadata_of(path) | other.metadata())
    with pytest.raises(DataError, match=r"crt\.safetensors and .*model\.safetensors are not of one model: 12 classes"):
        load_model(again.path, "crt", CPU)
    shutil.rmtree(again.classifiers)  # as the message says
    assert ltrsys("balance", again.path, "--classifiers", "crt", *SHORT) == 0
    assert load_model(again.path, "crt", CPU).classifier.name == "crt"


def test_another_preprocessing_is_refused(again: RunFolder) -> None:
    text = again.config_file.read_text()
    again.config_file.write_text(text.replace("resize: 12", "resize: 13"))
    with pytest.raises(DataError, match="resize is 12 here and 13 there"):
        load_model(again.path, "crt", CPU)
    again.config_file.write_text(text.replace("interpolation: bilinear", "interpolation: bicubic"))
    with pytest.raises(DataError, match="interpolation is bilinear here and bicubic there"):
        load_model(again.path, "crt", CPU)


def test_a_model_that_has_changed_is_refused(again: RunFolder) -> None:
    tensors = load_tensors(again.model)
    tensors["classifier.bias"] += 1
    rewrite(again.model, metadata_of(again.model), tensors)
    with pytest.raises(DataError, match=r"the model has changed since its features were made\. Run `ltrsys balance"):
        load_model(again.path, "crt", CPU)
    shutil.rmtree(again.features)
    with pytest.raises(DataError, match=r"crt was not fitted on features of .* as it is now"):
        load_model(again.path, "crt", CPU)


def test_what_is_not_fitted_or_damaged_is_told(again: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"lws has not been fitted\. Choose from joint, ncm, crt, tau, logit_adjusted"):
        load_model(again.path, "lws", CPU)
    with pytest.raises(UsageError, match=r"Did you mean crt\?"):
        load_model(again.path, "crtt", CPU)
    path = again.classifiers / "crt.safetensors"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DataError, match="not a saved classifier, or a damaged one"):
        load_model(again.path, "crt", CPU)
    shutil.rmtree(again.classifiers)
    with pytest.raises(UsageError, match="no classifier has been fitted"):
        load_model(again.path, None, CPU)
    again.model.unlink()
    with pytest.raises(UsageError, match="training has not finished"):
        load_model(again.path, None, CPU)
    with pytest.raises(UsageError):
        load_model(tmp_path / "nothing", None, CPU)


def test_recalibrated_statistics_are_those_of_the_bank(again: RunFolder, test_files: list[str]) -> None:
    before = load_model(again.path, "crt", CPU).backbone.bn1.running_mean.clone()
    assert ltrsys("balance", again.path, "--classifiers", "crt", *SHORT, "balance.bn=recalibrate") == 0
    model = load_model(again.path, "crt", CPU)
    kept = load_tensors(again.features / "batch_norm.safetensors")
    assert torch.equal(model.backbone.bn1.running_mean, kept["bn1.running_mean"])
    assert not torch.equal(model.backbone.bn1.running_mean, before)


def test_a_run_that_does_not_know_its_classes_says_how_to_teach_it(again: RunFolder) -> None:
    again.dataset.unlink()
    for path in (again.model, again.classifiers / "crt.safetensors"):
        rewrite(path, {key: value for key, value in metadata_of(path).items() if "signature" not in key})
    with pytest.raises(UsageError, match="does not know the names of its classes"):
        load_model(again.path, "crt", CPU)
    shutil.rmtree(again.classifiers)  # as the message says
    assert ltrsys("balance", again.path, "--classifiers", "crt", *SHORT) == 0
    assert len(load_model(again.path, "crt", CPU).signature.classes) == 12
