"""Find parameters of a search space that have no effect on training, by training proxy networks.

Asked of the training itself, not of a list of rules.

Configurations are drawn from the space. In each, one parameter takes several of its values while everything else stays
as it is, and the trials are run in a world of stand-ins (``stand_ins``) and compared: the loss of every epoch, and the
validation probabilities of the best. A parameter is dead when nothing that it can be makes a difference anywhere. Where
it is dead in some configurations only, one other parameter after another is changed until it comes to life; that
other parameter is what its ``when`` should look at. A few dozen drawn configurations prove life, and make death
likely: a parameter that needs a rare coincidence of others can be missed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations, islice
from typing import Any, Literal, TypeAlias

import numpy as np

from hpo.doctor.toy_problem import ProxyNetworks, ProxyTask, Tried
from hpo.errors import HpoError
from hpo.model.config import Hyperparameters
from hpo.runtime.atomic import Array
from hpo.space.parameters import Categorical, Parameter
from hpo.space.schema import Scalar, value_mistake
from hpo.space.space import SearchSpace
from hpo.study.samplers import draw
from hpo.trial.objective import Objective
from hpo.trial.trial import EpochReport, run_trial

Verdict: TypeAlias = Literal["changes", "dead", "speed only", "cannot apply"]
Pair: TypeAlias = tuple[Scalar, Scalar]  # of values
SPEED_ONLY = {"compile": "computes the same, faster; in phase two only"}

_DRAWN = 128  # configurations to pick from
_LAST_RESORT = 12  # configurations in which a parameter is tried before it is called dead
_MOST_VALUES = 5
_MOST_BACKBONES = 3  # each is a network more to build and to run over all posters
_TOLERANCE = 1e-6  # equal trials are equal to the last bit on one machine; this is for machines that are not so kind


@dataclass(frozen=True)
class Revival:
    """One other parameter that decides whether this one has an effect."""

    parameter: str
    dead_at: Scalar
    alive_at: Scalar


@dataclass(frozen=True)
class ParameterEffect:
    """What was found of one parameter."""

    parameter: str
    searched: bool  # or fixed
    values: tuple[Scalar, ...]
    verdict: Verdict
    alive_in: int = 0  # configurations
    of: int = 0
    alike: tuple[Pair, ...] = ()  # values that trained the same in every configuration
    revival: Revival | None = None  # for the first configuration in which it was dead
    reason: str = ""  # why it cannot apply

    @property
    def needs_when(self) -> bool:
        """Tell whether the sampler also chooses it where that is idle, for another reason than the stand-in's."""
        is_idle = self.verdict == "changes" and self.alive_in < self.of
        return self.searched and is_idle and self.revival is not None and self.revival.parameter != "backbone"


@dataclass(frozen=True, eq=False)
class _Trained:
    """What a trial came to, as far as it tells two trials apart."""

    epochs: Sequence[Sequence[float]]  # of each the loss and the scores
    probabilities: Array  # (N_val, L), of the best epoch

    def differs(self, other: _Trained) -> bool:
        if len(self.epochs) != len(other.epochs):
            return True
        pairs = ((self.epochs, other.epochs), (self.probabilities, other.probabilities))
        return not all(np.allclose(one, two, rtol=_TOLERANCE, atol=_TOLERANCE) for one, two in pairs)


@dataclass
class _Evidence:
    """What the configurations tried so far say of one parameter."""

    alike: list[Pair]  # not told apart yet
    alive: list[Hyperparameters] = field(default_factory=list)
    dead: list[Hyperparameters] = field(default_factory=list)
    reason: str = "no configuration has it"

    def add(self, chosen: Hyperparameters, told_apart: set[Pair] | str) -> None:
        if isinstance(told_apart, str):
            self.reason = told_apart
            return
        self.alike = [pair for pair in self.alike if pair not in told_apart]
        (self.alive if told_apart else self.dead).append(chosen)


