"""Programs that torch alone loads."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ltrsys.export.formats.torch_program import PROGRAM, TENSORS, TorchExporter
from ltrsys.models.signature import KEY, signature_in
from ltrsys.models.stored.weights import load_tensors
from tests.classifiers.conftest import LongTail
from tests.export.models import check, images, loaded, subject_of
from tests.second_stage.test_store import make

pytestmark = pytest.mark.long


@pytest.mark.parametrize("name", ["joint", "ncm", "tau", "cosine", "mlp", "crt_memory", "fslwf"])
def test_a_classifier_gives_the_probabilities_of_the_run(name: str, long_tail: LongTail, tmp_path: Path) -> None:
    check(TorchExporter, subject_of(loaded(make(name, long_tail), tmp_path), temperature=1.5), tmp_path)


def test_both_files_say_what_they_are_of(long_tail: LongTail, tmp_path: Path) -> None:
    model = loaded(make("crt", long_tail), tmp_path)
    subject = subject_of(model)
    TorchExporter.write(subject, tmp_path)
    assert signature_in(tmp_path / TENSORS) == model.signature
    extra = {KEY: ""}
    torch.export.load(tmp_path / PROGRAM, extra_files=extra)
    assert extra[KEY] == model.signature.model_dump_json()
    tensors = load_tensors(tmp_path / TENSORS)
    assert torch.equal(tensors["classifier.weight"], model.classifier.tensors()["weight"])
    assert tensors.keys() == subject.folded.state_dict().keys()


def test_a_program_needs_torch_alone(long_tail: LongTail, tmp_path: Path) -> None:
    TorchExporter.write(subject_of(loaded(make("crt_memory", long_tail), tmp_path)), tmp_path)
    torch.save(images(3), tmp_path / "images.pt")
    code = (
        "import sys, torch\n"
        "sys.modules['ltrsys'] = None\n"
        "images = torch.load('images.pt', weights_only=True)\n"
        "torch.save(torch.export.load('model.pt2').module()(images)[1], 'probabilities.pt')\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, timeout=300)
    found = torch.load(tmp_path / "probabilities.pt", weights_only=True)
    torch.testing.assert_close(found, TorchExporter.open(tmp_path)(images(3)), rtol=0, atol=1e-6)
