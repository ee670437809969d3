"""A server on this machine that answers wandb as its own does, as far as the tests go, and keeps what it is sent."""

import gzip
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

API_KEY = "local-" + "a" * 40


@dataclass
class StandIn:
    """What has been sent so far."""

    url: str = ""
    operations: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    """Names and variables of the requests to its GraphQL interface, in their order."""
    history: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """The lines of each run."""
    summary: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The last summary of each run."""
    config: dict[str, str] = field(default_factory=dict)
    """The last config of each run, as JSON."""
    exit_codes: dict[str, int] = field(default_factory=dict)
    views: list[dict[str, Any]] = field(default_factory=list)
    """Workspaces that were made."""
    sweep: dict[str, Any] = field(default_factory=dict)
    """The last sweep that was made."""
    arguments: dict[str, Any] = field(default_factory=dict)
    """What the next run of the sweep is to be called with."""
    viewer: str | None = "somebody"
    """Whose key it takes all keys for; None for nobody's."""
    refused: dict[str, str] = field(default_factory=dict)
    """What it answers to requests that it refuses, by their names."""

    def environment(self, home: Path) -> dict[str, str]:
        """Return what makes wandb talk to this server, with no settings of whoever runs the tests."""
        return {"WANDB_BASE_URL": self.url, "WANDB_API_KEY": API_KEY, "HOME": str(home), "NETRC": str(home / "netrc")}

    def called(self, name: str) -> list[dict[str, Any]]:
        return [variables for operation, variables in self.operations if operation == name]

    def answer(self, name: str, variables: dict[str, Any]) -> dict[str, Any]:
        """Answer a request to the GraphQL interface."""
        self.operations.append((name, variables))
        if name == "UpsertBucket":
            run = variables["name"]
            self.config[run] = variables["config"] or self.config.get(run, "{}")
            project = {"id": "p", "name": variables["project"], "entity": {"id": "e", "name": "somebody"}}
            bucket = {
                "id": run, "name": run, "displayName": variables["displayName"], "sweepName": variables["sweep"],
                "description": None, "config": self.config[run], "project": project,
                "historyLineCount": len(self.history.get(run, [])),
            }  # fmt: skip
            return {"upsertBucket": {"bucket": bucket, "inserted": True}}
        if name == "RunResumeStatus":
            return {
                "model": {"id": "p", "name": "p", "entity": {"id": "e", "name": "e"}, "bucket": self._bucket(variables)}
            }
        if name == "CreateArtifact":
            artifact = {"id": "a", "state": "COMMITTED", "artifactSequence": {"latestArtifact": {"id": "a"}}}
            return {"createArtifact": {"artifact": artifact}}
        if name == "UpsertView2":
            self.views.append(variables)
            return {"upsertView": {"view": {"id": "v", "name": variables["name"]}, "inserted": True}}
        if name == "UpsertSweep":
            self.sweep = variables
            project = {"id": "p", "name": variables["projectName"], "entity": {"id": "e", "name": "somebody"}}
            return {"upsertSweep": {"sweep": {"name": "sw33p000", "project": project}, "configValidationWarnings": []}}
        if name == "SweepWithRuns":
            return {
                "project": {
                    "sweep": {"id": "s", "name": "sw33p000", "config": self.sweep["config"], "runs": {"edges": []}}
                }
            }
        if name == "CreateAgent":
            return {"createAgent": {"agent": {"id": "agent"}}}
        if name == "Heartbeat":
            return {"agentHeartbeat": {"agent": {"id": "agent"}, "commands": json.dumps(self._commands())}}
        if name in ("GetDefaultEntity", "GetViewer", "Viewer"):
            who = self.viewer and {
                "id": "u", "name": self.viewer, "username": self.viewer, "entity": self.viewer, "email": "",
                "flags": "{}", "admin": False, "teams": {"edges": []}, "apiKeys": {"edges": []}, "deletedAt": None,
            }  # fmt: skip
            return {"viewer": who}
        if name == "ArtifactType":
            return {"project": None}
        if name == "ServerFeaturesQuery":
            return {"serverInfo": {"features": []}}
        if name == "CreateRunFiles":
            return {"createRunFiles": {"runID": "r", "uploadHeaders": [], "files": []}}
        return {}

    def _bucket(self, variables: dict[str, Any]) -> dict[str, Any] | None:
        run = variables["name"]
        if run not in self.config:
            return None
        lines = self.history.get(run, [])
        return {
            "id": run, "name": run, "summaryMetrics": json.dumps(self.summary.get(run, {})), "displayName": run,
            "logLineCount": 0, "historyLineCount": len(lines), "eventsLineCount": 0, "eventsTail": "[]", "tags": [],
            "historyTail": json.dumps([json.dumps(line) for line in lines[-1:]]), "config": self.config[run],
            "wandbConfig": '{"t": 1}', "notes": None,
        }  # fmt: skip

    def _commands(self) -> list[dict[str, Any]]:
        if not self.arguments:
            return []
        arguments, self.arguments = self.arguments, {}
        values = {key: {"value": value} for key, value in arguments.items()}
        return [{"id": "c", "type": "run", "run_id": "r0n00000", "program": "launchers/train.py", "args": values}]

    def stream(self, run: str, body: dict[str, Any]) -> None:
        """Take in a part of a run's files: lines of its history, and its summary as a whole."""
        files = body.get("files") or {}
        if "wandb-history.jsonl" in files:
            part, lines = files["wandb-history.jsonl"], self.history.setdefault(run, [])
            lines[part["offset"] :] = [json.loads(line) for line in part["content"]]
        if "wandb-summary.json" in files:
            self.summary[run] = json.loads(files["wandb-summary.json"]["content"][0])
        if body.get("exitcode") is not None:
            self.exit_codes[run] = body["exitcode"]


@contextmanager
def stand_in_server() -> Iterator[StandIn]:
    """Serve on a free port of the loopback meanwhile."""
    state, lock = StandIn(), threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments: object) -> None:
            pass

        def handle_request(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            answer: dict[str, Any] = {}
            with lock:
                if self.path == "/graphql":
                    request = json.loads(body)
                    found = re.search(r"(?:query|mutation)\s+(\w+)", request["query"])
                    name = found[1] if found else ""
                    if name in state.refused:
                        answer = {"errors": [{"message": state.refused[name]}]}
                    else:
                        answer = {"data": state.answer(name, request.get("variables") or {})}
                elif match := re.fullmatch(r"/files/.*?([^/]+)/file_stream", self.path):
                    state.stream(match[1], json.loads(body))
            text = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = do_PUT = handle_request  # named by http.server

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
