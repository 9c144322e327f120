from __future__ import annotations

import asyncio
import random
import selectors
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import pairwise
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpo.data.download.client import (
    FAILURES_IN_A_ROW,
    MAX_BACKOFF_SECONDS,
    MAX_PAUSE_SECONDS,
    Host,
    HostGivenUp,
    backoff_seconds,
    retry_after_seconds,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
T = TypeVar("T")


class Skipping(selectors.DefaultSelector):
    """Waits for no timer: the time of its loop moves on to the next one at once."""

    now = 1000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.now += max(0.0, timeout or 0.0)
        return super().select(0)


class Loop(asyncio.SelectorEventLoop):
    """An event loop whose seconds pass without being waited for."""

    def __init__(self) -> None:
        self.skipping = Skipping()
        super().__init__(self.skipping)

    def time(self) -> float:
        return self.skipping.now


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=Loop) as runner:
        return runner.run(coroutine)


def now() -> float:
    return asyncio.get_running_loop().time()


async def turn(host: Host, slots: asyncio.Semaphore) -> float:
    """Take a turn, and return the moment."""
    async with host.turn(slots):
        return now()


async def turns(host: Host, n_turns: int) -> list[float]:
    """When so many requests that were made at once got their turn, in seconds."""
    began, slots = now(), asyncio.Semaphore(8)
    return [moment - began for moment in await asyncio.gather(*(turn(host, slots) for _ in range(n_turns)))]


def test_turns_are_spaced():
    moments = run(turns(Host(per_second=50), 6))
    assert [later - earlier for earlier, later in pairwise(moments)] == pytest.approx([0.02] * 5)


def test_without_a_limit_nobody_waits():
    assert run(turns(Host(per_second=0), 100)) == [0.0] * 100


def test_a_pause_holds_for_those_who_wait_already():
    async def pause_meanwhile() -> list[float]:
        host = Host(per_second=50)
        waiting = asyncio.create_task(turns(host, 4))
        await asyncio.sleep(0.03)
        host.pause(0.2)
        return await waiting

    assert run(pause_meanwhile()) == pytest.approx([0.0, 0.02, 0.23, 0.25])


def test_a_pause_holds_for_who_waits_for_a_slot():
    async def pause_meanwhile() -> float:
        host, slots = Host(per_second=0), asyncio.Semaphore(1)
        async with host.turn(slots):
            waiting = asyncio.create_task(turn(host, slots))
            await asyncio.sleep(0.01)
            host.pause(0.1)
            paused = now()
        return await waiting - paused

    assert run(pause_meanwhile()) == pytest.approx(0.1)


def test_a_host_that_pauses_keeps_no_slot_from_another():
    async def both() -> float:
        slots, paused, other = asyncio.Semaphore(1), Host(0), Host(0)
        paused.pause(0.3)
        waiting = asyncio.create_task(turn(paused, slots))
        began = now()
        moment = await turn(other, slots)
        await waiting
        return moment - began

    assert run(both()) == 0.0


def test_too_long_a_pause_ends_it_for_all():
    host = Host(per_second=0)
    host.pause(MAX_PAUSE_SECONDS + 1)
    with pytest.raises(HostGivenUp, match="asked to be left alone for 121 s"):
        run(turns(host, 1))


def test_a_host_that_only_fails_is_given_up():
    host = Host(per_second=0)
    for _ in range(FAILURES_IN_A_ROW - 1):
        host.ended(works=False)
    host.ended(works=True)
    for _ in range(FAILURES_IN_A_ROW - 1):
        host.ended(works=False)
    run(turns(host, 1))
    host.ended(works=False)
    with pytest.raises(HostGivenUp, match="10 posters in a row"):
        run(turns(host, 1))


@given(st.integers(1, 60), st.floats(0.01, 5))
def test_backoff_doubles_up_to_a_limit_and_is_jittered(n_failed, first):
    random.seed(0)
    waits = {backoff_seconds(n_failed, first) for _ in range(5)}
    longest = min(first * 2 ** (n_failed - 1), MAX_BACKOFF_SECONDS)
    assert all(longest / 2 <= wait <= longest for wait in waits)
    assert len(waits) == 5


@given(st.integers(0, 10**6))
def test_retry_after_means_the_same_both_ways(seconds):
    date = format_datetime(NOW + timedelta(seconds=seconds), usegmt=True)
    assert retry_after_seconds(str(seconds)) == retry_after_seconds(date, NOW) == seconds


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("Sun, 01 Mar 2026 12:00:05 GMT", 5),
        ("Sunday, 01-Mar-26 12:00:05 GMT", 5),
        ("Sun Mar  1 12:00:05 2026", 5),
        ("Sun, 01 Mar 2026 11:00:00 GMT", 0),
        (" 7 ", 7),
        (None, None),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("٣", None),
        ("9" * 400, float("inf")),
    ],
)
def test_retry_after_as_servers_write_it(header, seconds):
    assert retry_after_seconds(header, NOW) == seconds


@given(st.text())
def test_whatever_a_server_says_is_a_wait_or_nothing(header):
    seconds = retry_after_seconds(header, NOW)
    assert seconds is None or seconds >= 0
