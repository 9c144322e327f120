"""Does every parameter of a search space change what is trained? Asked of the training itself, not of a list of rules.

Configurations are drawn from the space. In each, one parameter takes several of its values while everything else stays
as it is, and the trials are run in a world of stand-ins (``stand_ins``) and compared: the loss of every epoch, and the
validation probabilities of the best. A parameter is dead when nothing that it can be makes a difference anywhere. Where
it is dead in some configurations only, one other parameter after another is changed until it comes to life; that
other parameter is what its ``when`` should look at. A few dozen drawn configurations prove life, and make death
likely: a parameter that needs a rare coincidence of others can be missed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, Literal, TypeAlias

import numpy as np

from hpo.data.shards import Array
from hpo.errors import HpoError
from hpo.model.hyperparameters import Hyperparameters
from hpo.search.space.allowed import Scalar, value_mistake
from hpo.search.space.parameters import Categorical, Parameter
from hpo.search.space.samples import draw
from hpo.search.space.search_space import SearchSpace
from hpo.search.stand_ins import SmallWorld, StandIns, Tried
from hpo.search.trial import EpochReport, run_trial

Verdict: TypeAlias = Literal["changes", "dead", "speed only", "cannot apply"]
SPEED_ONLY = {"compile": "computes the same, faster; in phase two only"}

_DRAWN = 128  # configurations to pick from
_LAST_RESORT = 12  # configurations in which a parameter is tried before it is called dead
_MOST_VALUES = 5
_TOLERANCE = 1e-6  # equal trials are equal to the last bit on one machine; this is for machines that are not so kind


@dataclass(frozen=True)
class Revival:
    """One other parameter that decides whether this one has an effect."""

    parameter: str
    dead_at: Scalar
    alive_at: Scalar


@dataclass(frozen=True)
class Finding:
    """What was found of one parameter."""

    parameter: str
    searched: bool  # or fixed
    values: tuple[Scalar, ...]
    verdict: Verdict
    alive_in: int = 0  # configurations
    of: int = 0
    alike: tuple[tuple[Scalar, Scalar], ...] = ()  # values that trained the same in every configuration
    revival: Revival | None = None  # for the first configuration in which it was dead
    reason: str = ""  # why it cannot apply

    @property
    def needs_when(self) -> bool:
        """Tell whether the sampler also chooses it where that is idle."""
        return self.searched and self.verdict == "changes" and self.alive_in < self.of


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


def examine(
    space: SearchSpace,
    world: SmallWorld,
    n_configurations: int = 4,
    seed: int = 0,
    progress: Callable[[str], None] = lambda _: None,
) -> list[Finding]:
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

    def __init__(self, space: SearchSpace, world: SmallWorld, n_configurations: int, seed: int) -> None:
        self._space, self._world, self._n_configurations, self._seed = space, world, n_configurations, seed
        self._tried = tried_values(space)
        self._stand_ins = StandIns(self._tried)
        coarse = _coarse(space, self._tried)
        drawn = [(params, coarse.rebuild(params)) for params in draw(coarse, _DRAWN, seed)]
        self._drawn = [drawn[at] for at in _diverse([chosen for _, chosen in drawn])]
        self._trained: dict[Hyperparameters, _Trained | str] = {}

    def finding(self, name: str) -> Finding:
        """Try the values of one parameter in one configuration after another."""
        finding = Finding(name, name in self._space.searched, tuple(self._tried[name]), "cannot apply")
        if name in SPEED_ONLY:
            return replace(finding, verdict="speed only", reason=SPEED_ONLY[name])
        alive: list[Hyperparameters] = []
        dead: list[Hyperparameters] = []
        unseen = set(combinations(finding.values, 2))  # pairs of values whose difference has not been seen
        reason = "no configuration has it" if len(finding.values) > 1 else "it has one value only"
        for chosen in self._configurations(name):
            if len(alive) + len(dead) >= self._n_configurations and not unseen:
                break
            told_apart = self._told_apart(name, chosen)
            if isinstance(told_apart, str):
                reason = told_apart
                continue
            unseen -= told_apart
            (alive if told_apart else dead).append(chosen)
        if not alive and not dead:
            return replace(finding, reason=reason)
        return replace(
            finding,
            verdict="changes" if alive else "dead",
            alive_in=len(alive),
            of=len(alive) + len(dead),
            alike=tuple(pair for pair in combinations(finding.values, 2) if alive and pair in unseen),
            revival=self._revival(name, dead[0]) if dead else None,
        )

    def _configurations(self, name: str) -> Iterator[Hyperparameters]:
        with_it = (chosen for params, chosen in self._drawn if name in params or name in self._space.fixed)
        yield from (chosen for _, chosen in zip(range(max(_LAST_RESORT, self._n_configurations)), with_it, strict=False))

    def _told_apart(self, name: str, chosen: Hyperparameters) -> set[tuple[Scalar, Scalar]] | str:
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
            result = run_trial(small, world.train, world.val, world.source, "mean_ap", self._seed, reports.append)
        except HpoError as error:
            return str(error)
        epochs = [(report.train_loss, *report.scores.headline().values()) for report in reports]
        return _Trained(epochs, result.val_probabilities)

    def _revival(self, name: str, dead: Hyperparameters) -> Revival | None:
        """Change one other parameter of a configuration, its limits apart, until ``name`` has an effect in it."""
        for other in sorted(Hyperparameters.model_fields.keys() - {name}, key=self._rank):
            for value in self._tried[other]:
                now = getattr(dead, other)
                if value != now and (told_apart := self._told_apart(name, dead.model_copy(update={other: value}))):
                    if not isinstance(told_apart, str):
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
    for name, field in Hyperparameters.model_fields.items():
        if name not in tried:
            value = space.fixed.get(name, field.default)
            tried[name] = [value, *alternatives(name, value)[:1]]
    return tried


def _spread(name: str, parameter: Parameter, space: SearchSpace) -> list[Scalar]:
    """Up to _MOST_VALUES values, ends included, and those that conditions look at."""
    values = parameter.values()
    if values is None or (parameter.type != "categorical" and len(values) >= _MOST_VALUES):
        values = list(dict.fromkeys(parameter.extremes()))
    at = np.unique(np.linspace(0, len(values) - 1, min(len(values), _MOST_VALUES)).round().astype(int))
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
