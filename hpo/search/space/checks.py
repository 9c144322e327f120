"""What can be wrong between the parts of a space: conditions, recipes, weights, backbones, heads of attention.

A word that a file inherits is held against the file in which it was written, not against what the including file made
of it: an included condition on a value that is no longer there is never met, and that is no mistake.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from hpo.errors import BackboneError, did_you_mean
from hpo.model.hyperparameters import FUSE, Hyperparameters
from hpo.search.space.allowed import Scalar, listed, value_mistake
from hpo.search.space.combinations import meeting_values
from hpo.search.space.documents import Document, Mistake
from hpo.search.space.reading import outside_mistake
from hpo.search.space.search_space import SearchSpace

_SHOWN = 5
CheckBackbone = Callable[[str], None]  # raises BackboneError for a name that is none


def condition_mistakes(space: SearchSpace, document: Document) -> Iterator[Mistake]:
    """Conditions on what is not there, or never takes the value."""
    for name, parameter in space.searched.items():
        if parameter.when and Hyperparameters.model_fields[name].is_required():
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
    if other not in Hyperparameters.model_fields:
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
        cure = f"; or take it out: {recipe}: null" if document.inherits("recipes", recipe) else ""
        for name, value in values.items():
            text = _recipe_mistake(str(name), value, space, document)
            if text is not None:
                yield document.mistake(text + cure, "recipes", recipe, str(name))


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
