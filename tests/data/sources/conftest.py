"""What the tests of sources share."""

from collections.abc import Iterator

import pytest

from ltrsys.data.sources.fetching import http_client, politeness
from tests.data.sources.image_server import ImageServer, image_server


@pytest.fixture
def images_online() -> Iterator[ImageServer]:
    with image_server() as server:
        yield server


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that a fetch would have waited; it does not, and knows no server from other tests."""
    seconds: list[float] = []
    monkeypatch.setattr(http_client, "wait", seconds.append)
    monkeypatch.setattr(politeness, "wait", seconds.append)
    monkeypatch.setattr(http_client, "_answered", set())
    monkeypatch.setattr(http_client, "_unanswered", {})
    return seconds
