"""Allowed values of each hyperparameter, in words and as a check.

``TrialConfig`` is the only place that knows the ranges; what is said of them is made from its JSON schema, so that
an error, a table and the documentation cannot disagree with what is enforced. Values are checked strictly: a number in
quotes is text, and ``true`` is no 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Annotated, Any, TypeAlias

from pydantic import TypeAdapter, ValidationError

from hpo.errors import did_you_mean
from hpo.model.config import TrialConfig

Scalar: TypeAlias = bool | int | float | str | None
_KINDS = {
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "string": "text",
    "null": "null",
}


def allowed(name: str) -> str:
    """Return what hyperparameter ``name`` may be: ``a number above 0 and at most 1``."""
    return " or ".join(_in_words(option) for option in _options(name))


def purpose(name: str) -> str:
    """Return what hyperparameter ``name`` does."""
    return TrialConfig.model_fields[name].description or ""


def value_mistake(name: str, value: Scalar) -> str | None:
    """Say what is wrong with ``value`` as hyperparameter ``name``, or return None."""
    try:
        _validator(name).validate_python(value, strict=True)
    except ValidationError:
        return f"expected {allowed(name)}, got {value!r}{_hint(name, value)}"
    return None


def listed(values: Sequence[Scalar], last: str = "or") -> str:
    """Return ``1, 2 or 3``, as YAML spells the values."""
    words = [spelled(value) for value in values]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}"


def spelled(value: Scalar) -> str:
    """Return a value as a person writes it in a space file."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value:.4g}" if isinstance(value, float) else str(value)


@cache
def _schema() -> dict[str, dict[str, Any]]:
    properties: dict[str, dict[str, Any]] = TrialConfig.model_json_schema()["properties"]
    return properties


def _options(name: str) -> list[dict[str, Any]]:
    schema = _schema()[name]
    options: list[dict[str, Any]] = schema.get("anyOf", [schema])
    return options


def _in_words(option: dict[str, Any]) -> str:
    if "const" in option or "enum" in option:
        return listed(option.get("enum") or [option["const"]])
    return f"{_KINDS[option['type']]}{_bounds(option)}"


def _bounds(option: dict[str, Any]) -> str:
    if "minimum" in option and "maximum" in option:
        return f" from {spelled(option['minimum'])} to {spelled(option['maximum'])}"
    words = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
    bounds = [f"{word} {spelled(option[key])}" for key, word in words.items() if key in option]
    return f" {' and '.join(bounds)}" if bounds else ""


@cache
def _validator(name: str) -> TypeAdapter[Any]:
    field = TrialConfig.model_fields[name]
    kind: Any = Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation
    return TypeAdapter(kind)


def _hint(name: str, value: Scalar) -> str:
    if not isinstance(value, str):
        return ""
    if _is_number(value):
        return " (in quotes it is text: take them away)"
    words = [word for option in _options(name) for word in option.get("enum") or [option.get("const")] if word]
    return did_you_mean(value, words)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
