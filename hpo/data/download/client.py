"""Download one poster: rate-limited, bounded, and verified before it is kept.

The answer is read no further than the size limit, must say that it is an image, must be as long as it says, must
decode wholly in the search's own decoder (in threads, as decoding would hold up every other request), and must not be
a placeholder. Redirects are followed here rather than by aiohttp, so that every hop is checked and waits its turn.

aiohttp does the HTTP because its `socket_factory` sees the address that is really connected to. Proxies named by the
environment are not used: a proxy would connect in our place, and the check would see the proxy alone. Nor are
cookies and .netrc. Bodies are asked for uncompressed, since a small compressed one can be a large one in disguise.
"""

from __future__ import annotations

import asyncio
import io
import random
from collections import defaultdict
from collections.abc import AsyncIterator
from concurrent.futures import Executor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import Enum
from http import HTTPStatus
from types import TracebackType
from typing import NamedTuple

import aiohttp
from PIL import Image
from yarl import URL

from hpo import __version__
from hpo.data.decoding import MAX_PIXELS, Framing, check_scans, decode
from hpo.data.download.security import AddressRefused, open_public_socket, parse_address
from hpo.data.table.cleaning import is_placeholder_address, why_placeholder

# How to ask a host for thousands of files without being a nuisance.
#
# Requests to one host are spaced evenly, however many are under way elsewhere. A host that says "not now" (RFC 9110,
# 10.2.3 Retry-After; RFC 6585, 429) is left alone for as long as it says, by all requests; one that says so for too
# long, or that keeps failing, is not asked again in this run, so that a host that is down costs a minute and not a
# night. Failures are tried again after exponentially growing, jittered pauses, so that they do not come back all at
# once (M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015).

MAX_PAUSE_SECONDS = 120.0  # a host that wants more than this is left for a later run
FAILURES_IN_A_ROW = 10  # posters, each tried several times: then the host is taken to be down
MAX_BACKOFF_SECONDS = 30.0


class HostGivenUp(Exception):
    """The host is not to be asked again in this run; the text says why."""


class Host:
    """One host's turn-taking, inside an event loop. Times are seconds by the loop's clock."""

    def __init__(self, per_second: float) -> None:
        self._interval = 1 / per_second if per_second else 0.0
        self._free_at = 0.0
        self._queue = asyncio.Lock()
        self._failures = 0
        self._given_up = ""

    @asynccontextmanager
    async def turn(self, slots: asyncio.Semaphore) -> AsyncIterator[None]:
        """Wait until the host may be asked and one of the slots for all hosts is free, and hold that slot.

        Raises HostGivenUp.
        """
        async with self._queue:
            while True:
                await self._until_free()
                await slots.acquire()  # last, so that a host that asked for a pause keeps no slot from another
                if self._is_free():
                    break
                slots.release()  # the pause was asked for while a slot was waited for
            self._free_at = _now() + self._interval
        try:
            yield
        finally:
            slots.release()

    def _is_free(self) -> bool:
        return not self._given_up and self._free_at <= _now()

    async def _until_free(self) -> None:
        while not self._is_free():
            if self._given_up:
                raise HostGivenUp(self._given_up)
            await asyncio.sleep(self._free_at - _now())  # and look again: it may have asked for a longer pause

    def pause(self, seconds: float) -> None:
        """Leave the host alone for so long, or for the rest of the run when that is too long to wait."""
        if seconds > MAX_PAUSE_SECONDS:
            self._given_up = f"it asked to be left alone for {seconds:.0f} s"
        else:
            self._free_at = max(self._free_at, _now() + seconds)

    def ended(self, *, works: bool) -> None:
        """Note that all tries for a poster are over; a host that says that there is none works."""
        self._failures = 0 if works else self._failures + 1
        if self._failures >= FAILURES_IN_A_ROW and not self._given_up:
            self._given_up = f"{self._failures} posters in a row could not be had"


def _now() -> float:
    return asyncio.get_running_loop().time()


def backoff_seconds(failed_tries: int, first: float) -> float:
    """Return how long to wait after so many failed tries (from 1): first, doubled each time, less up to a half."""
    longest: float = min(first * 2 ** (failed_tries - 1), MAX_BACKOFF_SECONDS)
    return longest * random.uniform(0.5, 1.0)


def retry_after_seconds(header: str | None, now: datetime | None = None) -> float | None:
    """Read a Retry-After header, a number of seconds or an HTTP date; None when it says nothing that can be read."""
    text = (header or "").strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    wait = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - (now or datetime.now(UTC))
    return max(0.0, wait.total_seconds())


