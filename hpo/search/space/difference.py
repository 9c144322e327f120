"""What differs between two spaces."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from hpo.search.space.allowed import Scalar
from hpo.search.space.parameters import Parameter
from hpo.search.space.search_space import SearchSpace

Sides: TypeAlias = dict[str, Any]  # "first" and "second" → what stands there; left out where nothing does


@dataclass(frozen=True)
class Difference:
    """By name, what the two spaces say of it, for whatever is not the same in both."""

    parameters: dict[str, Sides]
    recipes: dict[str, Sides]
    weights: dict[str, Sides]
    same_study: bool  # a study of the one can go on with the other


def compare(first: SearchSpace, second: SearchSpace) -> Difference:
    """Compare two spaces."""
    return Difference(
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
