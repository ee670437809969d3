"""A trained and balanced run behind a real server, on a free port of this machine."""

import asyncio
import io
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from threading import Event, Thread

import httpx
import pytest
from PIL import Image

from ltrsys.prediction.images.collections import Images
from ltrsys.prediction.predictor import Predictor, Scored
from ltrsys.runs.folder import RunFolder
from ltrsys.serving.app import create_app
from ltrsys.serving.guards.headers import LOOPBACK
from ltrsys.serving.guards.limits import Limits
from ltrsys.serving.served import Served
from ltrsys.serving.server import Server, address_of, listen
from ltrsys.serving.service import Service
from tests.prediction.conftest import _one_thread, named, test_files

__all__ = ["_one_thread", "named", "test_files"]

ENOUGH = 60.0
"""Seconds after which a test that waits for an event gives up."""


@dataclass
class Running:
    """A server that answers."""

    url: str
    port: int
    service: Service

    def post(self, content: bytes, **query: object) -> httpx.Response:
        headers = {"Content-Type": "image/jpeg"}
        return httpx.post(f"{self.url}predict", content=content, headers=headers, params=query, timeout=ENOUGH)

    def post_form(self, *contents: tuple[str, bytes], **query: object) -> httpx.Response:
        files = [("files", content) for content in contents]
        return httpx.post(f"{self.url}predict", files=files, params=query, timeout=ENOUGH)

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.url + path, timeout=ENOUGH)


@contextmanager
def running(served: Served, limits: Limits) -> Iterator[Running]:
    """Serve until the end of the block, by uvicorn in a thread."""
    service = Service(served, limits)
    service.start()
    ready = Event()
    with listen("127.0.0.1", 0) as taken:
        server = Server(create_app(service, hosts=LOOPBACK), limits, ready=ready.set)
        thread = Thread(target=lambda: asyncio.run(server.serve([taken])), daemon=True)
        url, port = address_of(taken), taken.getsockname()[1]
        thread.start()
        try:
            assert ready.wait(ENOUGH)
            yield Running(url, port, service)
        finally:
            server.should_exit = True
            thread.join()
            service.close()


@dataclass(frozen=True)
class Gated(Predictor):
    """A predictor that can be held before a batch."""

    gate: Event = field(default_factory=Event)
    entered: Event = field(default_factory=Event)
    """Set when a batch has come to the gate."""
    batches: list[int] = field(default_factory=list)
    """Sizes of the batches that have come."""

    @classmethod
    def of(cls, predictor: Predictor) -> "Gated":
        made = cls(**{one.name: getattr(predictor, one.name) for one in fields(predictor)})
        made.gate.set()
        return made

    def run(self, images: Images, places: range) -> Iterator[Scored]:  # type: ignore[override]
        self.batches.append(len(places))
        self.entered.set()
        assert self.gate.wait(ENOUGH)
        yield from super().run(images, places)

    def hold(self) -> None:
        """Hold the next batch."""
        self.batches.clear()
        self.entered.clear()
        self.gate.clear()


@pytest.fixture(scope="package")
def served(named: RunFolder) -> Served:
    return Served.load(named.path, ["crt", "ncm"], batch_size=16)


@pytest.fixture(scope="package")
def server(served: Served) -> Iterator[Running]:
    """A server with the usual limits; tests leave it as it is."""
    with running(served, Limits()) as one:
        yield one


@pytest.fixture
def limited(served: Served) -> Callable[[Limits], AbstractContextManager[Running]]:
    """Start servers with limits of one's own."""
    return lambda limits: running(served, limits)


@pytest.fixture
def gated(served: Served) -> Gated:
    return Gated.of(served.default)


@pytest.fixture(scope="package")
def photographs(test_files: list[str]) -> list[bytes]:
    """Image files, as bytes."""
    return [Path(path).read_bytes() for path in test_files]


def white_png(side: int) -> bytes:
    """Return a PNG of `side` x `side` white pixels: some kilobytes for gigabytes."""
    buffer = io.BytesIO()
    Image.new("1", (side, side), 1).save(buffer, "PNG")
    return buffer.getvalue()
