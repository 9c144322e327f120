"""Find parameters of a search space that have no effect on training, by training proxy networks.

Configurations are drawn from the space. In each, one parameter takes several of its values while all others keep
theirs; the trials run on the proxy task (``proxy_task``) and are compared: the loss of every epoch, and the validation
probabilities of the best. A parameter has no effect if none of its values changes anything in any configuration. Where
it has an effect in some configurations only, the check changes one other parameter at a time until the effect appears:
that interaction is what a ``when`` of the space should express. A difference in any sampled configuration proves an
effect; no difference in a few dozen makes one unlikely, but an effect that needs a rare combination can be missed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations, islice
from typing import Any, Literal, TypeAlias

import numpy as np

from hpo.doctor.proxy_task import ProxyNetworks, ProxyTask, Tried
from hpo.errors import HpoError
from hpo.model.config import TrialConfig
from hpo.runtime.atomic import Array
from hpo.space.parameters import Categorical, Parameter
from hpo.space.schema import Scalar, value_mistake
from hpo.space.space import SearchSpace
from hpo.study.samplers import draw
from hpo.trial.objective import Objective
from hpo.trial.trial import EpochReport, TrialInputs, run_trial

Verdict: TypeAlias = Literal["changes", "no effect", "speed only", "cannot apply"]
Pair: TypeAlias = tuple[Scalar, Scalar]  # of values
SPEED_ONLY = {"compile": "computes the same, faster; in phase two only"}

_DRAWN = 128  # configurations to pick from
_MOST_CONFIGURATIONS = 12  # in which a parameter is tried before it is reported as without effect
_MOST_VALUES = 5
_MOST_BACKBONES = 3  # each is a network more to build and to run over all posters
_TOLERANCE = 1e-6  # equal trials are equal to the last bit on one machine, but not on every kind of machine


@dataclass(frozen=True)
class Interaction:
    """One other parameter that decides whether this one has an effect."""

    parameter: str
    idle_at: Scalar
    active_at: Scalar


@dataclass(frozen=True)
class ParameterEffect:
    """The effect of one parameter on training."""

    parameter: str
    searched: bool  # or fixed
    values: tuple[Scalar, ...]
    verdict: Verdict
    active_in: int = 0  # configurations
    of: int = 0
    alike: tuple[Pair, ...] = ()  # values that trained the same in every configuration
    interaction: Interaction | None = None  # in the first configuration where it had no effect
    reason: str = ""  # why it cannot apply

    @property
    def needs_when(self) -> bool:
        """Say whether the sampler also chooses it where it is idle, for another reason than the proxy network."""
        is_idle = self.verdict == "changes" and self.active_in < self.of
        return self.searched and is_idle and self.interaction is not None and self.interaction.parameter != "backbone"


@dataclass(frozen=True, eq=False)
class _Trained:
    """The outcome of a trial, as far as it distinguishes two trials."""

    epochs: Sequence[Sequence[float]]  # of each the loss and the scores
    probabilities: Array  # (N_val, L), of the best epoch

    def differs(self, other: _Trained) -> bool:
        if len(self.epochs) != len(other.epochs):
            return True
        pairs = ((self.epochs, other.epochs), (self.probabilities, other.probabilities))
        return not all(np.allclose(one, two, rtol=_TOLERANCE, atol=_TOLERANCE) for one, two in pairs)


@dataclass
class _Evidence:
    """The configurations tried so far for one parameter."""

    alike: list[Pair]  # not distinguished yet
    active: list[TrialConfig] = field(default_factory=list)
    idle: list[TrialConfig] = field(default_factory=list)
    reason: str = "no configuration has it"

    def add(self, config: TrialConfig, distinguished: set[Pair] | str) -> None:
        if isinstance(distinguished, str):
            self.reason = distinguished
            return
        self.alike = [pair for pair in self.alike if pair not in distinguished]
        (self.active if distinguished else self.idle).append(config)


def examine(
    space: SearchSpace,
    task: ProxyTask,
    n_configurations: int = 4,
    seed: int = 0,
    progress: Callable[[str], None] = lambda _: None,
) -> list[ParameterEffect]:
    """Return the effect of every parameter of ``space``, searched or fixed, in the order of the space.

    Each is tried in ``n_configurations``, and in more where it has not shown an effect yet. ``progress`` receives the
    name of each parameter before its turn.
    """
    examination = _Examination(space, task, n_configurations, seed)
    findings = []
    for name in (*space.searched, *space.fixed):
        progress(name)
        findings.append(examination.finding(name))
    return findings


class _Examination:
    """The configurations of one space, and the trials run so far: parameters share those that are equal."""

    def __init__(self, space: SearchSpace, task: ProxyTask, n_configurations: int, seed: int) -> None:
        self._space, self._task, self._n_configurations, self._seed = space, task, n_configurations, seed
        self._tried = tried_values(space)
        self._networks = ProxyNetworks(self._tried)
        coarse = _coarse(space, self._tried)
        drawn = [(params, coarse.rebuild(params)) for params in draw(coarse, _DRAWN, seed)]
        self._drawn = [drawn[at] for at in _diverse([config for _, config in drawn])]
        self._trained: dict[TrialConfig, _Trained | str] = {}

    def finding(self, name: str) -> ParameterEffect:
        """Return the effect of one parameter."""
        finding = ParameterEffect(name, name in self._space.searched, tuple(self._tried[name]), "cannot apply")
        if name in SPEED_ONLY:
            return replace(finding, verdict="speed only", reason=SPEED_ONLY[name])
        seen = self._evidence(name)
        if not seen.active and not seen.idle:
            return replace(finding, reason=seen.reason)
        interaction = self._interaction(name, seen) if seen.idle else None
        # A proxy network may lack what a parameter changes (residual branches, say): that says nothing of the real one.
        has_effect = seen.active or (interaction is not None and interaction.parameter == "backbone")
        return replace(
            finding,
            verdict="changes" if has_effect else "no effect",
            active_in=len(seen.active),
            of=len(seen.active) + len(seen.idle),
            alike=tuple(pair for pair in seen.alike if seen.active),
            interaction=interaction,
        )

    def _evidence(self, name: str) -> _Evidence:
        """Try one parameter in one configuration after another, until all of its values are distinguished."""
        seen = _Evidence(list(combinations(self._tried[name], 2)))
        for config in self._configurations(name):
            if len(seen.active) + len(seen.idle) >= self._n_configurations and not seen.alike:
                break
            seen.add(config, self._distinguished(name, config))
        return seen

    def _configurations(self, name: str) -> Iterator[TrialConfig]:
        """The drawn configurations that have the parameter, as many as are tried at most."""
        having = (config for params, config in self._drawn if name in params or name in self._space.fixed)
        return islice(having, max(_MOST_CONFIGURATIONS, self._n_configurations))

    def _distinguished(self, name: str, config: TrialConfig) -> set[Pair] | str:
        """Return the pairs of values that train differently, everything else equal; or why fewer than two can."""
        trained = {value: self._train(config.model_copy(update={name: value}), name) for value in self._tried[name]}
        possible = {value: result for value, result in trained.items() if isinstance(result, _Trained)}
        if len(possible) < 2:
            return next((result for result in trained.values() if isinstance(result, str)), "it has one value only")
        return {(a, b) for a, b in combinations(possible, 2) if possible[a].differs(possible[b])}

    def _train(self, config: TrialConfig, examined: str) -> _Trained | str:
        """Run the trial, or return why it is impossible."""
        small = self._networks.shrink(config, examined)
        if small not in self._trained:
            self._trained[small] = self._run(small)
        return self._trained[small]

    def _run(self, small: TrialConfig) -> _Trained | str:
        reports: list[EpochReport] = []
        task = self._task
        try:
            result = run_trial(
                small, TrialInputs(task.train, task.val, task.source, Objective("mean_ap"), self._seed, reports.append)
            )
        except HpoError as error:
            return str(error)
        epochs = [(report.train_loss, *report.scores.headline().values()) for report in reports]
        return _Trained(epochs, result.val_probabilities)

    def _interaction(self, name: str, seen: _Evidence) -> Interaction | None:
        """Change one other parameter at a time in a configuration where ``name`` is idle until it has an effect.

        Where ``name`` has an effect in another configuration, only the values of that one are tried.
        """
        idle = seen.idle[0]
        for other in sorted(TrialConfig.model_fields.keys() - {name}, key=self._rank):
            now = getattr(idle, other)
            values = [getattr(seen.active[0], other)] if seen.active else self._tried[other]
            for value in (value for value in values if value != now):
                distinguished = self._distinguished(name, idle.model_copy(update={other: value}))
                if distinguished and not isinstance(distinguished, str):
                    return Interaction(other, now, value)
        return None

    def _rank(self, name: str) -> int:
        """What the space lets vary comes first, then what it fixes, then what it does not mention."""
        known = [*self._space.searched, *self._space.fixed]
        return known.index(name) if name in known else len(known) + list(TrialConfig.model_fields).index(name)


def tried_values(space: SearchSpace) -> Tried:
    """Return what to try of every hyperparameter.

    Of a searched one: its choices, or the ends of its range. Of the others: what the space or the default says, and
    something else.
    """
    tried = {name: _spread(name, parameter, space) for name, parameter in space.searched.items()}
    for name, declared in TrialConfig.model_fields.items():
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
    schema: dict[str, Any] = TrialConfig.model_json_schema()["properties"][name]
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


def _diverse(configurations: Sequence[TrialConfig]) -> list[int]:
    """Order configurations so that the first few have had every value of every parameter between them."""
    values = [set(config.model_dump().items()) for config in configurations]
    seen: set[tuple[str, Any]] = set()
    order: list[int] = []
    remaining = list(range(len(values)))
    while remaining:
        best = max(remaining, key=lambda at: len(values[at] - seen))
        seen |= values[best]
        order.append(best)
        remaining.remove(best)
    return order
