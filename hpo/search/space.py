"""Search spaces: a YAML file that a person writes → the hyperparameters of each trial.

The words are Optuna's (``type, low, high, log, step, choices``); ``when`` makes a parameter depend on others, a plain
value fixes it, and ``recipes`` are tried before the sampler has its say. A file is checked as a whole: every mistake
in it is reported at once, before anything is trained.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, TypeAlias

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from hpo.errors import SpaceError, did_you_mean
from hpo.model.hyperparameters import Hyperparameters

Scalar: TypeAlias = bool | int | float | str
_PLACES = (Path(__file__).parents[2] / "search_spaces", Path(__file__).parents[1] / "search_spaces")
SHIPPED_SPACES = next(place for place in _PLACES if place.is_dir())  # beside the package in a checkout, else inside it


class SuggestsValues(Protocol):
    """The part of an Optuna trial that a space needs."""

    def suggest_categorical(self, name: str, choices: list[Scalar]) -> Any: ...  # noqa: D102
    def suggest_int(self, name: str, low: int, high: int, *, step: int, log: bool) -> int: ...  # noqa: D102
    def suggest_float(  # noqa: D102
        self, name: str, low: float, high: float, *, step: float | None, log: bool
    ) -> float: ...


class _Searched(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    when: dict[str, list[Scalar]] = {}


class Categorical(_Searched):
    """One of a list of values."""

    type: Literal["categorical"]
    choices: list[Scalar] = Field(min_length=1)

    def suggest(self, trial: SuggestsValues, name: str) -> Scalar:
        """Let ``trial`` choose."""
        choice: Scalar = trial.suggest_categorical(name, self.choices)
        return choice

    def holds(self, value: Scalar) -> bool:
        """Tell whether ``value`` is one of the choices."""
        return value in self.choices

    def extremes(self) -> list[Scalar]:
        """Return the values to check against what a hyperparameter allows."""
        return self.choices


class _Range(_Searched):
    low: float
    high: float
    log: bool = False

    def holds(self, value: Scalar) -> bool:
        """Tell whether ``value`` lies between low and high."""
        return not isinstance(value, str) and self.low <= value <= self.high


class Integer(_Range):
    """A whole number between low and high, both included."""

    type: Literal["int"]
    low: int
    high: int
    step: int = Field(1, ge=1)

    def suggest(self, trial: SuggestsValues, name: str) -> Scalar:
        """Let ``trial`` choose."""
        return trial.suggest_int(name, self.low, self.high, step=self.step, log=self.log)

    def extremes(self) -> list[Scalar]:
        """Return the values to check against what a hyperparameter allows."""
        return [self.low, self.high]


class Float(_Range):
    """A number between low and high, both included."""

    type: Literal["float"]
    step: float | None = Field(None, gt=0)

    def suggest(self, trial: SuggestsValues, name: str) -> Scalar:
        """Let ``trial`` choose."""
        return trial.suggest_float(name, self.low, self.high, step=self.step, log=self.log)

    def extremes(self) -> list[Scalar]:
        """Return the values to check against what a hyperparameter allows."""
        return [self.low, self.high]


Parameter: TypeAlias = Categorical | Integer | Float
_PARAMETER: TypeAdapter[Parameter] = TypeAdapter(Annotated[Parameter, Field(discriminator="type")])


@dataclass(frozen=True)
class SearchSpace:
    """The parameters that are searched, those that are fixed, and the recipes that are tried first."""

    name: str
    searched: Mapping[str, Parameter]
    fixed: Mapping[str, Scalar]
    recipes: Mapping[str, Mapping[str, Scalar]]
    weights: Mapping[str, str]  # backbone → auto, hub, random or a file

    def sample(self, trial: SuggestsValues) -> Hyperparameters:
        """Let ``trial`` choose every parameter that applies."""
        chosen = dict(self.fixed)
        for name, parameter in self.searched.items():
            if _applies(parameter, chosen):
                chosen[name] = parameter.suggest(trial, name)
        return Hyperparameters.model_validate(chosen)

    def rebuild(self, params: Mapping[str, Scalar]) -> Hyperparameters:
        """Return the hyperparameters of a finished trial from the ``params`` that Optuna kept of it."""
        return Hyperparameters.model_validate({**self.fixed, **params})

    def recipe(self, name: str) -> dict[str, Scalar]:
        """Return what to enqueue for a recipe: its values for the searched parameters that apply to it."""
        values = {**self.fixed, **self.recipes[name]}
        return {key: values[key] for key, p in self.searched.items() if _applies(p, values) and key in values}

    @property
    def backbones(self) -> tuple[str, ...]:
        """The names of the backbones that a trial can choose."""
        parameter = self.searched.get("backbone")
        return (str(self.fixed["backbone"]),) if parameter is None else tuple(map(str, parameter.extremes()))

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits over the parameters and weights, which a study cannot change while it lives."""
        searched = {name: parameter.model_dump() for name, parameter in self.searched.items()}
        content = json.dumps([searched, dict(self.fixed), dict(self.weights)], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]


