"""A server of images on loopback that answers what it is told to."""

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Answer:
    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=lambda: {"Content-Type": "image/jpeg"})
    length: int | None = None
    """What `Content-Length` says, if not the truth; the connection is closed after the body."""
    endless: bool = False
    """Whether the body comes again and again, without a length."""
    chunks: int = 0
    """In how many chunks the body comes, without a length; the last one, which is empty, is sent where `whole`."""
    whole: bool = True


class ImageServer(ThreadingHTTPServer):
    """Gives each path its answers one after another, the last one for ever; 404 for a path without any."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: dict[str, deque[Answer]] = {}
        self.requests: Counter[str] = Counter()
        self.user_agents: set[str] = set()
        self.during: Callable[[], object] = lambda: None
        """Called while a request is being answered."""
        self.lock = threading.Lock()
        self.at_once = self.most_at_once = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def give(self, path: str, *answers: Answer) -> str:
        self.answers[path] = deque(answers)
        return self.url + path

    def handle_error(self, request, client_address):
        """Clients that leave are part of the game."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ImageServer

    def do_GET(self) -> None:
        server = self.server
        with server.lock:
            server.requests[self.path] += 1
            server.user_agents.add(self.headers["User-Agent"])
            server.at_once += 1
            server.most_at_once = max(server.most_at_once, server.at_once)
            answers = server.answers.get(self.path, deque([Answer(b"no such image", 404)]))
            answer = answers.popleft() if len(answers) > 1 else answers[0]
        try:
            server.during()
        finally:
            with server.lock:
                server.at_once -= 1
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if answer.endless:
            self.close_connection = True
            self.end_headers()
            while True:  # until the client leaves
                self.wfile.write(answer.body)
        if answer.chunks:
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            size = -(-len(answer.body) // answer.chunks)
            for first in range(0, len(answer.body), size):
                chunk = answer.body[first : first + size]
                self.wfile.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            self.wfile.write(b"0\r\n\r\n" if answer.whole else b"")
            self.close_connection = not answer.whole
            return
        if answer.length is not None:
            self.close_connection = True
        self.send_header("Content-Length", str(len(answer.body) if answer.length is None else answer.length))
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, format, *args):
        pass


@contextmanager
def image_server() -> Iterator[ImageServer]:
    with ImageServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
