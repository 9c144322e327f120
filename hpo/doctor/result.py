"""Result of a doctor check, and the planned search that checks examine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hpo.settings import Paths
from hpo.space.space import SearchSpace

State = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class CheckResult:
    """One check: what was found, and what to type or fix where that is not ok."""

    name: str
    state: State
    message: str
    fix: str = ""


@dataclass(frozen=True)
class PlannedSearch:
    """The search that is examined before it runs."""

    paths: Paths
    space: SearchSpace
    workers: int
    trials: int
    n_posters: int
    folds: int | None = None  # None: what suits the posters
    pruner: str | None = None


def ok(name: str, message: str) -> CheckResult:
    """Nothing to fix."""
    return CheckResult(name, "ok", message)


def warning(name: str, message: str, fix: str) -> CheckResult:
    """The search would run, but not as well as it could."""
    return CheckResult(name, "warning", message, fix)


def problem(name: str, message: str, fix: str) -> CheckResult:
    """The search would not run, or would break."""
    return CheckResult(name, "problem", message, fix)


def gigabytes(n_bytes: float) -> str:
    """Return bytes as people say them: 1.2 GB, 310 GB, 35 MB."""
    if n_bytes < 1e9:
        return f"{n_bytes / 1e6:.0f} MB"
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes < 1e11 else f"{n_bytes / 1e9:.0f} GB"