def examine(
    space: SearchSpace,
    world: ProxyTask,
    n_configurations: int = 4,
    seed: int = 0,
    progress: Callable[[str], None] = lambda _: None,
) -> list[ParameterEffect]:
    """Return a finding for every parameter of ``space``, searched or fixed, in the order of the space.

    Each is tried in ``n_configurations``, and in more where it has not shown an effect yet. ``progress`` is told the
    name of each parameter before its turn.
    """
    examination = _Examination(space, world, n_configurations, seed)
    findings = []
    for name in (*space.searched, *space.fixed):
        progress(name)
        findings.append(examination.finding(name))
    return findings


class _Examination:
    """The configurations of one space, and the trials run so far: parameters share those that are equal."""

    def __init__(self, space: SearchSpace, world: ProxyTask, n_configurations: int, seed: int) -> None:
        self._space, self._world, self._n_configurations, self._seed = space, world, n_configurations, seed
        self._tried = tried_values(space)
        self._stand_ins = ProxyNetworks(self._tried)
        coarse = _coarse(space, self._tried)
        drawn = [(params, coarse.rebuild(params)) for params in draw(coarse, _DRAWN, seed)]
        self._drawn = [drawn[at] for at in _diverse([chosen for _, chosen in drawn])]
        self._trained: dict[Hyperparameters, _Trained | str] = {}

    def finding(self, name: str) -> ParameterEffect:
        """Say what becomes of one parameter."""
        finding = ParameterEffect(name, name in self._space.searched, tuple(self._tried[name]), "cannot apply")
        if name in SPEED_ONLY:
            return replace(finding, verdict="speed only", reason=SPEED_ONLY[name])
        seen = self._evidence(name)
        if not seen.alive and not seen.dead:
            return replace(finding, reason=seen.reason)
        revival = self._revival(name, seen) if seen.dead else None
        # A stand-in that lacks what a parameter changes (residual branches, say) tells nothing of the network itself.
        lives = seen.alive or (revival is not None and revival.parameter == "backbone")
        return replace(
            finding,
            verdict="changes" if lives else "dead",
            alive_in=len(seen.alive),
            of=len(seen.alive) + len(seen.dead),
            alike=tuple(pair for pair in seen.alike if seen.alive),
            revival=revival,
        )

    def _evidence(self, name: str) -> _Evidence:
        """Try one parameter in one configuration after another, until all of its values have been told apart."""
        seen = _Evidence(list(combinations(self._tried[name], 2)))
        for chosen in self._configurations(name):
            if len(seen.alive) + len(seen.dead) >= self._n_configurations and not seen.alike:
                break
            seen.add(chosen, self._told_apart(name, chosen))
        return seen

    def _configurations(self, name: str) -> Iterator[Hyperparameters]:
        """The drawn configurations that have the parameter, as many as are tried at most."""
        having = (chosen for params, chosen in self._drawn if name in params or name in self._space.fixed)
        return islice(having, max(_LAST_RESORT, self._n_configurations))

    def _told_apart(self, name: str, chosen: Hyperparameters) -> set[Pair] | str:
        """Return the pairs of values that train differently, everything else equal; or why fewer than two can."""
        trained = {value: self._train(chosen.model_copy(update={name: value}), name) for value in self._tried[name]}
        possible = {value: result for value, result in trained.items() if isinstance(result, _Trained)}
        if len(possible) < 2:
            return next((result for result in trained.values() if isinstance(result, str)), "it has one value only")
        return {(a, b) for a, b in combinations(possible, 2) if possible[a].differs(possible[b])}

    def _train(self, chosen: Hyperparameters, examined: str) -> _Trained | str:
        """Run the trial, or return why it is impossible."""
        small = self._stand_ins.shrink(chosen, examined)
        if small not in self._trained:
            self._trained[small] = self._run(small)
        return self._trained[small]

    def _run(self, small: Hyperparameters) -> _Trained | str:
        reports: list[EpochReport] = []
        world = self._world
        try:
            result = run_trial(
                small, world.train, world.val, world.source, Objective("mean_ap"), self._seed, reports.append
            )
        except HpoError as error:
            return str(error)
        epochs = [(report.train_loss, *report.scores.headline().values()) for report in reports]
        return _Trained(epochs, result.val_probabilities)

    def _revival(self, name: str, seen: _Evidence) -> Revival | None:
        """Change one other parameter of a dead configuration after the other until ``name`` has an effect in it.

        Where ``name`` is alive elsewhere, only what differs there is tried.
        """
        dead = seen.dead[0]
        for other in sorted(Hyperparameters.model_fields.keys() - {name}, key=self._rank):
            now = getattr(dead, other)
            values = [getattr(seen.alive[0], other)] if seen.alive else self._tried[other]
            for value in (value for value in values if value != now):
                told_apart = self._told_apart(name, dead.model_copy(update={other: value}))
                if told_apart and not isinstance(told_apart, str):
                    return Revival(other, now, value)
        return None

    def _rank(self, name: str) -> int:
        """What the space lets vary comes first, then what it fixes, then what it does not mention."""
        known = [*self._space.searched, *self._space.fixed]
        return known.index(name) if name in known else len(known) + list(Hyperparameters.model_fields).index(name)


