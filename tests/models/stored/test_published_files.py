"""Fetching weights: from a hub and from an address, both on loopback, and what is said where there is none."""

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch

from ltrsys.errors import UsageError
from ltrsys.models.backbones.libraries.base import Published
from ltrsys.models.backbones.libraries.torchvision import Torchvision
from ltrsys.models.config import ModelConfig
from ltrsys.models.stored.published_files import find_weights

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {
    "/owner/safe/resolve/main/model.safetensors": b"safe",
    "/owner/old/resolve/main/pytorch_model.bin": b"old",
    "/weights/resnet18-0123abcd.pth": b"torch",
}


class _Handler(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        body = FILES.get(self.path)
        known = self.path.split("/")[1:3] in (["owner", "safe"], ["owner", "old"], ["owner", "empty"])
        self.send_response(200 if body is not None else 404)
        if body is None:
            self.send_header("X-Error-Code", "EntryNotFound" if known else "RepoNotFound")
            body = b""
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    address = f"http://127.0.0.1:{server.server_address[1]}"
    _use(address, tmp_path, monkeypatch)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield address
    server.shutdown()
    thread.join()
    server.server_close()


def _use(address: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have huggingface_hub, which reads its settings as it is imported, and torch ask that address and keep files."""
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(folder / "hub"))
    monkeypatch.setattr(torch.hub, "_hub_dir", str(folder / "torch"))


def found(pretrained: bool | str, backbone: str = "resnet18") -> tuple[bytes, str]:
    file = find_weights(ModelConfig(backbone=backbone, pretrained=pretrained))
    return file.path.read_bytes(), file.origin


def refusal(pretrained: bool | str, backbone: str = "resnet18") -> str:
    with pytest.raises(UsageError) as refused:
        found(pretrained, backbone)
    return str(refused.value)


def test_a_repository_of_the_hub_is_fetched_and_its_commit_told(hub):
    assert found("hf-hub:owner/safe") == (b"safe", f"hf-hub:owner/safe@{COMMIT}/model.safetensors")
    assert found("hf-hub:owner/old") == (b"old", f"hf-hub:owner/old@{COMMIT}/pytorch_model.bin")


def test_a_repository_that_is_not_there_and_one_without_weights_are_told(hub):
    assert "the hub has no such repository, or keeps it from you" in refusal("hf-hub:owner/none")
    assert "the repository has none of model.safetensors, " in refusal("hf-hub:owner/empty")


def test_published_weights_are_fetched_once(hub, monkeypatch):
    published = Published(url=f"{hub}/weights/resnet18-0123abcd.pth")
    monkeypatch.setattr(Torchvision, "published", classmethod(lambda cls, name: published))
    assert found(True) == (b"torch", published.url)
    monkeypatch.delitem(FILES, "/weights/resnet18-0123abcd.pth")
    assert found(True) == (b"torch", published.url)


def test_a_hub_that_cannot_be_reached_says_what_to_fetch_and_that_file_is_taken(tmp_path, monkeypatch):
    _use("http://127.0.0.1:9", tmp_path, monkeypatch)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)  # or it tries again for a minute
    message = refusal("hf-hub:owner/safe")
    assert "127.0.0.1:9 cannot be reached" in message
    assert "fetch http://127.0.0.1:9/owner/safe/resolve/main/model.safetensors" in message
    assert message.endswith("copy it here, and give model.pretrained=its path.")
    (tmp_path / "model.safetensors").write_bytes(b"by hand")
    assert found(str(tmp_path / "model.safetensors"))[0] == b"by hand"


def test_an_address_that_cannot_be_reached_says_what_to_fetch(tmp_path, monkeypatch):
    _use("http://127.0.0.1:9", tmp_path, monkeypatch)
    published = Published(url="http://127.0.0.1:9/resnet18.pth")
    monkeypatch.setattr(Torchvision, "published", classmethod(lambda cls, name: published))
    assert "fetch http://127.0.0.1:9/resnet18.pth, copy it here" in refusal(True)


@pytest.mark.parametrize(
    ("pretrained", "backbone", "words"),
    [
        (True, "resnet10", "no weights are published for model.backbone=resnet10"),
        ("nowhere.pth", "resnet18", "nowhere.pth: there is no such file"),
    ],
)
def test_weights_that_are_not_there_are_told(pretrained, backbone, words):
    assert words in refusal(pretrained, backbone)
