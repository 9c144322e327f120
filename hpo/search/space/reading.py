"""A document → searched and fixed parameters, with every mistake that one parameter can have by itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any

from pydantic import ValidationError

from hpo.errors import did_you_mean
from hpo.model.hyperparameters import Hyperparameters
from hpo.search.space.allowed import Scalar, listed, purpose, value_mistake
from hpo.search.space.documents import Document
from hpo.search.space.parameters import PARAMETER, TYPES, Float, Integer, Parameter


def read_parameters(document: Document) -> tuple[dict[str, Parameter], dict[str, Scalar]]:
    """Return the searched parameters, each below those that its condition looks at, and the fixed ones."""
    searched: dict[str, Parameter] = {}
    fixed: dict[str, Scalar] = {}
    known = Hyperparameters.model_fields
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
