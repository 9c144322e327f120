"""Count the configurations of a space.

Continuous parameters are counted apart. Of the others, a parameter on which no condition looks multiplies the count by
the number of its values wherever it applies; one on which conditions look is split into the groups of values that the
conditions distinguish. So the count is exact and takes no longer for wide ranges.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

from hpo.model.config import TrialConfig
from hpo.space.parameters import Parameter
from hpo.space.schema import Scalar
from hpo.space.space import SearchSpace

Chosen = Mapping[str, Scalar]


@dataclass(frozen=True)
class Combinations:
    """The size of a space."""

    discrete: int  # ways to choose every parameter that is not continuous, conditions respected
    continuous: int  # parameters beside them that are

    def __str__(self) -> str:
        return f"{self.discrete:,}" + (f" × {self.continuous} continuous" if self.continuous else "")


def count_combinations(space: SearchSpace) -> Combinations:
    """Count the configurations of ``space``."""
    discrete = {name: parameter for name, parameter in space.searched.items() if parameter.values() is not None}
    families = _families({name: discrete[name] for name in discrete if _can_apply(space, name)})
    ways = prod(_ways([name for name in discrete if name in family], space, space.fixed) for family in families)
    return Combinations(ways, len(space.searched) - len(discrete))


def meeting_values(space: SearchSpace, names: Collection[str]) -> Iterator[dict[str, Scalar]]:
    """Yield the values of the discrete parameters ``names`` that can meet in one configuration, some more than once."""
    involved = _with_conditions(space, names)

    def descend(remaining: Sequence[str], chosen: Chosen) -> Iterator[Chosen]:
        if not remaining:
            yield chosen
            return
        name, rest = remaining[0], remaining[1:]
        parameter = space.searched[name]
        if not parameter.applies(chosen):
            yield from descend(rest, chosen)
            return
        values = _values(parameter) if name in names else list(_groups(space, name))
        for value in values:
            yield from descend(rest, {**chosen, name: value})

    for chosen in descend(involved, space.fixed):
        yield {name: chosen.get(name, TrialConfig.model_fields[name].default) for name in names}


def _values(parameter: Parameter) -> Sequence[Scalar]:
    values = parameter.values()
    return parameter.extremes() if values is None else values


def _families(searched: Mapping[str, Parameter]) -> list[set[str]]:
    """Parameters that conditions tie together, directly or through others: families are independent."""
    families: list[set[str]] = []
    for name, parameter in searched.items():
        tied = {name, *(other for other in parameter.when if other in searched)}
        related = [family for family in families if family & tied]
        families = [*(family for family in families if family not in related), tied.union(*related)]
    return families


def _can_apply(space: SearchSpace, name: str) -> bool:
    """Return whether the conditions on fixed parameters let this one apply."""
    when = space.searched[name].when
    return all(space.fixed[other] in values for other, values in when.items() if other in space.fixed)


def _ways(names: Sequence[str], space: SearchSpace, chosen: Chosen) -> int:
    """Count the ways to choose ``names``, which come in the order of the space."""
    if not names:
        return 1
    name, rest = names[0], names[1:]
    if not space.searched[name].applies(chosen):
        return _ways(rest, space, chosen)
    if not any(name in space.searched[other].when for other in rest):
        return len(_values(space.searched[name])) * _ways(rest, space, chosen)
    groups = _groups(space, name)
    return sum(n * _ways(rest, space, {**chosen, name: value}) for value, n in groups.items())


def _groups(space: SearchSpace, name: str) -> dict[Scalar, int]:
    """The first value of each group that the conditions on ``name`` distinguish → how many values are in the group."""
    conditions = [parameter.when[name] for parameter in space.searched.values() if name in parameter.when]
    first: dict[tuple[bool, ...], Scalar] = {}
    sizes: Counter[Scalar] = Counter()
    for value in _values(space.searched[name]):
        signature = tuple(value in condition for condition in conditions)
        sizes[first.setdefault(signature, value)] += 1
    return dict(sizes)


def _with_conditions(space: SearchSpace, names: Collection[str]) -> list[str]:
    """``names`` and all that their conditions look at, as far as they are searched, in the order of the space."""
    involved = set(names)
    for name in reversed(list(space.searched)):
        if name in involved:
            involved |= set(space.searched[name].when)
    return [name for name in space.searched if name in involved]
