from __future__ import annotations

import os
import signal
from contextlib import nullcontext

import pytest

from hpo.runtime.interrupt import Interruptible


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_for_the_next_check(number: signal.Signals) -> None:
    with Interruptible() as interruptible:
        interruptible.check()
        os.kill(os.getpid(), number)
        with pytest.raises(KeyboardInterrupt):
            interruptible.check()
        interruptible.check()  # once


def test_a_second_signal_does_not_wait() -> None:
    with Interruptible():
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    with Interruptible():
        assert signal.getsignal(signal.SIGINT) != before
    assert signal.getsignal(signal.SIGINT) == before


def test_a_phase_is_checked_after_every_batch() -> None:
    finished: list[int] = []
    with Interruptible() as interruptible:
        phase = interruptible.watching(lambda _what, _total: nullcontext(finished.append))
        with pytest.raises(KeyboardInterrupt), phase("decoding", 3) as progress:  # noqa: PT012
            progress(1)
            os.kill(os.getpid(), signal.SIGINT)
            progress(2)
            progress(3)
    assert finished == [1, 2]
