"""A validated search space: suggests configurations and restores them from Optuna's record."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from hpo.errors import SpaceError
from hpo.model.config import FUSE, TrialConfig
from hpo.space.parameters import Categorical, Parameter, SuggestsValues
from hpo.space.schema import Scalar
from hpo.space.stages import Stage


@dataclass(frozen=True)
class SearchSpace:
    """The parameters that are searched, those that are fixed, and the recipes that are tried first.

    ``searched`` is in an order in which a parameter stands below those that its condition looks at. A hyperparameter
    that is neither searched nor fixed, or whose condition does not hold, has the default of ``TrialConfig``.
    """

    name: str
    searched: Mapping[str, Parameter]
    fixed: Mapping[str, Scalar]
    recipes: Mapping[str, Mapping[str, Scalar]]
    weights: Mapping[str, str]  # single backbone → auto, hub, random or a file
    stages: Mapping[str, Stage] = field(default_factory=dict)  # in order; none: the whole space from the start

    def sample(self, trial: SuggestsValues) -> TrialConfig:
        """Let ``trial`` choose every parameter that applies."""
        chosen = dict(self.fixed)
        for name, parameter in self.searched.items():
            if parameter.applies(chosen):
                chosen[name] = parameter.suggest(trial, name)
        return TrialConfig.model_validate(chosen)

    def rebuild(self, params: Mapping[str, Scalar]) -> TrialConfig:
        """Return the hyperparameters of a finished trial from the ``params`` that Optuna kept of it."""
        return TrialConfig.model_validate({**self.fixed, **params})

    def recipe(self, name: str) -> dict[str, Scalar]:
        """Return what to enqueue for a recipe: its values, and defaults, of the searched parameters that apply to it.

        What is left out and has no default is left to the sampler.
        """
        written = self.recipes[name]
        enqueued: dict[str, Scalar] = {}
        undecided: set[str] = set()
        for key, parameter in self.searched.items():
            if not parameter.applies({**self.fixed, **enqueued}, undecided):
                continue
            if key in written or parameter.has_default:
                enqueued[key] = written.get(key, parameter.default)
            else:
                undecided.add(key)
        return enqueued

    def first_recipes(self) -> list[str]:
        """Return the recipes that a search begins with: those of the first stage, or all where there are no stages."""
        first = next(iter(self.stages.values()), None)
        return [name for name in self.recipes if first is None or first.contains({**self.fixed, **self.recipe(name)})]

    @property
    def finetunes_at_once(self) -> bool:
        """Whether trials are fine-tuned from the first on, and not in a later stage."""
        return not self.stages and any(value != "none" for value in self.values_of("unfreeze"))

    @property
    def backbone_choices(self) -> tuple[str, ...]:
        """What ``backbone`` can be, fused ones as they are written (``a+b``)."""
        parameter = self.searched.get("backbone")
        return (str(self.fixed["backbone"]),) if parameter is None else tuple(map(str, parameter.extremes()))

    @property
    def backbones(self) -> tuple[str, ...]:
        """The single backbones that a trial can need, each once."""
        return tuple(dict.fromkeys(name for choice in self.backbone_choices for name in choice.split(FUSE)))

    def values_of(self, name: str) -> list[Scalar]:
        """Return what a parameter can be: its value, its choices, or the ends of its range; nothing at its default."""
        if name in self.fixed:
            return [self.fixed[name]]
        return self.searched[name].extremes() if name in self.searched else []

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits over the parameters and weights, which a study cannot change while it lives."""
        searched = {name: parameter.model_dump(exclude={"default"}) for name, parameter in self.searched.items()}
        content = json.dumps([searched, dict(self.fixed), dict(self.weights)], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    def without_backbones(self, names: Collection[str]) -> SearchSpace:
        """Return this space without the single backbones ``names``, and without whatever needs one of them.

        That is fused choices, conditions on them with the parameters that would never apply, and recipes. Raises
        SpaceError when no backbone is left.
        """
        lost = {choice for choice in self.backbone_choices if not set(names).isdisjoint(choice.split(FUSE))}
        if lost.issuperset(self.backbone_choices):
            raise SpaceError(
                f"Expected a backbone of the search space {self.name} to be left, but all of them are taken out "
                f"({', '.join(self.backbone_choices)}): name weight files that are here under 'weights:', or choose "
                "another space with --space."
            )
        return replace(
            self,
            searched=_without_choices(self.searched, lost, {*self.fixed}),
            recipes={name: recipe for name, recipe in self.recipes.items() if recipe.get("backbone") not in lost},
            weights={name: source for name, source in self.weights.items() if name not in names},
            stages={name: left for name, stage in self.stages.items() if (left := stage.without_backbones(lost))},
        )


def _without_choices(
    searched: Mapping[str, Parameter], lost: Collection[Scalar], present: set[str]
) -> dict[str, Parameter]:
    """Take backbone choices out of the parameter and of all conditions; leave out what then never applies."""
    kept: dict[str, Parameter] = {}
    for name, parameter in searched.items():
        when = {**parameter.when}
        if "backbone" in when:
            when["backbone"] = _without(when["backbone"], lost)
        if all(when.values()) and present.issuperset(when):
            narrowed = _narrow(parameter, lost) if name == "backbone" else parameter
            kept[name] = narrowed.model_copy(update={"when": when})
            present = present | {name}
    return kept


def _narrow(parameter: Parameter, lost: Collection[Scalar]) -> Parameter:
    if not isinstance(parameter, Categorical):
        return parameter  # which a backbone always is: its values are text
    default = {"default": parameter.default} if parameter.has_default and parameter.default not in lost else {}
    return Categorical(type="categorical", choices=_without(parameter.choices, lost), **default)  # type: ignore[arg-type]


def _without(values: list[Scalar], lost: Collection[Scalar]) -> list[Scalar]:
    return [value for value in values if value not in lost]
