"""Differences between two search spaces, and whether recorded trials fit a space."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from hpo.model.config import TrialConfig
from hpo.space.parameters import Categorical, Parameter
from hpo.space.schema import Scalar, listed, spelled
from hpo.space.space import SearchSpace

# Whether a configuration that was chosen in one space lies in another, and as which parameters of it.


@dataclass(frozen=True)
class SpaceFit:
    """What a configuration is in a space: its searched parameters, and those on which the two disagree."""

    params: dict[str, Scalar]
    misfits: tuple[str, ...]


def fit_into(space: SearchSpace, configuration: Mapping[str, Scalar]) -> SpaceFit:
    """Look for a configuration in ``space``.

    A searched parameter that applies must be there with a value that the space allows; a fixed one that is there must
    have the space's value. Hyperparameters that the space does not mention are not looked at.
    """
    misfits = [name for name, value in space.fixed.items() if configuration.get(name, value) != value]
    params: dict[str, Scalar] = {}
    for name, parameter in space.searched.items():
        if not parameter.applies({**space.fixed, **params}):
            continue
        if name in configuration and parameter.holds(configuration[name]):
            params[name] = configuration[name]
        else:
            misfits.append(name)
    return SpaceFit(params, tuple(misfits))


def fit_exactly(space: SearchSpace, configuration: TrialConfig) -> SpaceFit:
    """Look for hyperparameters that ``space`` must give back unchanged, those that it does not mention included."""
    values = configuration.model_dump()
    fit = fit_into(space, values)
    if fit.misfits:
        return fit
    rebuilt = space.rebuild(fit.params).model_dump()
    return SpaceFit(fit.params, tuple(name for name, value in values.items() if rebuilt[name] != value))


_ABSENT = object()
Sides: TypeAlias = dict[str, Any]  # "first" and "second" → what stands there; left out where nothing does


@dataclass(frozen=True)
class SpaceDifference:
    """By name, what the two spaces say of it, for whatever is not the same in both."""

    parameters: dict[str, Sides]
    recipes: dict[str, Sides]
    weights: dict[str, Sides]
    same_study: bool  # a study of the one can continue with the other


def compare(first: SearchSpace, second: SearchSpace) -> SpaceDifference:
    """Compare two spaces."""
    return SpaceDifference(
        _different(_parameters(first), _parameters(second)),
        _different(first.recipes, second.recipes),
        _different(first.weights, second.weights),
        first.fingerprint == second.fingerprint,
    )


def _parameters(space: SearchSpace) -> dict[str, Parameter | Scalar]:
    return {**space.searched, **space.fixed}


def _different(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Sides]:
    names = dict.fromkeys([*first, *second])
    sides = {
        name: {side: there[name] for side, there in (("first", first), ("second", second)) if name in there}
        for name in names
    }
    return {name: found for name, found in sides.items() if len(found) < 2 or found["first"] != found["second"]}


def in_words(first: SearchSpace, second: SearchSpace) -> str:
    """Say what a study of ``first`` finds changed in ``second``: ``backbone: + b; dropout: 0 to 0.5 → 0 to 0.7``."""
    difference = compare(first, second)
    parameters = {
        name: _change(sides.get("first", _ABSENT), sides.get("second", _ABSENT))
        for name, sides in difference.parameters.items()
    }
    changes = [f"{name}: {change}" for name, change in parameters.items() if change]
    kept = set(first.backbones) & set(second.backbones)
    return "; ".join([*changes, *(f"weights of {name}" for name in difference.weights if name in kept)])


def _change(first: Any, second: Any) -> str:
    """One parameter; nothing where only its default is another, which binds no study."""
    if isinstance(first, Categorical) and isinstance(second, Categorical) and first.choices != second.choices:
        new = [value for value in second.choices if value not in first.choices]
        gone = [value for value in first.choices if value not in second.choices]
        parts = [f"{sign} {listed(values, 'and')}" for sign, values in (("+", new), ("-", gone)) if values]
        return ", ".join(parts) or "another order"
    before, after = _side_in_words(first), _side_in_words(second)
    if before != after:
        return f"{before} → {after}"
    return _rest(first, second)


def _rest(first: Any, second: Any) -> str:
    """What two sides of the same words differ in."""
    if isinstance(first, Parameter) and isinstance(second, Parameter):
        if first.when != second.when:
            return "other conditions"
        return "" if first.model_copy(update={"default": second.default}) == second else "another kind of number"
    return "not quite the same"


def _side_in_words(side: Any) -> str:
    if side is _ABSENT:
        return "its default"
    return str(side.in_words()) if isinstance(side, Parameter) else f"fixed at {spelled(side)}"
