"""Print search spaces as tables and JSON, and the differences between two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from pydantic import BaseModel
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hpo.model.config import TrialConfig
from hpo.space.comparison import Sides, SpaceDifference
from hpo.space.counting import count_combinations
from hpo.space.parameters import Parameter
from hpo.space.schema import Scalar, listed, purpose, spelled
from hpo.space.space import SearchSpace
from hpo.space.stages import Stage

Samples: TypeAlias = Sequence[Mapping[str, Scalar]]


def space_account(space: SearchSpace, samples: Samples) -> dict[str, Any]:
    """Return a space as ``hpo space --json`` prints it: its keys are a contract."""
    combinations = count_combinations(space)
    return {
        "name": space.name,
        "fingerprint": space.fingerprint,
        "searched": {name: _plain(parameter) for name, parameter in space.searched.items()},
        "fixed": dict(space.fixed),
        "defaults": _left_out(space),
        "recipes": {name: dict(recipe) for name, recipe in space.recipes.items()},
        "weights": dict(space.weights),
        "stages": {name: stage.model_dump(exclude_defaults=True) for name, stage in space.stages.items()},
        "backbones": list(space.backbones),
        "combinations": {"discrete": combinations.discrete, "continuous": combinations.continuous},
        "samples": [dict(sample) for sample in samples],
    }


def difference_account(difference: SpaceDifference) -> dict[str, Any]:
    """Return a difference as ``hpo space --diff --json`` prints it: its keys are a contract."""
    parameters = {
        name: {side: _plain(value) for side, value in sides.items()} for name, sides in difference.parameters.items()
    }
    return {
        "parameters": parameters,
        "recipes": difference.recipes,
        "weights": difference.weights,
        "same_study": difference.same_study,
    }


def _plain(value: Parameter | Scalar) -> Any:
    return value.model_dump(exclude_unset=True) if isinstance(value, BaseModel) else value


def _left_out(space: SearchSpace) -> dict[str, Scalar]:
    """The hyperparameters that a space does not mention, with the defaults that they have."""
    fields = TrialConfig.model_fields.items()
    return {name: field.default for name, field in fields if name not in {*space.searched, *space.fixed}}


def print_space(space: SearchSpace, console: Console) -> None:
    """Print what is searched, fixed and left at its default, the recipes, and how many combinations there are."""
    console.print(_searched_table(space))
    if space.fixed:
        console.print(_fixed_table(space))
    left_out, first = _left_out(space), space.first_recipes()
    if left_out:
        console.print(f"At their defaults: {_assignments(left_out)}", highlight=False, markup=False)
    for name, recipe in space.recipes.items():
        when = "tried first" if name in first else "tried later"
        console.print(f"Recipe {name}, {when}: {_assignments(recipe)}", highlight=False, markup=False)
    for number, (name, stage) in enumerate(space.stages.items(), start=1):
        console.print(f"Stage {number}, {name}: {searched_in(stage)}", highlight=False, markup=False)
    if space.weights:
        console.print(f"Weights: {_assignments(space.weights)}", highlight=False, markup=False)
    console.print(f"Combinations: {count_combinations(space)}", highlight=False, markup=False)


def searched_in(stage: Stage) -> str:
    """Say what a stage searches."""
    held = ", ".join(f"{name} {listed(values)}" for name, values in stage.allowed().items())
    if not stage.vary:
        return f"everything with {held}"
    leaders = "the best trial" if stage.leaders == 1 else f"each of the {stage.leaders} best trials"
    return f"{leaders} of earlier stages with {'; '.join(map(_assignments, stage.vary))}; then everything with {held}"


def print_samples(samples: Samples, console: Console) -> None:
    """Print drawn configurations, one a paragraph."""
    for number, sample in enumerate(samples, start=1):
        console.print(f"Sample {number}: {_assignments(sample)}", highlight=False, markup=False)


def _searched_table(space: SearchSpace) -> Table:
    table = _table(f"Searched in {space.name}", "parameter", "values", "when", "what it is")
    for name, parameter in space.searched.items():
        table.add_row(name, escape(_values(parameter)), escape(_condition(parameter)), escape(purpose(name)))
    return table


def _fixed_table(space: SearchSpace) -> Table:
    table = _table("Fixed", "parameter", "value", "what it is")
    for name, value in space.fixed.items():
        table.add_row(name, escape(spelled(value)), escape(purpose(name)))
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column == "parameter")
    return table


def _values(parameter: Parameter) -> str:
    kind = "" if parameter.type == "categorical" else f"{parameter.type} "
    default = f"; default {spelled(parameter.default)}" if parameter.has_default else ""
    return f"{kind}{parameter.in_words()}{default}"


def _condition(parameter: Parameter) -> str:
    return ", ".join(f"{other} is {listed(values)}" for other, values in parameter.when.items())


def _assignments(values: Mapping[str, Scalar]) -> str:
    return ", ".join(f"{name} {spelled(value)}" for name, value in values.items())


def print_difference(difference: SpaceDifference, names: tuple[str, str], console: Console) -> None:
    """Print what differs between two spaces of these names, and whether a study of one can continue with the other."""
    sections = (
        ("Parameters", difference.parameters, _parameter_in_words),
        ("Recipes", difference.recipes, _assignments),
        ("Weights", difference.weights, str),
    )
    for title, rows, in_words in sections:
        if rows:
            table = _table(title, "parameter" if title == "Parameters" else "name", *names)
            for name, sides in rows.items():
                table.add_row(name, *(_side(name, side, sides, in_words) for side in ("first", "second")))
            console.print(table)
    if not any(rows for _, rows, _ in sections):
        console.print("The two spaces say the same.")
    how = "can continue" if difference.same_study else "continues"
    where = "" if difference.same_study else ", where all of its trials lie in that too"
    console.print(f"A study begun with one of them {how} with the other{where}.", highlight=False)


def _side(name: str, side: str, sides: Sides, in_words: Any) -> str:
    if side in sides:
        return escape(in_words(sides[side]))
    field = TrialConfig.model_fields.get(name)
    return "" if field is None or field.is_required() else f"default: {escape(spelled(field.default))}"


def _parameter_in_words(value: Parameter | Scalar) -> str:
    if not isinstance(value, BaseModel):
        return f"fixed: {spelled(value)}"
    condition = f"; when {_condition(value)}" if value.when else ""
    return f"{_values(value)}{condition}"
