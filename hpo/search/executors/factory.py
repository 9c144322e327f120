"""Executors by name."""

from __future__ import annotations

from collections.abc import Callable

from hpo.search.executors.base import Executor, SearchJob
from hpo.search.executors.inline import InlineExecutor
from hpo.search.executors.processes import ProcessExecutor

EXECUTORS: dict[str, Callable[[SearchJob], Executor]] = {"inline": InlineExecutor, "processes": ProcessExecutor}


def build_executor(job: SearchJob) -> Executor:
    """Return the executor that the job's options name: by default this process for one worker, or local processes."""
    return EXECUTORS[job.options.executor or ("inline" if job.options.workers == 1 else "processes")](job)
