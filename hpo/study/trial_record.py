"""A study's trials as plain, typed data, all that is read of Optuna's record above this package, and their ranking."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from statistics import fmean
from typing import Any, Literal

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState

from hpo.model.config import TrialConfig

TrialState = Literal["complete", "pruned", "failed", "running", "waiting"]

_STATES: Mapping[OptunaState, TrialState] = {
    OptunaState.COMPLETE: "complete",
    OptunaState.PRUNED: "pruned",
    OptunaState.FAIL: "failed",
    OptunaState.RUNNING: "running",
    OptunaState.WAITING: "waiting",
}


@dataclass(frozen=True)
class ParameterRange:
    """What a searched parameter could be: a list of choices, or numbers between two bounds."""

    choices: tuple[Any, ...] | None = None  # None: numbers
    low: float = 0.0
    high: float = 0.0
    log: bool = False


@dataclass(frozen=True)
class TrialRecord:
    """One trial of a study.

    A snapshot (``Study.snapshot``) reads only number, state, value, times, worker and ``retry_of`` of most trials,
    since the rest takes seconds for thousands of them: everything else is then empty, or None.
    """

    number: int
    state: TrialState
    value: float | None = None  # of the study's metric; None unless complete or pruned after a report
    params: Mapping[str, Any] = field(default_factory=dict)  # searched ones that applied
    ranges: Mapping[str, ParameterRange] = field(default_factory=dict)  # of the same names
    started: datetime | None = None  # local time
    ended: datetime | None = None
    reports: Mapping[int, float] = field(default_factory=dict)  # step → value that the pruner compared
    config: Mapping[str, Any] | None = None  # every hyperparameter, fixed ones included; None before it was chosen
    metrics: Mapping[str, float] = field(default_factory=dict)  # MLflow key → value, of the whole trial
    scores: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # threshold strategy → metric → value
    reported: Mapping[str, Any] | None = None  # value and ci95 of the metric to report
    curve: Mapping[str, Any] | None = None  # metric → [(epoch, value)], in order of epoch; None where not noted
    seconds: Mapping[str, float] = field(default_factory=dict)  # stage → how long it took
    work: Mapping[str, Any] | None = None  # what a forecast counts, in JSON
    phase: str | None = None  # frozen or finetune: which gave the network
    best_epoch: int = 0  # from 1; 0 until it is complete
    worker: str | None = None
    run_id: str | None = None  # of MLflow, as its worker noted it: see Study.run_id
    made_with: Mapping[str, str] = field(default_factory=dict)  # code, seed, versions and machine
    threads: int | None = None  # of the process that trained it
    recipe: str | None = None
    proposal: Mapping[str, Any] | None = None  # stage, why and params, where the plan of a search proposed it
    warm_start: str | None = None  # study and number of the trial whose parameters were queued
    retry_of: int | None = None  # number of the trial whose parameters were queued again
    history: tuple[Mapping[str, Any], ...] = ()  # attempts before this one: trial, how, why
    error: str | None = None  # what it failed with
    lost: str | None = None  # why it was taken from its worker
    reason: str | None = None  # why it was pruned
    pruned_after: str | None = None  # epoch or fold, in words

    @classmethod
    def of(cls, trial: FrozenTrial) -> TrialRecord:
        """Read a trial of Optuna's."""
        noted = trial.user_attrs
        return cls(
            number=trial.number,
            state=_STATES[trial.state],
            value=trial.value,
            params=trial.params,
            ranges={name: _range_of(distribution) for name, distribution in trial.distributions.items()},
            started=trial.datetime_start,
            ended=trial.datetime_complete,
            reports=trial.intermediate_values,
            config=noted.get("chosen"),
            metrics=noted.get("metrics", {}),
            scores=noted.get("scores", {}),
            reported=noted.get("reported"),
            curve=noted.get("curve"),
            seconds=noted.get("seconds", {}),
            work=noted.get("work"),
            phase=noted.get("phase"),
            best_epoch=noted.get("best_epoch", 0),
            worker=noted.get("worker"),
            run_id=noted.get("run_id"),
            made_with=noted.get("made_with", {}),
            threads=noted.get("threads"),
            recipe=noted.get("recipe"),
            proposal=noted.get("proposal"),
            warm_start=noted.get("warm_start"),
            retry_of=noted.get("retry_of"),
            history=tuple(noted.get("history", ())),
            error=noted.get("error"),
            lost=noted.get("lost"),
            reason=noted.get("reason"),
            pruned_after=noted.get("pruned_after"),
        )

    @property
    def is_finished(self) -> bool:
        """Whether it has ended: complete, pruned or failed."""
        return self.state in ("complete", "pruned", "failed")

    @property
    def duration(self) -> timedelta | None:
        """How long it ran; None until it has ended."""
        return None if self.started is None or self.ended is None else self.ended - self.started

    @property
    def configuration(self) -> Mapping[str, Any]:
        """All that the trial chose, was given or left at its default; its parameters where that was not noted."""
        return self.params if self.config is None else self.config

    @property
    def hyperparameters(self) -> TrialConfig:
        """The same, validated. Raises ValueError (pydantic) for a trial that has chosen nothing readable."""
        return TrialConfig.model_validate(self.config)


def _range_of(distribution: BaseDistribution) -> ParameterRange:
    if isinstance(distribution, CategoricalDistribution):
        return ParameterRange(choices=tuple(distribution.choices))
    if isinstance(distribution, FloatDistribution | IntDistribution):
        return ParameterRange(None, float(distribution.low), float(distribution.high), distribution.log)
    raise TypeError(f"expected numbers or choices, got {distribution}")


# Ranking: trials by value, and reruns by their mean over fresh seeds. The value that selected a trial has no part in
# that mean: the best of many values is partly luck, which fresh seeds do not share.

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


def title_of(trials: Collection[int]) -> str:
    """Name what a model is made of: ``trial 8`` or ``the average of trials 8, 21 and 3``."""
    numbers = [str(trial) for trial in trials]
    if len(numbers) == 1:
        return f"trial {numbers[0]}"
    return f"the average of trials {', '.join(numbers[:-1])} and {numbers[-1]}"