USER_AGENT = f"hpo/{__version__} (fetches posters of a public catalogue to train a genre classifier)"
MAX_REDIRECTS = 5

_SUFFIXES = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "GIF": ".gif"}  # Pillow's name → ours
_DECODED_SIDE_PX = 64  # any would do: what counts is that decoding ends
_CHUNK_BYTES = 64 * 1024
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_GONE = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.GONE})
_ASKING_FOR_A_PAUSE = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})
_UNTOLD_TYPES = frozenset({"application/octet-stream", "binary/octet-stream"})


class Reason(Enum):
    """Why a poster is missing: what a report calls it, whether that is for good, and whether to try again at once."""

    NO_ADDRESS = "no address", True, False
    UNUSABLE_ID = "id that cannot name a file", True, False
    ADDRESS_REFUSED = "address refused", True, False
    PLACEHOLDER = "placeholder", True, False
    NOT_FOUND = "not found", True, False
    WRONG_TYPE = "not said to be an image", True, False
    TOO_LARGE = "too large", True, False
    NOT_AN_IMAGE = "no whole image", True, False
    REFUSED = "refused by the server", False, False
    REDIRECTS = "too many redirects", False, False
    GIVEN_UP = "host given up", False, False
    TOO_MANY_REQUESTS = "too many requests", False, True
    SERVER_ERROR = "server error", False, True
    CONNECTION = "no connection", False, True
    TIMEOUT = "too slow", False, True
    CUT_SHORT = "cut short", False, True

    def __init__(self, text: str, permanent: bool, retried: bool) -> None:
        self.text, self.permanent, self.retried = text, permanent, retried


class Failed(Exception):
    """A poster could not be had, or not used."""

    def __init__(self, reason: Reason, detail: str = "", digest: str = "") -> None:
        super().__init__(f"{reason.text}: {detail}")
        self.reason, self.detail = reason, detail
        self.digest = digest  # of the picture, when there was one that is not wanted


@dataclass(frozen=True, kw_only=True)
class FetchOptions:
    """How posters are asked for. Times are seconds."""

    concurrency: int = 8  # requests under way at once
    per_second: float = 3.0  # requests to one host; 0 is no limit
    tries: int = 4  # for each poster, in one run
    first_backoff: float = 1.0
    connect_timeout: float = 10.0
    timeout: float = 60.0  # for one request with its whole answer
    max_bytes: int = 20_000_000
    retry_failed: bool = False  # ask again for what is known to be missing for good
    allow_private: bool = False  # connect to loopback and private addresses too
    any_content: bool = False  # take a file for what it is, also a placeholder; the caller decodes it


class DownloadedPoster(NamedTuple):
    """A file that is a whole image and no placeholder."""

    content: bytes
    suffix: str


