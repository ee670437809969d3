"""A server of files on loopback that misbehaves on purpose: of http, and as far as reading goes of S3."""

import threading
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

FAULTS = ("slow", "cut", "error 500", "silent", "wrong bytes", "no ranges", "hang up")


class MisbehavingServer(ThreadingHTTPServer):
    """Serves `folder`; takes one of `faults` for each request of a file whose name ends in `concerning`."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.concerning = ".tar"
        self.faults: deque[str | None] = deque()
        self.always: str | None = None
        self.requests: Counter[str] = Counter()
        self.lock = threading.Lock()
        self.end = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def fault(self, path: str) -> str | None:
        with self.lock:
            self.requests[path] += 1
            if not path.endswith(self.concerning):
                return None
            return self.faults.popleft() if self.faults else self.always

    def handle_error(self, request, client_address):
        """Clients that leave are part of the game."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: MisbehavingServer

    def do_HEAD(self) -> None:
        file = self.server.folder / self.path.lstrip("/")
        self._head(200 if file.is_file() else 404, file.stat().st_size if file.is_file() else 0)

    def do_GET(self) -> None:
        fault = self.server.fault(self.path)
        file = self.server.folder / self.path.lstrip("/")
        if fault == "silent":
            self.server.end.wait(30)
            self.close_connection = True
        elif fault == "hang up":
            self.close_connection = True
        elif fault == "error 500":
            self._answer(500, b"something broke")
        elif not file.is_file():
            self._answer(404, b"no such file")
        else:
            self._send(file.read_bytes(), fault)

    def _send(self, content: bytes, fault: str | None) -> None:
        asked = self.headers.get("Range")
        if fault == "wrong bytes":
            content = content[:700] + bytes([content[700] ^ 1]) + content[701:]
        status = 200
        if asked and fault != "no ranges":
            first, last = asked.removeprefix("bytes=").split("-")
            content, status = content[int(first) : int(last) + 1], 206
        if fault == "cut":
            self._answer(status, content[: len(content) // 2], length=len(content))
            self.close_connection = True
        elif fault == "slow":
            self._head(status, len(content))
            for begin in range(0, len(content), -(-len(content) // 20)):
                self.server.end.wait(0.005)
                self.wfile.write(content[begin : begin + -(-len(content) // 20)])
        else:
            self._answer(status, content)

    def _answer(self, status: int, content: bytes, length: int | None = None) -> None:
        self._head(status, len(content) if length is None else length)
        self.wfile.write(content)

    def _head(self, status: int, length: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@contextmanager
def serving(folder: Path) -> Iterator[MisbehavingServer]:
    """Serve a folder while the block runs."""
    server = MisbehavingServer(folder)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.end.set()
        server.shutdown()
        server.server_close()
        thread.join()
