"""Parse label cells that programs write: lists, tuples, sets, arrays and objects of many languages.

JSON, Python, NumPy, R, PostgreSQL, Java, and the tags of Stack Exchange. What is no such container is text, which
`separators.py` splits.
"""

from __future__ import annotations

import ast
import csv
import json
import math
import re
from collections.abc import Mapping
from typing import Any

from hpo.errors import DataError

_WRAPPED = re.compile(  # array(['A'], dtype=object), frozenset({'A'}), c("A"), Index(['A'], dtype='object')
    r"(?:np\.|numpy\.)?(?:array|set|frozenset|list|tuple|c|Index|dict_keys|dict_values|Array|Set|List|ArraySeq|Vector)"
    r"\s*\((.*?)(?:,\s*(?:dtype|name)\s*=.*)?\)",
    re.DOTALL,
)
_NUMPY_STRING = re.compile(r"\bnp\.str_\(('[^']*'|\"[^\"]*\")\)")  # in a list that NumPy 2 prints
_STRING = r"""[uUbB]?(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
_STRINGS = re.compile(rf"\s*{_STRING}(?:(?:\s*,\s*|\s+|\s*\.\.\.\s*){_STRING})*\s*,?\s*")
_TAGS = re.compile(r"(?:<[^<>/=]+>\s*)+")
_ELEMENTS = re.compile(r"(?:\s*<(\w+)>[^<>]*</\1>\s*)+")  # <genre>Action</genre><genre>Drama</genre>
_HASHTAGS = re.compile(r"(?:#[^#,;|]+[,;|]?\s*)+")
_SERIES = re.compile(r"(?:\d+[ \t]+[^\n]+\n)+(?:Name: [^\n]*)?dtype: \w+")  # what pandas prints
_BRACKETS = {"[": "]", "(": ")", "{": "}"}
_NAME_KEYS = ("name", "label", "title", "genre", "tag", "description", "value", "text", "english", "en")
_STARTS = frozenset("[({\"'<#")
_NO_NAMES = frozenset({"id", "url", "href", "link", "type", "@type", "slug", "mal_id", "rank", "score", "key", "uri"})
_MOST_CHARACTERS = 50_000  # a cell beyond this is no list of labels


def container_items(text: str) -> list[Any] | None:
    """Return the items of a container as it stands in a cell, text or objects; None where the cell is plain text."""
    text = text.strip()
    if text[:1].isdigit() and "dtype:" in text and _SERIES.fullmatch(text):
        return [line.split(maxsplit=1)[1].strip() for line in text.splitlines() if line[:1].isdigit()]
    if not text or len(text) > _MOST_CHARACTERS or (text[0] not in _STARTS and text[-1] != ")"):
        return None
    text = _NUMPY_STRING.sub(r"\1", text) if "np.str_(" in text else text
    if text[:1] in _BRACKETS or (text[:1] in "\"'" and text[-1:] in "\"'" and len(text) > 1):
        return _of_brackets(text)
    if text[-1] == ")" and (wrapped := _WRAPPED.fullmatch(text)):
        inner = wrapped[1].strip()
        return [] if not inner else _of_brackets(inner if inner[0] in "[{(" else f"[{inner}]")
    if text[0] == "<" and _TAGS.fullmatch(text):
        return re.findall(r"<([^<>]+)>", text)
    if text[0] == "<" and _ELEMENTS.fullmatch(text):
        return re.findall(r">([^<>]+)</", text)
    if text[0] == "#" and _HASHTAGS.fullmatch(text):
        return [item.strip() for item in re.findall(r"#([^#,;|]+)", text)]
    return None


def name_of(item: Any) -> str:
    """Return the label that an item stands for. Raises DataError for an object that has no name."""
    if item is None or (isinstance(item, float) and math.isnan(item)):
        return ""
    if not isinstance(item, dict):
        return str(item).strip()
    keys = {str(key).casefold(): key for key in item}
    for key in _NAME_KEYS:
        if key in keys and isinstance(item[keys[key]], str | int | dict):
            return name_of(item[keys[key]])
    texts = [value for key, value in item.items() if isinstance(value, str) and str(key).casefold() not in _NO_NAMES]
    if len(texts) == 1:
        return texts[0].strip()
    if len(item) == 1:  # {"node": {"name": "Drama"}}
        return name_of(next(iter(item.values())))
    raise DataError(
        f"expected a label's name under a key such as 'name' in each object of a label cell, got {str(item)[:120]}: "
        "name a column of plain labels with --labels-column"
    )


def _of_brackets(text: str) -> list[Any] | None:
    for written in dict.fromkeys((text, text.replace('\\"', '"'), text.replace('""', '"'))):
        found = _literal(written)
        if found is not None:
            return _flat(found)
    return _bare(text)


def _literal(text: str) -> Any:
    """Return what JSON, NumPy or Python reads in a text: a container or text, never a number."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = _strings(text)
        if found is None:
            found = _python(text)
    if isinstance(found, str):  # JSON within JSON
        inner = container_items(found) if found != text and found[:1] in _BRACKETS else None
        return [found] if inner is None else inner
    return found if isinstance(found, list | tuple | set | frozenset | dict) else None


