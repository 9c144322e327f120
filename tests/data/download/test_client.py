from __future__ import annotations

import asyncio
import datetime
import io
import os
import socket
import ssl
import struct
import subprocess
import sys
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from email.utils import format_datetime
from itertools import pairwise
from pathlib import Path

import pytest
from PIL import Image

from hpo.data.download.client import DownloadedPoster, Downloader, Failed, FetchOptions, Reason
from tests.data.download.conftest import NEVER

QUICK = FetchOptions(per_second=0, first_backoff=0.01, timeout=120, max_bytes=50_000, allow_private=True)


def get(*addresses: str, options: FetchOptions = QUICK) -> list[DownloadedPoster | Failed]:
    async def get_all() -> list[DownloadedPoster | Failed]:
        with ThreadPoolExecutor(2) as pool:
            async with Downloader(options, pool) as downloader:
                return await asyncio.gather(*map(downloader.get, addresses), return_exceptions=True)

    return asyncio.run(get_all())


def why_not(address: str, options: FetchOptions = QUICK) -> Reason:
    [failed] = get(address, options=options)
    assert isinstance(failed, Failed), failed
    return failed.reason


def file_of(image: Image.Image, suffix: str = "png") -> bytes:
    file = io.BytesIO()
    image.save(file, suffix)
    return file.getvalue()


@pytest.mark.parametrize("suffix", ["jpeg", "png", "webp", "gif"])
def test_the_suffix_is_that_of_what_was_decoded(server, draw, suffix):
    content = draw(1, suffix=suffix)
    [poster] = get(server.tell("/poster.php", content, content_type="image/x-anything"))
    assert poster == DownloadedPoster(content, f".{suffix.replace('jpeg', 'jpg')}")


def test_the_server_is_told_who_asks(server, draw):
    get(server.tell("/a.jpg", draw(1)))
    [agent] = server.user_agents
    assert agent.startswith("hpo/")
    assert "poster" in agent


@pytest.mark.parametrize("kind", ["application/octet-stream", "binary/octet-stream", None])
def test_an_untold_type_is_no_hindrance(server, draw, kind):
    [poster] = get(server.tell("/a", draw(1), content_type=kind))
    assert poster.suffix == ".jpg"


def test_a_page_is_not_even_read(server, draw):
    assert why_not(server.tell("/a.jpg", draw(1), content_type="text/html; charset=utf-8")) is Reason.WRONG_TYPE


@pytest.mark.parametrize(
    "body", [b"", b"<html>not found</html>", b"%!PS-Adobe-3.0\n", b"<svg xmlns='http://www.w3.org/2000/svg'/>"]
)
def test_what_only_says_to_be_an_image(server, body):
    assert why_not(server.tell("/a.jpg", body)) is Reason.NOT_AN_IMAGE


