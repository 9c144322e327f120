"""How to ask a host for thousands of files without being a nuisance.

Requests to one host are spaced evenly, however many are under way elsewhere. A host that says "not now" (RFC 9110,
10.2.3 Retry-After; RFC 6585, 429) is left alone for as long as it says, by all requests; one that says so for too long,
or that keeps failing, is not asked again in this run, so that a host that is down costs a minute and not a night.
Failures are tried again after exponentially growing, jittered pauses, so that they do not come back all at once (M.
Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

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