def _strings(text: str) -> list[str] | None:
    """Return the strings of a list, also where only spaces stand between them: Python would join those to one."""
    closed = _BRACKETS.get(text[0])
    inner = text[1:-1] if closed and text.endswith(closed) else text
    if not _STRINGS.fullmatch(inner):
        return None
    found = [_python(string) for string in re.findall(_STRING, inner)]
    return [item.decode("utf-8", "replace") if isinstance(item, bytes) else str(item) for item in found]


def _python(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
        return None


def _flat(found: Any, depth: int = 0) -> list[Any]:
    """Return the items of nested containers; an object is its keys, its values or itself."""
    if depth > 8 or isinstance(found, str | bytes) or not isinstance(found, list | tuple | set | frozenset | dict):
        return [found.decode("utf-8", "replace") if isinstance(found, bytes) else found]
    if isinstance(found, dict):
        return _of_object(found, depth)
    items = sorted(found, key=str) if isinstance(found, set | frozenset) else found
    return [inner for item in items for inner in ([item] if isinstance(item, dict) else _flat(item, depth + 1))]


def _of_object(found: Mapping[Any, Any], depth: int) -> list[Any]:
    """{"Action": 1, "Drama": 0} are keys, {"/m/07s9rl0": "Drama"} are values, {"name": "Drama"} is one item."""
    values = list(found.values())
    if not found or any(str(key).casefold() in _NAME_KEYS for key in found):
        return [found] if found else []
    if all(isinstance(value, bool | int | float) for value in values):
        return [key for key, value in found.items() if value]
    if all(isinstance(value, str) for value in values):
        return values
    return [inner for value in values if isinstance(value, list | dict) for inner in _flat(value, depth + 1)]


def _bare(text: str) -> list[Any] | None:
    """Return the items of `[A, B]`, `{A,"B C"}`, `(A, B)` or `[A][B]`, whose words stand without quotes."""
    opened, closed = text[0], _BRACKETS.get(text[0], "")
    inner = text[1:-1]
    if not closed or not text.endswith(closed) or len(text) < 2:
        return None
    if opened == "[" and re.fullmatch(r"[^\[\]]+(?:\][\s,;|/]*\[[^\[\]]+)+", inner):
        return re.split(r"\][\s,;|/]*\[", inner)
    if any(mark in inner for mark in _BRACKETS.values() if mark == closed) or opened in inner:
        return None
    mark = next((mark for mark in (",", "|", ";") if mark in inner), None)
    if opened == "(" and mark is None:  # "(no genres listed)" is text
        return None
    if mark is None:
        return [unquoted(inner.strip())]
    how = {"escapechar": "\\", "skipinitialspace": True}
    items = next(csv.reader([inner.replace("\n", " ")], delimiter=mark, **how), [])  # type: ignore[arg-type]
    return [unquoted(item.strip()) for item in items]


def unquoted(text: str) -> str:
    """Return a text without the pair of quotes around it."""
    return text[1:-1].strip() if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" else text