def tried_values(space: SearchSpace) -> Tried:
    """Return what to try of every hyperparameter.

    Of a searched one: its choices, or the ends of its range. Of the others: what the space or the default says, and
    something else.
    """
    tried = {name: _spread(name, parameter, space) for name, parameter in space.searched.items()}
    for name, declared in Hyperparameters.model_fields.items():
        if name not in tried:
            value = space.fixed.get(name, declared.default)
            tried[name] = [value, *alternatives(name, value)[:1]]
    return tried


def _spread(name: str, parameter: Parameter, space: SearchSpace) -> list[Scalar]:
    """A few values, ends included, and those that conditions look at."""
    most = _MOST_BACKBONES if name == "backbone" else _MOST_VALUES
    values = parameter.values()
    if values is None or (parameter.type != "categorical" and len(values) >= _MOST_VALUES):
        values = list(dict.fromkeys(parameter.extremes()))
    at = np.unique(np.linspace(0, len(values) - 1, min(len(values), most)).round().astype(int))
    looked_at = [value for other in space.searched.values() for value in other.when.get(name, [])[:1]]
    return list(dict.fromkeys([*(values[row] for row in at), *filter(parameter.holds, looked_at)]))


def alternatives(name: str, value: Scalar) -> list[Scalar]:
    """Return other values that hyperparameter ``name`` may have, far enough from ``value`` to make a difference."""
    if name == "backbone":
        return ["another"]
    schema: dict[str, Any] = Hyperparameters.model_json_schema()["properties"][name]
    candidates = [other for option in schema.get("anyOf", [schema]) for other in _candidates(option, value)]
    return [other for other in candidates if other != value and value_mistake(name, other) is None]


def _candidates(option: dict[str, Any], value: Scalar) -> list[Scalar]:
    if "enum" in option or "const" in option:
        return list(option.get("enum") or [option["const"]])
    if option["type"] == "boolean":
        return [not value]
    if option["type"] not in ("integer", "number"):
        return []
    low = option.get("minimum", option.get("exclusiveMinimum", 0))
    high = option.get("maximum", option.get("exclusiveMaximum", low + 1))
    middle = (low + high) / 2
    numbers = [value * 4, value / 4, middle] if isinstance(value, int | float) else [middle]
    return [round(number) for number in numbers] if option["type"] == "integer" else list(numbers)


def _coarse(space: SearchSpace, tried: Tried) -> SearchSpace:
    """The space with nothing left to choose but the values that are tried: equal configurations are trained once."""
    searched: dict[str, Parameter] = {
        name: Categorical(type="categorical", choices=list(tried[name]), when=parameter.when)
        for name, parameter in space.searched.items()
    }
    return replace(space, searched=searched)


def _diverse(configurations: Sequence[Hyperparameters]) -> list[int]:
    """Order configurations so that the first few have had every value of every parameter between them."""
    values = [set(chosen.model_dump().items()) for chosen in configurations]
    seen: set[tuple[str, Any]] = set()
    order: list[int] = []
    remaining = list(range(len(values)))
    while remaining:
        best = max(remaining, key=lambda at: len(values[at] - seen))
        seen |= values[best]
        order.append(best)
        remaining.remove(best)
    return order
