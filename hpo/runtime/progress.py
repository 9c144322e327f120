"""Progress callbacks, the number of usable cores, and a prefetching iterator."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TypeVar

Begun = TypeVar("Begun")


ProgressFn = Callable[[int], None]  # called with the number of posters that were just finished


ProgressFactory = Callable[[str, int], AbstractContextManager[ProgressFn]]  # (what, how many posters) → their progress


def n_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def one_ahead(started: Iterator[Begun]) -> Iterator[Begun]:
    """Yield what ``started`` begins, each when the next has begun as well: cores decode while the caller writes."""
    current = next(started, None)
    while current is not None:
        following = next(started, None)
        yield current
        current = following
