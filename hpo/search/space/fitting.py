"""Whether a configuration that was chosen in one space lies in another, and as which parameters of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hpo.model.hyperparameters import Hyperparameters
from hpo.search.space.allowed import Scalar
from hpo.search.space.search_space import SearchSpace


@dataclass(frozen=True)
class Fit:
    """What a configuration is in a space: its searched parameters, and those on which the two disagree."""

    params: dict[str, Scalar]
    misfits: tuple[str, ...]


def fit_into(space: SearchSpace, configuration: Mapping[str, Scalar]) -> Fit:
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
    return Fit(params, tuple(misfits))


def fit_exactly(space: SearchSpace, configuration: Hyperparameters) -> Fit:
    """Look for hyperparameters that ``space`` must give back unchanged, those that it does not mention included."""
    values = configuration.model_dump()
    fit = fit_into(space, values)
    if fit.misfits:
        return fit
    rebuilt = space.rebuild(fit.params).model_dump()
    return Fit(fit.params, tuple(name for name, value in values.items() if rebuilt[name] != value))
