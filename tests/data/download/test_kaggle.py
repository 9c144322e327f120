"""Against a real server on loopback that speaks as much of Kaggle's protocol as kagglehub needs.

kagglehub finds it through KAGGLE_API_ENVIRONMENT=TEST, which means port 7777 of localhost.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

CSV = b"anime_id,Name,Genres,Image URL\n1,Cowboy Bebop,Action,https://example.org/1.jpg\n" * 30_000
PORT = 7777
# For TEST its client prints every answer, and so reads all of a file before it gives the first byte away.
DOWNLOAD = """
import sys
from kagglesdk.kaggle_http_client import KaggleHttpClient
from hpo.data.download.kaggle import download_catalogue
KaggleHttpClient._print_response = lambda *_, **__: None
print(download_catalogue(float(sys.argv[1])))
"""


class Kaggle(ThreadingHTTPServer):
    allow_reuse_address = True
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("localhost", PORT), _Handler)
        self.status = 200
        self.seconds = 0.0  # before an answer
        self.seconds_a_part = 0.0  # of ten
        self.asked: list[str] = []


class _Handler(BaseHTTPRequestHandler):
    server: Kaggle

    def do_POST(self) -> None:
        call = self.path.rpartition("/")[2]
        self.server.asked.append(call)
        self.rfile.read(int(self.headers.get("Content-Length", 0)))  # unread, it would turn the close into a reset
        time.sleep(self.server.seconds)
        is_file = call == "DownloadDataset" and self.server.status == 200
        body = CSV if is_file else b'{"currentVersionNumber": 3}'
        self.send_response(self.server.status)
        self.send_header("Content-Type", "text/csv" if is_file else "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        for start in range(0, len(body), len(body) // 10):
            self.wfile.write(body[start : start + len(body) // 10])
            time.sleep(self.server.seconds_a_part if is_file else 0)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def kaggle() -> Iterator[Kaggle]:
    try:
        server = Kaggle()
    except OSError:
        pytest.skip(f"port {PORT} is taken, and kagglehub knows no other for tests")
    with server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.shutdown()


def download(cache: Path, reached_seconds: float = 10, **environment: str) -> subprocess.CompletedProcess[str]:
    kagglehub = {"KAGGLEHUB_CACHE": str(cache), "KAGGLE_CONFIG_DIR": str(cache), "HOME": str(cache)}
    return subprocess.run(
        [sys.executable, "-c", DOWNLOAD, str(reached_seconds)],
        env={**os.environ, "KAGGLE_API_ENVIRONMENT": "TEST", **kagglehub, **environment},
        capture_output=True,
        text=True,
    )


def test_the_catalogue_is_downloaded_once_and_named_on_stdout_alone(kaggle, tmp_path):
    for n_downloads in (1, 1):
        done = download(tmp_path)
        assert done.returncode == 0, done.stderr
        path = Path(done.stdout.removesuffix("\n"))
        assert path.name == "anime-dataset-2023.csv"
        assert path.is_relative_to(tmp_path)
        assert path.read_bytes() == CSV
        assert kaggle.asked.count("DownloadDataset") == n_downloads


@pytest.mark.parametrize("status", [401, 403, 404, 500])
def test_a_refusal_is_one_sentence(kaggle, tmp_path, status):
    kaggle.status = status
    told = download(tmp_path).stderr.splitlines()[-1]
    assert told.startswith("hpo.errors.DataError: anime-dataset-2023.csv of the Kaggle data set dbdmobile/")
    assert f"{status} " in told
    assert told.endswith("download the file by hand and name it with --csv")


def test_a_server_that_says_nothing_is_left(kaggle, tmp_path):
    kaggle.seconds = 30
    assert "nothing came for 0.5 s" in download(tmp_path, reached_seconds=0.5).stderr
    assert kaggle.asked  # it was there


def test_a_slow_line_is_waited_for(kaggle, tmp_path):
    """The answer begins within the limit, though all of it does not come within it."""
    kaggle.seconds_a_part = 0.7  # seven seconds in all
    done = download(tmp_path, reached_seconds=6)
    assert done.returncode == 0, done.stderr


def test_without_a_network_the_sentence_comes_at_once(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        proxy = f"http://127.0.0.1:{closed.getsockname()[1]}"
    done = download(tmp_path, KAGGLE_API_ENVIRONMENT="PROD", https_proxy=proxy, HTTPS_PROXY=proxy)
    assert "cannot be had" in done.stderr.splitlines()[-1]
