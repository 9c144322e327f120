"""Rank the trials of a study by value, and reruns by their mean over fresh seeds.

The value that selected a trial has no part in that mean: the best of many values is partly luck, which fresh seeds do
not share.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from hpo.study.trial_record import TrialRecord

Confirmed = Mapping[str, Mapping[str, float]]  # trial number → seed → value on that seed, as JSON keeps it


def ranked(trials: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Return the complete ones, best first, the earlier of equals before the later."""
    complete = [trial for trial in trials if trial.state == "complete"]
    return sorted(complete, key=lambda trial: (-(trial.value or 0.0), trial.number))


def leader(trials: Sequence[TrialRecord], confirmed: Confirmed) -> TrialRecord | None:
    """Return the trial that should be champion.

    That is the best mean over fresh seeds, once the best trial was run on them; the best trial until then.
    """
    best = next(iter(ranked(trials)), None)
    if best is None or str(best.number) not in confirmed:
        return best
    return run_again(trials, confirmed)[0][0]


def run_again(trials: Sequence[TrialRecord], confirmed: Confirmed) -> list[tuple[TrialRecord, list[float]]]:
    """Return the trials that were run again, each with its values on the fresh seeds that all have, best mean first."""
    again = [trial for trial in ranked(trials) if str(trial.number) in confirmed]
    seeds = sorted(set.intersection(*(set(confirmed[str(trial.number)]) for trial in again))) if again else []
    values = [(trial, [confirmed[str(trial.number)][seed] for seed in seeds]) for trial in again]
    return sorted(values, key=lambda found: (-fmean(found[1]), found[0].number)) if seeds else values


def fresh_values(trial: TrialRecord, again: Sequence[tuple[TrialRecord, list[float]]]) -> list[float]:
    """Return the values of ``trial`` on fresh seeds, of those that ``run_again`` returned; none where it was not."""
    return next((values for other, values in again if other.number == trial.number), [])