def _applies(parameter: Parameter, chosen: Mapping[str, Scalar]) -> bool:
    return all(chosen.get(name) in values for name, values in parameter.when.items())


def load_space(path: Path) -> SearchSpace:
    """Read and check a space file, or one of the spaces that ship by its name (``default``).

    Raises SpaceError that lists every mistake: file, key, what was expected and what was got.
    """
    shipped = SHIPPED_SPACES / f"{path}.yaml"
    path = shipped if not path.exists() and shipped.is_file() else path
    content = _read_yaml(path)
    mistakes = list(_unknown_sections(content))
    searched, fixed = _read_parameters(_section(content, "parameters", mistakes), mistakes)
    space = SearchSpace(
        name=path.stem,
        searched=searched,
        fixed=fixed,
        recipes=_section(content, "recipes", mistakes),
        weights=_section(content, "weights", mistakes),
    )
    mistakes += _condition_mistakes(space)
    mistakes += _recipe_mistakes(space)
    mistakes += _weights_mistakes(space)
    if mistakes:
        listed = "".join(f"\n  {path.name}: {mistake}" for mistake in mistakes)
        count = "1 mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        raise SpaceError(f"The search space {path} has {count}; correct and try again:{listed}")
    return space


_SECTIONS = ("parameters", "recipes", "weights")


def _unknown_sections(content: Mapping[str, Any]) -> Iterator[str]:
    for key in content:
        if key not in _SECTIONS:
            yield f"{key}: expected one of {', '.join(_SECTIONS)}{did_you_mean(str(key), _SECTIONS)}"


def _section(content: Mapping[str, Any], key: str, mistakes: list[str]) -> dict[str, Any]:
    section = content.get(key) or {}
    if isinstance(section, dict):
        return section
    mistakes.append(f"{key}: expected a mapping, got {section!r}")
    return {}


