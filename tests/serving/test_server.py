"""How the server takes its port and its files."""

import resource
import socket
from collections.abc import Iterator

import pytest

from ltrsys.errors import UsageError
from ltrsys.serving.guards.connections import LimitedConnection
from ltrsys.serving.guards.limits import Limits
from ltrsys.serving.server import address_of, listen, make_room_for
from tests.serving.conftest import Running


@pytest.mark.long
def test_answers_do_not_wait_for_acknowledgements(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    made = LimitedConnection.connection_made

    def look(self: LimitedConnection, transport) -> None:
        found.append(transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        made(self, transport)

    monkeypatch.setattr(LimitedConnection, "connection_made", look)
    assert server.get("health").status_code == 200
    assert found == [1]


@pytest.mark.parametrize(("host", "url"), [("127.0.0.1", "http://127.0.0.1:{}/"), ("::1", "http://[::1]:{}/")])
def test_an_address_is_told_as_a_url(host: str, url: str) -> None:
    with listen(host, 0) as taken:
        assert address_of(taken) == url.format(taken.getsockname()[1])


@pytest.fixture
def open_files() -> Iterator[tuple[int, int]]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield before
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_as_many_files_may_be_open_as_connections_take(open_files: tuple[int, int]) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, open_files[1]))
    make_room_for(Limits(connections=500))
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 1384
    make_room_for(Limits(connections=10))
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 1384


def test_where_they_may_not_the_most_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 4096))
    with pytest.raises(UsageError, match=r"4096 open files here \(ulimit -Hn\), and that takes 20384. .* at most 1856"):
        make_room_for(Limits(connections=10_000))
