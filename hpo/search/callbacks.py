"""Callbacks of a search: what it reports while it runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Protocol

from hpo.runtime.progress import ProgressFn

if TYPE_CHECKING:
    from hpo.data.dataset import PreparedData
    from hpo.model.config import TrialConfig
    from hpo.study.trial_queue import TrialCounts
    from hpo.study.trial_record import TrialRecord
    from hpo.trial.trial import EpochReport


class TrialCallback(Protocol):
    """Events of one trial, reported by the worker that runs it."""

    def trial_started(self, number: int, config: TrialConfig) -> None:
        """A trial with these parameters begins."""

    def epoch(self, report: EpochReport) -> None:
        """An epoch has ended and was scored."""


class SearchCallback(TrialCallback, Protocol):
    """Events of a search: a progress display, or none.

    Those of a trial while it runs arrive only where it runs in the search's own process.
    """

    def notice(self, text: str, /) -> None:
        """Something that the user should read, in one line."""

    def bar(self, what: str, total: int, /) -> AbstractContextManager[ProgressFn]:
        """Posters are prepared inside: what is done with them, and how many they are. A ``ProgressFactory``."""

    def prepared(self, data: PreparedData, finished: int, budget: int) -> None:
        """The posters are ready, and ``finished`` trials of the study's ``budget`` have ended in earlier searches."""

    def trial_ended(self, trial: TrialRecord, counts: TrialCounts, best: TrialRecord | None) -> None:
        """A trial of the study has ended, run by any worker. Each is reported once."""

    def workers(self, alive: int, counts: TrialCounts) -> None:
        """So many of several workers are alive; reported after every poll."""


class NullCallback:
    """A ``SearchCallback`` that ignores every event."""

    def notice(self, text: str) -> None:
        """Ignore it."""

    @contextmanager
    def bar(self, what: str, total: int) -> Iterator[ProgressFn]:
        """Show nothing."""
        yield lambda _: None

    def prepared(self, data: PreparedData, finished: int, budget: int) -> None:
        """Ignore it."""

    def trial_started(self, number: int, config: TrialConfig) -> None:
        """Ignore it."""

    def epoch(self, report: EpochReport) -> None:
        """Ignore it."""

    def trial_ended(self, trial: TrialRecord, counts: TrialCounts, best: TrialRecord | None) -> None:
        """Ignore it."""

    def workers(self, alive: int, counts: TrialCounts) -> None:
        """Ignore it."""
