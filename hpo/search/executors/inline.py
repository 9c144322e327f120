"""Run the trials of a search in its own process, one after the other."""

from __future__ import annotations

from collections.abc import Iterator

from hpo.search.executors.base import SearchJob


class InlineExecutor:
    """The search's own process as the one worker, which has posters and study open already."""

    def __init__(self, job: SearchJob) -> None:
        self._job = job
        self._trials: Iterator[object] = iter(())

    def start(self) -> None:
        """Get ready to run the first trial."""
        self._trials = self._job.run_here()

    @property
    def n_alive(self) -> int:
        """One."""
        return 1

    def supervise(self) -> bool:
        """Run one trial. Raises what it raises, KeyboardInterrupt and OutOfTime among it."""
        return next(self._trials, None) is not None

    def stop(self) -> None:
        """Do nothing: between two calls of ``supervise`` no trial is in hand."""
