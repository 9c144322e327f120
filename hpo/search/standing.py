"""Where the trials of a study stand: by value, and by the mean over fresh seeds for those that were run again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from optuna.trial import FrozenTrial, TrialState

Confirmed = Mapping[str, Mapping[str, float]]  # trial number → seed → value on that seed, as JSON keeps it


def ranked(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Return the complete ones, best first, the earlier of equals before the later."""
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    return sorted(complete, key=lambda trial: (-(trial.value or 0.0), trial.number))


def leader(trials: Sequence[FrozenTrial], confirmed: Confirmed) -> FrozenTrial | None:
    """Return the trial that should be champion.

    That is the best mean over seeds, once the best trial was run on fresh ones; the best trial until then.
    """
    best = next(iter(ranked(trials)), None)
    if best is None or str(best.number) not in confirmed:
        return best
    again = [trial for trial in trials if str(trial.number) in confirmed]
    return max(again, key=lambda trial: (fmean(over_seeds(trial, confirmed)), -trial.number))


def over_seeds(trial: FrozenTrial, confirmed: Confirmed) -> list[float]:
    """Return a trial's values: its own, then those on fresh seeds."""
    return [trial.value or 0.0, *confirmed.get(str(trial.number), {}).values()]
