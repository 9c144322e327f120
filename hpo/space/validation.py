"""Validate a space document as a whole: conditions, recipes, weights, backbones, heads.

A word that a file inherits is held against the file in which it was written, not against what the including file made
of it: an included condition on a value that is no longer there is never met, and that is no mistake.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any

from pydantic import ValidationError

from hpo.errors import BackboneError, did_you_mean
from hpo.model.config import FUSE, TrialConfig
from hpo.space.counting import meeting_values
from hpo.space.document import Document, Mistake
from hpo.space.parameters import PARAMETER, TYPES, Float, Integer, Parameter
from hpo.space.schema import Scalar, listed, purpose, value_mistake
from hpo.space.space import SearchSpace

# A document → searched and fixed parameters, with every mistake that one parameter can have by itself.


def read_parameters(document: Document) -> tuple[dict[str, Parameter], dict[str, Scalar]]:
    """Return the searched parameters, each below those that its condition looks at, and the fixed ones."""
    searched: dict[str, Parameter] = {}
    fixed: dict[str, Scalar] = {}
    known = TrialConfig.model_fields
    for name, written in document.parameters.items():
        if name not in known:
            _note(document, name, f"there is no such parameter{did_you_mean(name, known)}")
        elif isinstance(written, dict):
            searched |= _read_searched(name, written, document)
        else:
            fixed[name] = written
            _note(document, name, value_mistake(name, written))
    for name, field in known.items():
        if field.is_required() and name not in document.parameters:
            _note(document, name, f"missing ({purpose(name)})")
    return _in_order(searched, document), fixed


def _note(document: Document, name: str, text: str | None) -> None:
    if text is not None:
        document.mistakes.append(document.mistake(text, "parameters", name))


def _read_searched(name: str, written: dict[str, Any], document: Document) -> dict[str, Parameter]:
    try:
        parameter = PARAMETER.validate_python(written)
    except ValidationError as error:
        for problem in error.errors():
            _note(document, name, _explain(problem))
        return {}
    for mistake in _own_mistakes(name, parameter):
        _note(document, name, mistake)
    if isinstance(parameter, Integer | Float) and parameter.has_too_many_values:
        return {}  # nothing else can be said of it
    return {name: parameter}


def _own_mistakes(name: str, parameter: Parameter) -> Iterator[str]:
    wrong = [value_mistake(name, value) for value in parameter.extremes()]
    yield from filter(None, wrong)
    yield from parameter.mistakes()
    if parameter.has_default and not any(wrong):
        outside = outside_mistake(name, parameter, parameter.default)
        yield from [] if outside is None else [f"default: {outside}"]


def outside_mistake(name: str, parameter: Parameter, value: Scalar) -> str | None:
    """Say why a searched parameter cannot take ``value``, or return None."""
    if value_mistake(name, value) is None and not parameter.holds(value):
        return f"expected {parameter.in_words()}, got {value!r}"
    return value_mistake(name, value)


def _explain(problem: Any) -> str:
    """One pydantic problem in the words of the file."""
    kind, where, got = problem["type"], problem["loc"], problem["input"]
    if kind == "union_tag_not_found":
        return f"type: missing; expected {listed([*TYPES])}"
    if kind == "union_tag_invalid":
        tag = got["type"]
        return f"type: expected {listed([*TYPES])}, got {tag!r}{did_you_mean(str(tag), TYPES)}"
    key = ".".join(str(part) for part in where[1:])
    if kind == "missing":
        return f"{key}: missing"
    if kind == "extra_forbidden":
        words = list(TYPES[where[0]].model_fields)
        return f"{key}: expected one of {', '.join(words)}{did_you_mean(key, words)}"
    quoted = " (in quotes it is text: take them away)" if kind in ("float_type", "int_type") and _text(got) else ""
    return f"{key}: {problem['msg'][0].lower()}{problem['msg'][1:]}, got {got!r}{quoted}"


def _text(value: Any) -> bool:
    return isinstance(value, str) and any(character.isdigit() for character in value)


def _in_order(searched: Mapping[str, Parameter], document: Document) -> dict[str, Parameter]:
    """Put each parameter below those that its condition looks at; otherwise the order is as written."""
    try:
        TopologicalSorter({name: parameter.when for name, parameter in searched.items()}).prepare()
    except CycleError as error:
        circle = list(reversed(error.args[1]))
        text = f"expected conditions that come to an end, got a circle ({' depends on '.join(circle)})"
        document.mistakes.append(document.mistake(text, "parameters", circle[0], "when"))
        return dict(searched)
    ordered: dict[str, Parameter] = {}

    def place(name: str) -> None:
        if name in searched and name not in ordered:
            for other in searched[name].when:
                place(other)
            ordered[name] = searched[name]

    for name in searched:
        place(name)
    return ordered


_SHOWN = 5
CheckBackbone = Callable[[str], None]  # raises BackboneError for a name that is none


def condition_mistakes(space: SearchSpace, document: Document) -> Iterator[Mistake]:
    """Conditions on what is not there, or never takes the value."""
    for name, parameter in space.searched.items():
        if parameter.when and TrialConfig.model_fields[name].is_required():
            needed = f"every trial needs {name}, so it cannot depend on another parameter"
            yield document.mistake(needed, "parameters", name, "when")
        for other, values in parameter.when.items():
            text = _condition_mistake(name, other, values, space, document)
            if text is not None:
                yield document.mistake(text, "parameters", name, "when", other)


def _condition_mistake(
    name: str, other: str, values: list[Scalar], space: SearchSpace, document: Document
) -> str | None:
    if other not in document.parameters:
        return f"there is no such parameter in this space{did_you_mean(other, document.parameters)}"
    if other not in TrialConfig.model_fields:
        return None  # which is a mistake of its own
    impossible = [wrong for value in values if (wrong := value_mistake(other, value))]
    if impossible:
        return impossible[0]
    if document.inherits("parameters", name) and _moved_on(name, other, document):
        return None
    if other in space.fixed:
        fixed = space.fixed[other]
        return None if fixed in values else f"{other} is fixed at {fixed!r}, so {name} never applies"
    return _never_taken(other, values, space)


def _moved_on(name: str, other: str, document: Document) -> bool:
    return document.file_of("parameters", name) != document.file_of("parameters", other)


def _never_taken(other: str, values: list[Scalar], space: SearchSpace) -> str | None:
    parameter = space.searched.get(other)
    if parameter is None:
        return None  # broken, which is a mistake of its own
    if parameter.values() is None:
        return f"{other} is continuous and as good as never exactly {listed(values)}: depend on a categorical or an int"
    wrong = [value for value in values if not parameter.holds(value)]
    return f"{other} never takes {', '.join(map(repr, wrong))}" if wrong else None


def recipe_mistakes(space: SearchSpace, document: Document) -> Iterator[Mistake]:
    """Recipes that are no mapping, name what is not searched, or lie outside the space."""
    for recipe, values in space.recipes.items():
        if not isinstance(values, dict):
            yield document.mistake(f"expected a mapping of parameters to values, got {values!r}", "recipes", recipe)
            continue
        fix = f"; or take it out: {recipe}: null" if document.inherits("recipes", recipe) else ""
        for name, value in values.items():
            text = _recipe_mistake(str(name), value, space, document)
            if text is not None:
                yield document.mistake(text + fix, "recipes", recipe, str(name))


def _recipe_mistake(name: str, value: Scalar, space: SearchSpace, document: Document) -> str | None:
    if name in space.fixed:
        fixed = space.fixed[name]
        return None if value == fixed else f"is fixed at {fixed!r} in this space, got {value!r}"
    if name in space.searched:
        return outside_mistake(name, space.searched[name], value)
    if name in document.parameters:
        return None  # broken, which is a mistake of its own
    return f"there is no such parameter in this space{did_you_mean(name, space.searched)}"


def idle_mistakes(space: SearchSpace, document: Document) -> Iterator[Mistake]:
    """Values of recipes that have no effect in the recipe. An inherited recipe may have lost the parameter, though."""
    for recipe in (recipe for recipe in space.recipes if not document.inherits("recipes", recipe)):
        idle = space.recipes[recipe].keys() & space.searched.keys() - space.recipe(recipe).keys()
        for name in sorted(idle):
            when = " and ".join(f"{other} is {listed(values)}" for other, values in space.searched[name].when.items())
            text = f"does not apply in this recipe: {name} is there when {when}"
            yield document.mistake(text, "recipes", recipe, name)


def weights_mistakes(space: SearchSpace, document: Document) -> Iterator[Mistake]:
    """Weights of what is no backbone of the space, or that are no text."""
    if not _has_backbones(space):
        return
    sources: dict[str, Any] = dict(space.weights)
    for backbone, source in sources.items():
        if FUSE in backbone:
            text = f"name the weights of {' and '.join(backbone.split(FUSE))} one by one"
            yield document.mistake(text, "weights", backbone)
        elif backbone not in space.backbones:
            text = f"is no backbone of this space{did_you_mean(backbone, space.backbones)}"
            yield document.mistake(text, "weights", backbone)
        elif not isinstance(source, str):
            text = f"expected auto, hub, random or the path of a file, got {source!r}"
            yield document.mistake(text, "weights", backbone)


def backbone_mistakes(space: SearchSpace, document: Document, check: CheckBackbone) -> Iterator[Mistake]:
    """Fused names that are none, and names that ``check`` does not know."""
    if not _has_backbones(space):
        return
    for choice in space.backbone_choices:
        names = choice.split(FUSE)
        if not all(names) or len(set(names)) < len(names):
            text = f"expected different names around each {FUSE}, got {choice!r}"
            yield document.mistake(text, "parameters", "backbone")
    for name in filter(None, space.backbones):
        try:
            check(name)
        except BackboneError as error:
            yield document.mistake(str(error), "parameters", "backbone")


def attention_mistakes(space: SearchSpace, document: Document) -> Iterator[Mistake]:
    """Widths of a label_query head that its attention heads do not divide."""
    met = meeting_values(space, ("head", "width", "attention_heads"))
    bad = dict.fromkeys(
        f"{values['attention_heads']} with width {values['width']}"
        for values in met
        if values["head"] == "label_query" and values["width"] % values["attention_heads"]  # type: ignore[operator]
    )
    if bad:
        more = f" and {len(bad) - _SHOWN:,} more" if len(bad) > _SHOWN else ""
        text = f"expected divisors of width where head is label_query, got {', '.join(list(bad)[:_SHOWN])}{more}"
        where = "attention_heads" if "attention_heads" in document.parameters else "width"
        yield document.mistake(text, "parameters", where)


def _has_backbones(space: SearchSpace) -> bool:
    return "backbone" in {*space.searched, *space.fixed}  # or it is a mistake of its own
