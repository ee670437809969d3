"""Whatever a client sends, or does not send, the server keeps to its limits, says so, and goes on answering others."""

import json
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing

import httpx
import pytest

from ltrsys.serving.guards.limits import UPLOADS_IN_MEMORY, Budget, Limits, Refusal
from ltrsys.serving.served import Served
from tests.serving.conftest import ENOUGH, Gated, Running, running, white_png

pytestmark = pytest.mark.long

Limited = Callable[[Limits], AbstractContextManager[Running]]

HEAD = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
CHUNK = b"400\r\n" + b"x" * 1024 + b"\r\n"


def connect(server: Running) -> "closing[socket.socket]":
    return closing(socket.create_connection(("127.0.0.1", server.port), timeout=ENOUGH))


def received(client: socket.socket) -> tuple[int, dict]:
    """Return the status and the JSON of an answer that comes while the body may still be going on."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += _more(client)
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    length = next(int(line.split(":")[1]) for line in lines if line.lower().startswith("content-length"))
    while len(body) < length:
        body += _more(client)
    return int(lines[0].split()[1]), json.loads(body)


def _more(client: socket.socket) -> bytes:
    part = client.recv(65536)
    assert part, "the server has closed the connection without an answer"
    return part


def is_closed(client: socket.socket) -> bool:
    """Wait until the server closes a connection."""
    try:
        while client.recv(65536):
            pass
    except ConnectionResetError:
        pass
    return True


@pytest.fixture
def small(limited: Limited) -> Iterator[Running]:
    limits = Limits(body_bytes=100_000, files=3, pixels=1_000_000, upload_seconds=ENOUGH, header_seconds=ENOUGH)
    with limited(limits) as server:
        yield server


def test_a_body_that_says_it_is_too_large_is_refused_before_it_comes(small: Running) -> None:
    for length in (100_001, 2**30, 10**15):
        with connect(small) as client:
            client.sendall(HEAD + f"Content-Length: {length}\r\n\r\n".encode())
            status, answer = received(client)
        assert status == 413
        assert answer == {"detail": "A request has at most 100,000 bytes. Send fewer images, or smaller ones."}


def test_a_body_is_counted_while_it_comes(small: Running) -> None:
    with connect(small) as client:
        client.sendall(CHUNKED + 98 * CHUNK)
        assert received(client)[0] == 413
    form = b"Content-Type: multipart/form-data; boundary=a"
    with connect(small) as client:
        client.sendall(CHUNKED.replace(b"Content-Type: image/jpeg", form))
        part = b'--a\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n'
        client.sendall(f"{len(part):x}\r\n".encode() + part + b"\r\n" + 98 * CHUNK)
        assert received(client)[0] == 413


def test_a_body_of_just_the_limit_is_taken(small: Running, photographs: list[bytes]) -> None:
    for size, status in ((100_000, 200), (100_001, 413)):
        padded = photographs[0] + bytes(size - len(photographs[0]))
        assert small.post(padded).status_code == status


def test_a_form_has_no_more_files_than_it_may(small: Running, photographs: list[bytes]) -> None:
    files = [(f"{place}.jpg", photograph) for place, photograph in enumerate(photographs)]
    assert small.post_form(*files[:3]).status_code == 200
    answer = small.post_form(*files[:4])
    assert answer.status_code == 400
    assert answer.json()["detail"] == "The form cannot be read: Too many files. Maximum number of files is 3."
    fields = httpx.post(f"{small.url}predict", files=[(f"{n}", (None, "x")) for n in range(99)])
    assert fields.status_code == 400


def test_an_image_of_too_many_pixels_is_refused_by_its_header(small: Running) -> None:
    for side, said in (
        (1001, "1001 x 1001 pixels, more than 1000000"),
        (20_000, "it claims more than 178956970"),
    ):
        bomb = white_png(side)
        assert len(bomb) < 100_000
        answer = small.post(bomb)
        assert answer.status_code == 422
        assert said in answer.json()["detail"]
    assert small.post(white_png(1000)).status_code == 200


def test_with_the_usual_limits_a_decompression_bomb_is_refused(server: Running) -> None:
    answer = server.post(white_png(8001))
    assert answer.status_code == 422
    assert "8001 x 8001 pixels, more than 64000000" in answer.json()["detail"]


def test_an_upload_that_never_ends_is_told_that_it_took_too_long(limited: Limited) -> None:
    with limited(Limits(upload_seconds=0.2)) as server, connect(server) as client:
        client.sendall(CHUNKED + CHUNK)
        status, answer = received(client)
    assert status == 408
    assert answer == {"detail": "The upload took longer than 0.2 seconds."}


def test_uploads_under_way_keep_nobody_waiting(small: Running, photographs: list[bytes]) -> None:
    with connect(small) as first, connect(small) as second:
        first.sendall(CHUNKED + CHUNK)
        second.sendall(HEAD + b"Content-Length: 5000\r\n\r\nx")
        assert small.post(photographs[0]).status_code == 200
        first.sendall(b"0\r\n\r\n")
        assert received(first)[0] == 422


def test_what_is_sent_after_the_answer_ends_with_the_connection(limited: Limited) -> None:
    with limited(Limits(body_bytes=1000, header_seconds=0.2)) as server, connect(server) as client:
        client.sendall(CHUNKED + CHUNK)
        assert received(client)[0] == 413
        assert is_closed(client)


def test_a_request_line_that_never_ends_ends_the_connection(limited: Limited) -> None:
    with limited(Limits(header_seconds=0.2)) as server:
        for begun in (b"", b"POST /pre", HEAD):
            with connect(server) as client:
                client.sendall(begun)
                assert is_closed(client)
        with connect(server) as client:  # the same after an answer
            client.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\nGET /hea")
            assert received(client)[0] == 200
            assert is_closed(client)


def test_where_the_queue_is_full_clients_are_told_when_to_come_again(gated: Gated, photographs: list[bytes]) -> None:
    served = Served({"crt": gated}, {}, None)
    with running(served, Limits(queue=2)) as server, ThreadPoolExecutor() as clients:
        three = [(f"{place}.jpg", photograph) for place, photograph in enumerate(photographs[:3])]
        assert server.post_form(*three).status_code == 503
        gated.hold()
        first = clients.submit(server.post_form, *three[:2])
        assert gated.entered.wait(ENOUGH)
        answer = server.post(photographs[0])
        assert answer.status_code == 503
        assert answer.headers["Retry-After"] == "1"
        assert answer.json() == {"detail": "2 images are waiting already. Try again in a second."}
        assert server.get("health").json()["queue"] == {"images": 2, "limit": 2}
        gated.gate.set()
        assert first.result().status_code == 200
        assert server.post(photographs[0]).status_code == 200


def test_bodies_together_take_no_more_memory_than_they_may(limited: Limited, photographs: list[bytes]) -> None:
    limits = Limits(body_bytes=4096, upload_seconds=ENOUGH)
    with limited(limits) as server:
        clients = [connect(server) for _ in range(UPLOADS_IN_MEMORY + 1)]
        try:
            for client in clients[:-1]:
                client.thing.sendall(HEAD + b"Expect: 100-continue\r\nContent-Length: 4096\r\n\r\n")
                assert b"100 Continue" in client.thing.recv(4096)
                client.thing.sendall(bytes(4095))
            # all that was sent has been counted once the server has answered what was sent after it
            while server.service._memory.used < UPLOADS_IN_MEMORY * 4095:
                assert server.get("health").status_code == 200
            clients[-1].thing.sendall(CHUNKED + CHUNK)
            status, answer = received(clients[-1].thing)
            assert status == 503
            assert answer == {"detail": "Too many uploads are under way. Try again in a second."}
        finally:
            for client in clients:
                client.thing.close()
        while server.service._memory.used:
            assert server.get("health").status_code == 200
        assert server.post(photographs[0]).status_code == 200


def test_an_answer_that_does_not_come_in_time_is_given_up(gated: Gated, photographs: list[bytes]) -> None:
    with running(Served({"crt": gated}, {}, None), Limits(answer_seconds=0.2)) as server:
        gated.hold()
        answers = [server.post(photographs[0]) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [504, 504]
        assert answers[0].json() == {"detail": "There was no answer within 0.2 seconds."}
        assert server.service.queue.used == 0
        gated.gate.set()
        assert server.post(photographs[0]).status_code == 200
        assert gated.batches == [1, 1], "the second has been dropped"


def test_images_of_clients_that_have_gone_are_dropped(gated: Gated, photographs: list[bytes]) -> None:
    with running(Served({"crt": gated}, {}, None), Limits()) as server:
        gated.hold()
        with connect(server) as client:
            body = photographs[0]
            client.sendall(HEAD + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
            assert gated.entered.wait(ENOUGH)
            assert server.service.queue.used == 1
        while server.service.queue.used:
            assert server.get("health").status_code == 200
        gated.gate.set()


def test_connections_too_many_are_told_and_then_ended(limited: Limited) -> None:
    with limited(Limits(connections=4, header_seconds=ENOUGH)) as server:
        clients = [connect(server) for _ in range(10)]
        try:
            for client in clients[8:]:
                assert is_closed(client.thing)
            for client in clients[:8]:
                client.thing.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            answers = [received(client.thing) for client in clients[:8]]
            assert [status for status, _ in answers] == [200] * 4 + [503] * 4
            assert answers[-1][1] == {"detail": "There are too many connections. Try again in a second."}
            for client in clients[4:8]:
                assert is_closed(client.thing)
        finally:
            for client in clients:
                client.thing.close()
        with connect(server) as client:
            client.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert received(client)[0] in (200, 503)  # the server may not have seen yet that the others have gone


def test_what_is_no_http_is_refused(server: Running) -> None:
    for sent in (b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03\r\n\r\n", b"GET\r\n\r\n", b"x" * 100_000):
        with connect(server) as client:
            client.sendall(sent)
            assert b"400" in client.recv(4096).split(b"\r\n")[0]


def test_a_budget_is_given_back_whatever_happens() -> None:
    budget = Budget(10, "nothing is left")
    with budget.share() as share, budget.share() as other:
        share.take(6)
        other.take(4)
        assert budget.is_exhausted
        with pytest.raises(Refusal, match="nothing is left") as refused:
            other.take(1)
    assert refused.value.status == 503
    assert budget.used == 0