class _Loader(yaml.SafeLoader):
    """YAML in which ``1e-5`` is a number, as everyone means it (PyYAML asks for ``1.0e-5``)."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+$"),
    list("-+0123456789."),
)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except OSError as error:
        shipped = ", ".join(sorted(file.stem for file in SHIPPED_SPACES.glob("*.yaml")))
        raise SpaceError(
            f"Expected a search space at {path}, which cannot be read ({error.strerror}): "
            f"name a YAML file or one of those that ship ({shipped}) with --space."
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise SpaceError(f"Expected YAML in {path}, got something else ({reason}): correct the file.") from error
    if not isinstance(content, dict):
        raise SpaceError(f"Expected a mapping with 'parameters:' in {path}, got {type(content).__name__}: correct it.")
    return content


def _read_parameters(section: dict[str, Any], mistakes: list[str]) -> tuple[dict[str, Parameter], dict[str, Scalar]]:
    searched: dict[str, Parameter] = {}
    fixed: dict[str, Scalar] = {}
    known = Hyperparameters.model_fields
    for name, written in section.items():
        if name not in known:
            mistakes.append(f"parameters.{name}: there is no such parameter{did_you_mean(str(name), known)}")
        elif isinstance(written, dict):
            parameter = _read_searched(name, written, mistakes)
            if parameter is not None:
                searched[name] = parameter
        else:
            fixed[name] = written
            mistakes += _value_mistakes(name, written)
    for name, field in known.items():
        if field.is_required() and name not in section:
            mistakes.append(f"parameters.{name}: missing ({field.description})")
    return searched, fixed


def _read_searched(name: str, written: dict[str, Any], mistakes: list[str]) -> Parameter | None:
    try:
        parameter = _PARAMETER.validate_python(written)
    except ValidationError as error:
        mistakes += [f"parameters.{name}: {_explain(problem)}" for problem in error.errors()]
        return None
    found = list(_range_mistakes(parameter))
    for value in parameter.extremes():
        found += [mistake.partition(": ")[2] for mistake in _value_mistakes(name, value)]
    mistakes += [f"parameters.{name}: {mistake}" for mistake in found]
    return parameter


def _explain(problem: Any) -> str:
    """One pydantic problem in the words of the file."""
    where = ".".join(str(part) for part in problem["loc"] if part not in ("categorical", "int", "float"))
    got = "" if problem["type"] in ("missing", "union_tag_not_found") else f", got {problem['input']!r}"
    message = problem["msg"][0].lower() + problem["msg"][1:]
    if problem["type"].startswith("union_tag"):
        return "expected type: categorical, int or float"
    return f"{where}: {message}{got}" if where else f"{message}{got}"


def _range_mistakes(parameter: Parameter) -> Iterator[str]:
    if isinstance(parameter, Categorical):
        return
    if parameter.low > parameter.high:
        yield f"low must not exceed high, got low {parameter.low} and high {parameter.high}"
    if parameter.log and parameter.low <= 0:
        yield f"low must be > 0 when log is true, got {parameter.low}"
    if parameter.log and parameter.step not in (None, 1):
        yield f"step cannot be combined with log, got step {parameter.step}"


def _value_mistakes(name: str, value: Scalar) -> list[str]:
    """Check one value of one parameter, as Hyperparameters would."""
    try:
        Hyperparameters.__pydantic_validator__.validate_assignment(Hyperparameters.model_construct(), name, value)
    except ValidationError as error:
        problem = error.errors()[0]
        return (
            [f"parameters.{name}: {_explain({**problem, 'loc': ()})}"] if problem["type"] != "frozen_instance" else []
        )
    return []


def _condition_mistakes(space: SearchSpace) -> Iterator[str]:
    above: set[str] = set(space.fixed)
    for name, parameter in space.searched.items():
        if parameter.when and Hyperparameters.model_fields[name].is_required():
            yield f"parameters.{name}.when: every trial needs {name}, so it cannot depend on another parameter"
        for other, values in parameter.when.items():
            where = f"parameters.{name}.when.{other}"
            if other not in above:
                yield f"{where}: must be a parameter written above {name}{did_you_mean(other, above)}"
            elif other in space.searched:
                wrong = [value for value in values if not space.searched[other].holds(value)]
                if wrong:
                    yield f"{where}: {other} never takes {', '.join(map(repr, wrong))}"
        above.add(name)


def _recipe_mistakes(space: SearchSpace) -> Iterator[str]:
    for recipe, values in space.recipes.items():
        if not isinstance(values, dict):
            yield f"recipes.{recipe}: expected a mapping of parameters to values, got {values!r}"
            continue
        for name, value in values.items():
            where = f"recipes.{recipe}.{name}"
            if name in space.fixed:
                if value != space.fixed[name]:
                    yield f"{where}: is fixed at {space.fixed[name]!r} in this space, got {value!r}"
            elif name not in space.searched:
                yield f"{where}: there is no such parameter in this space{did_you_mean(name, space.searched)}"
            elif not space.searched[name].holds(value) or _value_mistakes(name, value):
                yield f"{where}: {value!r} lies outside this space"


def _weights_mistakes(space: SearchSpace) -> Iterator[str]:
    if "backbone" not in {**space.searched, **space.fixed}:
        return  # which is a mistake of its own
    sources: Mapping[str, Any] = space.weights
    for backbone, source in sources.items():
        if backbone not in space.backbones:
            yield f"weights.{backbone}: is no backbone of this space{did_you_mean(str(backbone), space.backbones)}"
        elif not isinstance(source, str):
            yield f"weights.{backbone}: expected auto, hub, random or the path of a file, got {source!r}"
