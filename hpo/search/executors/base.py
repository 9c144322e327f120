"""The protocol of an executor: what runs the workers of a search.

A worker takes its trials from the study's database, which is the queue, and shares nothing else with the others. So an
executor knows no trial: it starts workers, replaces those that were lost, and stops them. A new one is a file beside
this one and an entry in `factory.py`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from hpo.search.config import SearchOptions


@dataclass(frozen=True)
class SearchJob:
    """What the workers of one search have to do, here or elsewhere.

    In its own process the search has posters, study and trainer open already, and ``run_here`` runs one trial a step.
    A worker elsewhere calls ``hpo.search.worker.run_worker`` with these ``options`` (they can be pickled), a callback
    of its own, and a function that says when it should stop.
    """

    options: SearchOptions
    deadline: float  # no trial starts after it; by time.monotonic() in the search's process, infinite without --timeout
    run_here: Callable[[], Iterator[object]]

    def seconds_left(self) -> float | None:
        """Return the seconds until the deadline, more than 0; None without one: a worker's ``timeout_seconds``."""
        left = self.deadline - time.monotonic()
        return None if left == float("inf") else max(0.001, left)


class Executor(Protocol):
    """Runs the workers of one search. ``start`` is called once, ``stop`` always, also where ``start`` has raised."""

    def start(self) -> None:
        """Start ``options.workers`` workers."""

    @property
    def n_alive(self) -> int:
        """How many workers are alive."""

    def supervise(self) -> bool:
        """Wait a moment, or run one trial here; replace lost workers; return whether any is still at work.

        Raises StudyError, in one sentence, where no worker can work; an executor without workers elsewhere raises
        what a trial raises.
        """

    def stop(self) -> None:
        """Ask the workers to stop after the current epoch, and end those that do not within a minute."""
