from __future__ import annotations

import io
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest
from PIL import Image


def draw_file(seed: int, size: tuple[int, int] = (90, 128), suffix: str = "jpeg") -> bytes:
    """The bytes of a file of coloured clouds; other seeds give other clouds."""
    clouds = np.random.default_rng(seed).integers(0, 255, (4, 3, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(clouds).resize(size, Image.Resampling.BICUBIC).save(file, suffix)
    return file.getvalue()


NEVER = 3600.0


@dataclass(frozen=True)
class Answer:
    """What the server says to one request."""

    body: bytes = b""
    status: int = 200
    content_type: str | None = "image/jpeg"
    headers: dict[str, str] = field(default_factory=dict)
    length: int | None = -1  # -1 announces the true one, None announces none and ends by closing
    seconds: float = 0.0  # before anything is said; NEVER is not before the test ends
    seconds_a_byte: float = 0.0


class PosterServer(ThreadingHTTPServer):
    """A real server on loopback that gives the answers set for each path in turn; a path's last answer repeats."""

    daemon_threads = True
    request_queue_size = 128  # the default of 5 makes the sixth connection at once wait a second

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: defaultdict[str, list[Answer]] = defaultdict(list)
        self.asked: list[tuple[str, float]] = []  # path, moment
        self.user_agents: set[str] = set()
        self.under_way = self.most_under_way = 0
        self.was_hung_up_on = threading.Event()  # who asked has closed the connection in the middle of an answer
        self.ends = threading.Event()
        self.lock = threading.Lock()

    def tell(self, path: str, body: bytes = b"", **how: Any) -> str:
        """Add an answer to a path's, and return its address; `how` is of `Answer`."""
        self.answers[path].append(Answer(body, **how))
        return self.url(path)

    def redirect(self, path: str, to: str) -> str:
        return self.tell(path, status=302, headers={"Location": to})

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}{path}"

    @property
    def times_asked(self) -> Counter[str]:
        return Counter(path for path, _ in self.asked)

    def next_answer(self, path: str) -> Answer:
        with self.lock:
            self.asked.append((path, time.monotonic()))
            answers = self.answers[path] or [Answer(status=404)]
            return answers.pop(0) if len(answers) > 1 else answers[0]


class _Handler(BaseHTTPRequestHandler):
    server: PosterServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.user_agents.add(self.headers["User-Agent"])
        with self.server.lock:
            self.server.under_way += 1
            self.server.most_under_way = max(self.server.most_under_way, self.server.under_way)
        try:
            self._say(self.server.next_answer(self.path))
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # who asked has heard enough
            self.server.was_hung_up_on.set()
        finally:
            with self.server.lock:
                self.server.under_way -= 1

    def _say(self, answer: Answer) -> None:
        self.server.ends.wait(answer.seconds)
        self.send_response(answer.status)
        headers = {"Content-Type": answer.content_type, **answer.headers}
        if answer.length is not None:
            headers["Content-Length"] = str(len(answer.body) if answer.length == -1 else answer.length)
        for name, value in headers.items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()
        for byte in answer.body if answer.seconds_a_byte else ():
            self.wfile.write(bytes([byte]))
            self.server.ends.wait(answer.seconds_a_byte)
        self.wfile.write(b"" if answer.seconds_a_byte else answer.body)
        self.close_connection = answer.length != -1

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[PosterServer]:
    with PosterServer() as running:
        threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True).start()
        yield running
        running.ends.set()
        running.shutdown()


@pytest.fixture
def draw() -> Callable[..., bytes]:
    return draw_file
