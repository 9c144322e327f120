"""A hub on this machine: it answers for files as the Hugging Face hub does, and counts what it is asked."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

Answer = tuple[int, Mapping[str, str]]  # a status and headers

# Refusals as huggingface_hub distinguishes them: by the header X-Error-Code.
MISSING: Answer = (401, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Invalid username or password."})
MISSING_WITH_TOKEN: Answer = (404, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"})
GATED: Answer = (401, {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access to the model is restricted."})
GATED_WITH_TOKEN: Answer = (403, {"X-Error-Code": "GatedRepo", "X-Error-Message": "Ask for access."})
NO_FILE: Answer = (404, {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found"})
NO_REVISION: Answer = (404, {"X-Error-Code": "RevisionNotFound", "X-Error-Message": "Invalid rev id: v2"})


@dataclass
class Hub:
    """What the server has, and what it was asked."""

    port: int
    repositories: dict[str, Path] = field(default_factory=dict)  # owner/name → a folder of files
    refusals: dict[str, Answer] = field(default_factory=dict)  # owner/name → what it says instead
    asked: list[tuple[str, str, str]] = field(default_factory=list)  # method, path, token

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def find(self, path: str) -> Path | Answer:
        """Return the file of a path /owner/name/resolve/revision/file, or what is said instead."""
        owner, name, _, revision, file = path.strip("/").split("/", 4)
        repository = f"{owner}/{name}"
        if repository in self.refusals:
            return self.refusals[repository]
        if repository not in self.repositories:
            return MISSING
        if revision != "main":
            return NO_REVISION
        found = self.repositories[repository] / file
        return found if found.is_file() else NO_FILE


@contextmanager
def running_hub() -> Iterator[Hub]:
    """Serve on a free port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer()

        def do_GET(self) -> None:
            body = self._answer()
            self.wfile.write(body)

        def _answer(self) -> bytes:
            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
            hub.asked.append((self.command, self.path, token))
            found = hub.find(self.path)
            body = found.read_bytes() if isinstance(found, Path) else b""
            status, headers = (200, {}) if isinstance(found, Path) else found
            self.send_response(status)
            identity = {"ETag": f'"{hashlib.sha256(body).hexdigest()}"', "X-Repo-Commit": "0" * 40}
            for key, value in {**identity, **headers, "Content-Length": str(len(body))}.items():
                self.send_header(key, value)
            self.end_headers()
            return body

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        hub = Hub(server.server_port)
        serving = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        serving.start()
        try:
            yield hub
        finally:
            server.shutdown()
