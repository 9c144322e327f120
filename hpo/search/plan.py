"""The plan of a search in stages: which stage the next trial belongs to, what it fixes of the trial, and why.

The next trial is of the stage with the most expected gain per second. A stage's next trial is expected to gain
``Stage.gain / (1 + m)``, where m is the number of its trials since the last that raised the study's best value: the
posterior mean of a rate after m failures, with a prior worth one trial. Its seconds are forecast. All of it is
computed from the study's record, so that a resumed search and every worker follow the same plan.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Any

import numpy as np

from hpo.space.comparison import fit_into
from hpo.space.schema import Scalar
from hpo.space.space import SearchSpace
from hpo.space.stages import Stage
from hpo.study.trial_record import TrialRecord, ranked

Forecast = Callable[[Mapping[str, Scalar]], float]  # a configuration → seconds

_LEAST_SECONDS = 1.0
_EXPLORES = 0.5  # share of trials that draw a held parameter of several values, instead of taking the best trial's


@dataclass(frozen=True)
class StageProgress:
    """How far a stage is."""

    name: str
    n_finished: int  # trials that have ended, failed ones included
    n_since_gain: int  # of these, since the last that raised the study's best value
    best: float | None  # of its complete trials
    seconds: float  # that its finished trials took
    expected_gain: float  # of its next trial


@dataclass(frozen=True)
class Proposal:
    """The next trial: the parameters that its stage decides. The sampler chooses the others."""

    stage: str
    params: Mapping[str, Scalar]
    recipe: str | None
    seconds: float  # forecast
    why: str


def stage_of(space: SearchSpace, configuration: Mapping[str, Any]) -> str | None:
    """Return the first stage of ``space`` that a configuration belongs to, None without one."""
    return next((name for name, stage in space.stages.items() if stage.contains(configuration)), None)


def progress(space: SearchSpace, trials: Sequence[TrialRecord]) -> list[StageProgress]:
    """Return how far each stage is, in the order of the stages."""
    best_before: float | None = None
    by_stage: dict[str, list[tuple[TrialRecord, bool]]] = {name: [] for name in space.stages}
    for trial in (trial for trial in trials if trial.is_finished):
        value = trial.value if trial.state == "complete" else None
        gains = value is not None and (best_before is None or value > best_before)
        stage = stage_of(space, trial.configuration)
        if stage is not None:
            by_stage[stage].append((trial, gains))
        best_before = value if gains else best_before
    return [_progress_of(name, space.stages[name], ran) for name, ran in by_stage.items()]


def _progress_of(name: str, stage: Stage, ran: Sequence[tuple[TrialRecord, bool]]) -> StageProgress:
    since = next((n for n, (_, gains) in enumerate(reversed(ran)) if gains), len(ran))
    values = [trial.value for trial, _ in ran if trial.state == "complete" and trial.value is not None]
    seconds = sum(trial.duration.total_seconds() for trial, _ in ran if trial.duration is not None)
    return StageProgress(name, len(ran), since, max(values, default=None), seconds, stage.gain / (1 + since))


class Plan:
    """Proposes trials of a space in stages."""

    def __init__(self, space: SearchSpace, seed: int, forecast: Forecast) -> None:
        self._space, self._seed, self._forecast = space, seed, forecast

    def next(self, trials: Sequence[TrialRecord], seconds_left: float = inf) -> Proposal | None:
        """Return the next trial, after ``trials``, that fits into ``seconds_left``; None where none does."""
        stages = progress(self._space, trials)
        gains = {stage.name: stage.expected_gain for stage in stages}
        found = [self._first_that_fits(stage, trials, seconds_left) for stage in stages]
        proposals = [proposal for proposal in found if proposal is not None]
        order = sorted(proposals, key=lambda one: -gains[one.stage] / one.seconds)
        if not order:
            return None
        return replace(order[0], why=_reason(order[0], order[1] if len(order) > 1 else None, gains))

    def _first_that_fits(
        self, stage: StageProgress, trials: Sequence[TrialRecord], seconds_left: float
    ) -> Proposal | None:
        for recipe, params in self._candidates(stage.name, trials):
            seconds = max(_LEAST_SECONDS, self._forecast(self._representative(stage.name, params, trials)))
            if seconds <= seconds_left:
                return Proposal(stage.name, params, recipe, seconds, "")
        return None

    def _candidates(
        self, name: str, trials: Sequence[TrialRecord]
    ) -> Iterator[tuple[str | None, Mapping[str, Scalar]]]:
        """Yield what a stage may propose: its recipes, then its variations, that were not tried; then what it holds."""
        stage, space = self._space.stages[name], self._space
        tried = {trial.recipe for trial in trials if trial.recipe is not None}
        for recipe in space.recipes:
            params = space.recipe(recipe)
            if recipe not in tried and stage_of(space, {**space.fixed, **params}) == name:
                yield recipe, params
        leaders = self._leaders(stage, name, trials)
        yield from ((None, params) for params in self._variations(stage, leaders, trials))
        if leaders or not stage.vary:
            yield None, self._held(stage, trials)

    def _leaders(self, stage: Stage, name: str, trials: Sequence[TrialRecord]) -> list[TrialRecord]:
        """Return the best trials of the stages before."""
        before = list(self._space.stages)[: list(self._space.stages).index(name)]
        best = [trial for trial in ranked(trials) if stage_of(self._space, trial.configuration) in before]
        return best[: stage.leaders]

    def _variations(
        self, stage: Stage, leaders: Sequence[TrialRecord], trials: Sequence[TrialRecord]
    ) -> Iterator[dict[str, Scalar]]:
        """Yield the leaders with each entry of ``vary``, the best leader first, less what was tried or proposed."""
        known = [dict(trial.params) for trial in trials]
        known += [dict(trial.proposal["params"]) for trial in trials if trial.proposal is not None]
        for leader in leaders:
            for entry in stage.vary:
                fit = fit_into(self._space, {**leader.configuration, **entry})
                if not fit.misfits and fit.params not in known:
                    yield fit.params

    def _held(self, stage: Stage, trials: Sequence[TrialRecord]) -> dict[str, Scalar]:
        """Return a value for each held parameter: of several, the best trial's, or any in every other trial."""
        rng = np.random.default_rng((self._seed, len(trials)))
        best = next((trial for trial in ranked(trials) if stage.contains(trial.configuration)), None)
        chosen: dict[str, Scalar] = {}
        for name, allowed in stage.allowed().items():
            drawn = allowed[rng.integers(len(allowed))]
            chosen[name] = drawn if best is None or rng.random() < _EXPLORES else best.configuration[name]
        return chosen

    def _representative(
        self, name: str, params: Mapping[str, Scalar], trials: Sequence[TrialRecord]
    ) -> Mapping[str, Scalar]:
        """Return a whole configuration for a forecast: what is left to the sampler as in the stage's best trial.

        Without one it is as in the stage's first recipe, or else as in the best trial of any stage.
        """
        space = self._space
        complete = ranked(trials)
        known = [trial.configuration for trial in complete if stage_of(space, trial.configuration) == name]
        known += [one for recipe in space.recipes if stage_of(space, one := self._whole(space.recipe(recipe))) == name]
        known += [trial.configuration for trial in complete]
        return {**self._whole(known[0] if known else {}), **params}

    def _whole(self, configuration: Mapping[str, Scalar]) -> dict[str, Scalar]:
        """Complete a configuration with defaults, or else with the first value of each parameter."""
        searched = self._space.searched.items()
        first = {name: each.default if each.has_default else each.extremes()[0] for name, each in searched}
        return {**self._space.fixed, **first, **configuration}


def _reason(first: Proposal, second: Proposal | None, gains: Mapping[str, float]) -> str:
    mine = f"{first.stage}: +{gains[first.stage]:.4f} expected in {first.seconds:.0f} s"
    if second is None:
        return f"{mine}; no other stage has a trial that fits"
    return f"{mine}; {second.stage}: +{gains[second.stage]:.4f} in {second.seconds:.0f} s"