@pytest.mark.parametrize("suffix", ["jpeg", "png", "webp", "gif"])
def test_a_broken_file_is_broken_for_good(server, draw, suffix):
    whole = draw(1, suffix=suffix)
    assert why_not(server.tell("/a.jpg", whole[: len(whole) // 2])) is Reason.NOT_AN_IMAGE
    assert len(server.asked) == 1


@pytest.mark.parametrize("length", [100_000, None], ids=["announced", "unannounced"])
def test_a_body_cut_short_is_asked_for_again(server, draw, length):
    whole = draw(1, size=(180, 256))
    server.tell("/a.jpg", whole[: len(whole) // 2], length=length and len(whole))
    assert get(server.tell("/a.jpg", whole)) == [DownloadedPoster(whole, ".jpg")]
    assert len(server.asked) == 2


def test_a_body_without_a_length_is_whole_when_it_decodes(server, draw):
    [poster] = get(server.tell("/a.jpg", draw(1), length=None))
    assert poster.content == draw(1)


def test_a_body_in_chunks_is_known_to_be_whole_by_the_last_one(server, draw):
    body, encoding = draw(1), {"Transfer-Encoding": "chunked"}
    chunk = b"%x\r\n%s\r\n" % (len(body), body)
    server.tell("/cut.jpg", chunk, length=None, headers=encoding)
    [whole, cut] = get(
        server.tell("/a.jpg", chunk + b"0\r\n\r\n", length=None, headers=encoding),
        server.url("/cut.jpg"),
        options=replace(QUICK, tries=1),
    )
    assert whole.content == body
    assert cut.reason is Reason.CUT_SHORT


@pytest.mark.parametrize("length", [-1, None], ids=["announced", "unannounced"])
def test_an_oversized_body_is_read_no_further_than_the_limit(server, length):
    endless = b"\xff\xd8" + bytes(20_000_000)
    assert why_not(server.tell("/a.jpg", endless, length=length)) is Reason.TOO_LARGE
    assert server.was_hung_up_on.wait(120)  # the rest was not asked for
    assert len(server.asked) == 1


def test_a_body_that_never_ends_costs_no_more_than_the_time_limit(server, draw):
    address = server.tell("/a.jpg", draw(1), seconds_a_byte=0.02)
    assert why_not(address, replace(QUICK, tries=1, timeout=0.5)) is Reason.TIMEOUT


@pytest.mark.parametrize("side", [9_000, 30_000, 2**31 - 1])
def test_too_many_pixels_are_not_decoded(server, side):
    size = struct.pack(">2I5B", side, side, 8, 0, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", zlib.compress(bytes(10_000)))
    assert why_not(server.tell("/a.png", bomb, content_type="image/png")) is Reason.TOO_LARGE


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


@pytest.mark.parametrize(
    "image",
    [Image.new("RGB", (300, 400), "grey"), Image.effect_noise((1, 1), 50), Image.effect_noise((50, 50), 50)],
    ids=["grey page", "tracking pixel", "icon"],
)
def test_placeholders_by_what_they_show(server, image):
    assert why_not(server.tell("/a.png", file_of(image))) is Reason.PLACEHOLDER


def test_placeholders_by_address_are_not_asked_for_even_when_redirected_to(server, draw):
    server.tell("/images/qm_50.gif", draw(1))
    assert why_not(server.url("/images/qm_50.gif")) is Reason.PLACEHOLDER
    assert why_not(server.redirect("/a.jpg", "/images/qm_50.gif?s=1")) is Reason.PLACEHOLDER
    assert server.times_asked == {"/a.jpg": 1}


def test_redirects_are_followed_to_the_fifth(server, draw):
    for hop in range(5):
        server.redirect(f"/{hop}", f"/{hop + 1}" if hop % 2 else server.url(f"/{hop + 1}"))
    server.tell("/5", draw(1))
    assert get(server.url("/0")) == [DownloadedPoster(draw(1), ".jpg")]
    assert why_not(server.redirect("/6", "/0")) is Reason.REDIRECTS


def test_a_loop_of_redirects_ends(server):
    server.redirect("/b", "/a")
    assert why_not(server.redirect("/a", "/b")) is Reason.REDIRECTS
    assert len(server.asked) == 6


@pytest.mark.parametrize(
    "to", ["file:///etc/passwd", "ftp://127.0.0.1/a.jpg", "data:image/png;base64,AAAA", "http://["]
)
def test_a_redirect_to_what_is_no_web_address_is_refused(server, to):
    assert why_not(server.redirect("/a.jpg", to)) is Reason.ADDRESS_REFUSED
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "address",
    [
        "file:///etc/passwd",
        "/etc/passwd",
        "ftp://example.org/a.jpg",
        "http:///a.jpg",
        "http://[::1",
        "http://a..b/a.jpg",
        f"http://{'a' * 70}.example/a.jpg",
        "http://example.org:99999/",
        "http://example.org:0/",
    ],
)
def test_what_is_no_web_address_is_refused(address):
    assert why_not(address) is Reason.ADDRESS_REFUSED


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "127.1", "0x7f.1", "[::ffff:127.0.0.1]", "0"])
def test_loopback_in_any_disguise_is_not_connected_to(server, draw, host):
    server.tell("/a.jpg", draw(1))
    address = f"http://{host}:{server.server_port}/a.jpg"
    assert why_not(address, replace(QUICK, allow_private=False)) is Reason.ADDRESS_REFUSED
    assert server.asked == []


def test_a_name_is_judged_by_the_address_that_is_connected_to(server, draw, monkeypatch):
    """As with DNS rebinding: the name looks public, and its last answer is not."""

    def rebound(host: str, port: int, *_: object, **__: object):
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", rebound)
    server.tell("/a.jpg", draw(1))
    address = f"http://posters.example:{server.server_port}/a.jpg"
    assert why_not(address, replace(QUICK, allow_private=False)) is Reason.ADDRESS_REFUSED
    assert server.asked == []
    assert get(address) == [DownloadedPoster(draw(1), ".jpg")]  # when it is allowed


def test_proxies_of_the_environment_are_not_used(server, draw, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert get(server.tell("/a.jpg", draw(1))) == [DownloadedPoster(draw(1), ".jpg")]


@pytest.mark.parametrize(("status", "reason"), [(404, Reason.NOT_FOUND), (410, Reason.NOT_FOUND)])
def test_what_is_gone_is_asked_for_once(server, status, reason):
    assert why_not(server.tell("/a.jpg", status=status)) is reason
    assert reason.permanent
    assert len(server.asked) == 1


@pytest.mark.parametrize("status", [204, 302, 400, 401, 403, 451])
def test_a_refusal_is_left_for_the_next_run(server, status):
    assert why_not(server.tell("/a.jpg", status=status)) is Reason.REFUSED
    assert not Reason.REFUSED.permanent
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("how", "reason", "timeout"),
    [
        ({"status": 500}, Reason.SERVER_ERROR, 120),
        ({"status": 503}, Reason.SERVER_ERROR, 120),
        ({"seconds": NEVER}, Reason.TIMEOUT, 0.2),
    ],
    ids=["500", "503", "slow"],
)
def test_what_may_pass_is_tried_four_times(server, draw, how, reason, timeout):
    assert why_not(server.tell("/a.jpg", draw(1), **how), replace(QUICK, timeout=timeout)) is reason
    assert reason.retried
    assert not reason.permanent
    assert len(server.asked) == 4


def test_a_server_that_recovers_is_forgiven(server, draw):
    server.tell("/a.jpg", status=500)
    server.tell("/a.jpg", status=502)
    assert get(server.tell("/a.jpg", draw(1))) == [DownloadedPoster(draw(1), ".jpg")]


def test_a_server_that_hangs_up_or_is_not_there():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
    assert why_not(f"http://127.0.0.1:{port}/a.jpg") is Reason.CONNECTION


@pytest.mark.parametrize("as_date", [False, True], ids=["seconds", "date"])
def test_retry_after_holds_for_the_whole_host(server, draw, as_date):
    later = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=4)  # a date has whole seconds
    after = format_datetime(later, usegmt=True) if as_date else "1"
    server.tell("/0.jpg", status=429, headers={"Retry-After": after})
    addresses = [server.tell(f"/{n}.jpg", draw(n), seconds=0.1 * (n > 0)) for n in range(6)]
    posters = get(*addresses, options=replace(QUICK, concurrency=2))
    assert all(isinstance(poster, DownloadedPoster) for poster in posters)
    moments = [moment for _, moment in server.asked]
    longest = max(after - before for before, after in pairwise(moments))
    assert longest > 0.8
    assert server.times_asked["/0.jpg"] == 2


def test_a_host_that_asks_for_too_long_a_pause_is_left_alone(server, draw):
    first = server.tell("/a.jpg", status=503, headers={"Retry-After": "3600"})
    [failed, other] = get(first, server.tell("/b.jpg", draw(1)), options=replace(QUICK, concurrency=1))
    assert (failed.reason, failed.detail) == (Reason.GIVEN_UP, "it asked to be left alone for 3600 s")
    assert server.times_asked["/a.jpg"] == 1
    assert isinstance(other, DownloadedPoster) or other.reason is Reason.GIVEN_UP


def test_no_more_requests_at_once_than_allowed(server, draw):
    addresses = [server.tell(f"/{n}.jpg", draw(n), seconds=0.02) for n in range(20)]
    get(*addresses, options=replace(QUICK, concurrency=3))
    assert server.most_under_way == 3


def test_requests_to_a_host_are_spaced(server, draw):
    addresses = [server.tell(f"/{n}.jpg", draw(n)) for n in range(8)]
    began = time.monotonic()
    get(*addresses, options=replace(QUICK, per_second=20))
    assert time.monotonic() - began > 7 / 20 - 0.001  # a busy machine takes longer, never less: seven gaps lie between


TRUSTING = """
import asyncio, sys
from concurrent.futures import ThreadPoolExecutor
from hpo.data.download.client import *
async def main():
    with ThreadPoolExecutor(1) as pool:
        async with Downloader(FetchOptions(tries=1, allow_private=True), pool) as downloader:
            for answer in await asyncio.gather(*map(downloader.get, sys.argv[1:]), return_exceptions=True):
                print(answer.suffix if isinstance(answer, DownloadedPoster) else answer.reason.name)
asyncio.run(main())
"""


def test_tls_checks_the_name(server, draw, tmp_path):
    """A server with a certificate for `localhost`, asked by two of its names by a process that trusts it."""
    pytest.importorskip("cryptography")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate_for("localhost", tmp_path / "certificate.pem"))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.tell("/a.jpg", draw(1))
    addresses = [f"https://{host}:{server.server_port}/a.jpg" for host in ("localhost", "127.0.0.1")]
    for trusted, expected in (("certificate.pem", [".jpg", "CONNECTION"]), ("none.pem", ["CONNECTION", "CONNECTION"])):
        trust = {**os.environ, "SSL_CERT_FILE": str(tmp_path / trusted), "SSL_CERT_DIR": str(tmp_path / "none")}
        done = subprocess.run([sys.executable, "-c", TRUSTING, *addresses], env=trust, capture_output=True, text=True)
        assert done.stdout.split() == expected, done.stderr


def certificate_for(host: str, path: Path) -> Path:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM) + secret)
    return path
