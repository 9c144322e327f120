"""Posters as they are named to hpo predict; hostile servers among them."""

from __future__ import annotations

import io
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from PIL import Image

from hpo.data import sources
from hpo.data.decoding import Missing
from hpo.data.sources import named_posters


def content(kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (20, 30), "teal").save(file, kind)
    return file.getvalue()


@contextmanager
def server(speak: Callable[[socket.socket], None]) -> Iterator[str]:
    """Answer each connection with what `speak` sends, and yield the address of a poster there."""
    listener = socket.create_server(("127.0.0.1", 0))

    def answer(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.recv(65536)
            speak(connection)

    def serve() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/a.png"
    finally:
        listener.close()


def why_missing(address: str) -> str:
    [named] = named_posters([address], allow_urls=True)
    assert isinstance(named.source, Missing), named
    return named.source.reason


def test_f14_a_folder_holds_the_kinds_of_images_that_a_search_sees(tmp_path: Path):
    names = ["a.jfif", "b.JPE", "c.avif", "d.bmp", "e.tif", "sub/f", "g.2004", "h.webp"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content())
    for name in ("notes.txt", "README", "._a.jpg", "x.heic"):
        (tmp_path / name).write_bytes(b"not an image")
    assert [str(Path(named.name).relative_to(tmp_path)) for named in named_posters([str(tmp_path)])] == sorted(names)


ODD = [
    "http://", "https://", "http://[", "http://[::1", "http://]", "http://:80/a", "http://host:99999/a.jpg",
    "http://host:port/a", "http://ho st/a.jpg", "http://a..b/x.jpg", f"http://{'a' * 300}.invalid/x.jpg",
    "http://\u2024\u2024/x", "http://xn--a/x", "http://%00/x", "http://127.0.0.1\\@h/x", "HTTP://127.0.0.1:1/a.jpg",
    "http://127.0.0.1:1/\ud800.jpg", "http://127.0.0.1:1/a\nb\r.jpg", "http://u:p@127.0.0.1:1/", "http://0:1/",
    "http://127.0.0.1:1/" + "a" * 100_000, "http://nosuch.invalid/a.jpg", "http://-/a", "http://\u0130/a",
]  # fmt: skip


@pytest.mark.parametrize("address", ODD, ids=range(len(ODD)))
def test_a20_an_odd_address_is_a_poster_that_is_missing(address: str):
    assert why_missing(address).startswith("not to be had (")


def test_a20_a_poster_is_had_however_small_or_plain():
    body = content()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with server(lambda connection: connection.sendall(head + body)) as address:
        [named] = named_posters([address], allow_urls=True)
    assert named.source == body


def test_a20_an_endless_answer_is_left_when_it_is_too_large():
    def flood(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n\r\n")
        while True:
            connection.sendall(bytes(2**20))

    with server(flood) as address:
        assert "too large" in why_missing(address)


def drip(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: 1000\r\n\r\n")
    while not pause.wait(0.05):
        connection.sendall(b"x")


def continue_for_ever(connection: socket.socket) -> None:
    while True:
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)


def slow_headers(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    while not pause.wait(0.05):
        connection.sendall(b"X: y\r\n")


def silence(_: socket.socket) -> None:
    pause.wait()


def redirects(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 302 Found\r\nLocation: /again\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


pause = threading.Event()  # never set: its waits last as long as the test's process


@pytest.mark.parametrize("speak", [drip, continue_for_ever, slow_headers, silence, redirects])
def test_a20_a_server_that_never_ends_is_left(speak: Callable[[socket.socket], None], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sources, "_SECONDS", 0.4)
    with server(speak) as address:
        assert why_missing(address).startswith("not to be had (")


@pytest.mark.parametrize(
    "answer",
    [b"", b"\x00\xff" * 50, b"HTTP/9.9 abc\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
     b"HTTP/1.1 302 Found\r\nLocation: http://[\r\n\r\n", b"HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\n\r\n",
     b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\nx", b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 100_000 + b"\r\n"],
    ids=range(8),
)  # fmt: skip
def test_a20_an_answer_that_is_none_is_one_reason(answer: bytes):
    with server(lambda connection: connection.sendall(answer)) as address:
        assert why_missing(address).startswith("not to be had (")