class Downloader(AbstractAsyncContextManager["Downloader"]):
    """Gets posters within one event loop; `pool` decodes them."""

    def __init__(self, options: FetchOptions, pool: Executor) -> None:
        self._options = options
        self._pool = pool
        self._hosts: defaultdict[str, Host] = defaultdict(lambda: Host(options.per_second))
        self._slots = asyncio.Semaphore(options.concurrency)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=options.concurrency,
                socket_factory=None if options.allow_private else open_public_socket,
            ),
            timeout=aiohttp.ClientTimeout(total=options.timeout, sock_connect=options.connect_timeout),
            headers={"User-Agent": USER_AGENT, "Accept": "image/*", "Accept-Encoding": "identity"},
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
        )

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def get(self, address: str) -> DownloadedPoster:
        """Return the poster, after several tries if need be. Raises Failed."""
        host = self._host(self._checked_address(address))
        n_failed = 0
        while True:
            try:
                poster = await self._try(address)
            except Failed as failed:
                n_failed += 1
                if failed.reason.retried and n_failed < self._options.tries:
                    await asyncio.sleep(backoff_seconds(n_failed, self._options.first_backoff))
                    continue
                host.ended(works=failed.reason.permanent)
                raise
            host.ended(works=True)
            return poster

    async def _try(self, address: str) -> DownloadedPoster:
        for _ in range(MAX_REDIRECTS + 1):
            answer = await self._ask(self._checked_address(address))
            if isinstance(answer, _Body) and self._options.any_content:
                return DownloadedPoster(answer.content, "")
            if isinstance(answer, _Body):
                return await asyncio.get_running_loop().run_in_executor(self._pool, _checked_poster, answer)
            address = answer
        raise Failed(Reason.REDIRECTS, f"more than {MAX_REDIRECTS}")

    async def _ask(self, url: URL) -> _Body | str:
        """Return the body, or the address that a redirect leads to."""
        try:
            async with self._host(url).turn(self._slots), self._session.get(url, allow_redirects=False) as answer:
                return await self._read(answer)
        except HostGivenUp as error:
            raise Failed(Reason.GIVEN_UP, str(error)) from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise Failed(_reason(error), str(error) or type(error).__name__) from error

    async def _read(self, answer: aiohttp.ClientResponse) -> _Body | str:
        if answer.status in _REDIRECTS and "Location" in answer.headers:
            return str(answer.url.join(URL(answer.headers["Location"])))
        if answer.status != HTTPStatus.OK:
            self._heed(answer)
            raise Failed(_reason_of_status(answer.status), f"HTTP {answer.status}")
        if not (answer.content_type.startswith("image/") or answer.content_type in _UNTOLD_TYPES):
            raise Failed(Reason.WRONG_TYPE, answer.content_type)
        announced = answer.content_length is not None or "Transfer-Encoding" in answer.headers
        return _Body(await self._content(answer), announced)

    def _heed(self, answer: aiohttp.ClientResponse) -> None:
        """Leave the host alone for as long as it asks."""
        seconds = retry_after_seconds(answer.headers.get("Retry-After"))
        if seconds is None and answer.status == HTTPStatus.TOO_MANY_REQUESTS:
            seconds = self._options.first_backoff
        if seconds is not None and answer.status in _ASKING_FOR_A_PAUSE:
            self._host(answer.url).pause(seconds)

    async def _content(self, answer: aiohttp.ClientResponse) -> bytes:
        limit = self._options.max_bytes
        if (answer.content_length or 0) > limit:
            raise Failed(Reason.TOO_LARGE, f"{answer.content_length:,} bytes, where {limit:,} are allowed")
        content = bytearray()
        async for chunk in answer.content.iter_chunked(_CHUNK_BYTES):
            content += chunk
            if len(content) > limit:
                raise Failed(Reason.TOO_LARGE, f"more than {limit:,} bytes")
        return bytes(content)

    def _checked_address(self, address: str) -> URL:
        try:
            url = parse_address(address)
        except AddressRefused as error:
            raise Failed(Reason.ADDRESS_REFUSED, str(error)) from error
        if is_placeholder_address(address) and not self._options.any_content:
            raise Failed(Reason.PLACEHOLDER, f"by its address, {address}")
        return url

    def _host(self, url: URL) -> Host:
        return self._hosts[url.host or ""]  # yarl has it in lower case


class _Body(NamedTuple):
    content: bytes
    announced: bool  # so that we would know if some of it were missing


def _checked_poster(body: _Body) -> DownloadedPoster:
    try:
        image = Image.open(io.BytesIO(body.content), formats=tuple(_SUFFIXES))
        if image.width * image.height > MAX_PIXELS:
            raise Failed(Reason.TOO_LARGE, f"{image.width:,} × {image.height:,} px")
        check_scans(image, body.content)
        placeholder = why_placeholder(image)
        if placeholder:
            raise Failed(Reason.PLACEHOLDER, placeholder)
        decode(image, Framing(_DECODED_SIDE_PX))
    except Failed:
        raise
    except Image.DecompressionBombError as error:
        raise Failed(Reason.TOO_LARGE, str(error)) from error
    except Exception as error:  # Pillow raises whatever a damaged file leads it to
        raise Failed(Reason.NOT_AN_IMAGE if body.announced else Reason.CUT_SHORT, str(error)) from error
    return DownloadedPoster(body.content, _SUFFIXES.get(image.format or "", ".jpg"))  # Pillow calls some JPEGs MPO


def _reason(error: Exception) -> Reason:
    """Classify a failure of aiohttp, the operating system or the resolver."""
    match error:
        case aiohttp.InvalidURL():
            return Reason.ADDRESS_REFUSED
        case TimeoutError():
            return Reason.TIMEOUT
        case aiohttp.ClientPayloadError():
            return Reason.CUT_SHORT
        case aiohttp.ClientError() | OSError():
            return Reason.ADDRESS_REFUSED if isinstance(error.__cause__, AddressRefused) else Reason.CONNECTION
        case _:  # a ValueError: the name cannot be that of a host
            return Reason.ADDRESS_REFUSED


def _reason_of_status(status: int) -> Reason:
    if status in _GONE:
        return Reason.NOT_FOUND
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return Reason.TOO_MANY_REQUESTS
    return Reason.SERVER_ERROR if status >= HTTPStatus.INTERNAL_SERVER_ERROR else Reason.REFUSED
