"""`ltrsys serve` as a process: how it begins, what it refuses, and how it ends."""

import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest

from ltrsys.runs.folder import RunFolder
from tests.cli.training.test_balance import ltrsys
from tests.prediction.conftest import _one_thread, named, test_files

__all__ = ["_one_thread", "named", "test_files"]

pytestmark = pytest.mark.long

ENOUGH = 60


@contextmanager
def process(*arguments: object) -> Iterator[tuple[subprocess.Popen[str], str, str]]:
    """Start `ltrsys serve` on any port; yield the process, its URL, and what it said before it was ready."""
    command = [sys.executable, "-c", "from ltrsys.cli.main import main; main()", "serve", *map(str, arguments)]
    started = subprocess.Popen([*command, "--port", "0"], stderr=subprocess.PIPE, text=True)
    try:
        assert started.stderr is not None
        said = ""
        for line in started.stderr:
            said += line
            if found := re.match(r"(http://\S+) is ready; Ctrl-C ends it\.$", line):
                yield started, found[1], said
                return
        raise AssertionError(said)
    finally:
        started.kill()
        started.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_what_is_in_work_end_and_is_a_good_end(
    named: RunFolder, test_files: list[str], number: signal.Signals
) -> None:
    photograph = Path(test_files[0]).read_bytes()
    with process(named.path, "--classifier", "ncm", "--allowed-host", "birds.example") as (started, url, said):
        assert said.startswith(f"{named.path}: ncm, 12 classes.\n")
        for name, status in (("birds.example", 200), ("localhost", 200), ("other.example", 421)):
            assert httpx.get(f"{url}health", headers={"Host": name}).status_code == status
        port = int(url.rstrip("/").rpartition(":")[2])
        idle = socket.create_connection(("127.0.0.1", port), ENOUGH)
        with closing(idle), closing(socket.create_connection(("127.0.0.1", port), ENOUGH)) as client:
            head = f"Host: localhost\r\nContent-Length: {len(photograph)}\r\nExpect: 100-continue\r\n\r\n"
            client.sendall(f"POST /predict HTTP/1.1\r\n{head}".encode())
            assert b"100 Continue" in client.recv(4096)
            started.send_signal(number)
            assert idle.recv(1) == b"", "the server has begun to end"
            client.sendall(photograph)
            assert client.recv(65536).startswith(b"HTTP/1.1 200 OK")
            while client.recv(65536):
                pass
        assert started.wait(ENOUGH) == 0
        assert started.stderr is not None
        assert started.stderr.read() == ""


def test_on_all_addresses_it_warns_and_answers_to_any_name(named: RunFolder) -> None:
    with process(named.path, "--host", "0.0.0.0", "--access-log") as (started, url, said):
        assert "--host 0.0.0.0: whoever reaches this address can use the server" in said
        assert "there is no password" in said
        answer = httpx.get(url.replace("0.0.0.0", "127.0.0.1") + "health", headers={"Host": "any.example"})
        assert answer.status_code == 200
        assert started.stderr is not None
        assert '"GET /health HTTP/1.1" 200' in started.stderr.readline()


def test_a_port_that_is_taken_is_told_in_one_line(named: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        port = other.getsockname()[1]
        assert ltrsys("serve", named.path, "--port", port) == 2
    assert capsys.readouterr().err == (
        f"ltrsys: --host 127.0.0.1 --port {port}: no server can be started there (Address already in use). Give "
        "another port, or --port 0 for any that is free.\n"
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--host", "nowhere.invalid"], "--host nowhere.invalid --port 8000: no server can be started there ("),
        (["--classifier", "../crt", "--port", "0"], "`../crt`: unknown classifier. Did you mean crt?"),
        (["--classifier", "lws", "--port", "0"], "lws has not been fitted. Choose from joint, ncm"),
        (["--connections", "100000000"], "--connections 100000000: a process may have"),
        (["--port", "65536"], "Invalid value for '--port'"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(
    named: RunFolder, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ltrsys("serve", named.path, *arguments) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


def test_what_is_no_run_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ltrsys("serve", tmp_path, "--port", 0) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("name", ["fastapi", "uvicorn", "python_multipart"])
def test_a_missing_package_is_told_with_what_installs_it(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    assert ltrsys("serve", tmp_path) == 2
    said = f"ltrsys: ltrsys serve needs `{name}`, which is missing here: pip install 'ltrsys[serve]'.\n"
    assert capsys.readouterr().err == said
