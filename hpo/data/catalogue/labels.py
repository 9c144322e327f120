"""A cell's text → a set of labels: `Action, Drama`, `Action|Drama`, `['Action', 'Drama']` or TMDB's dictionaries."""

from __future__ import annotations

import ast
import json
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

MISSING_WORDS = frozenset({"", "unknown", "n/a", "na", "nan", "none", "null", "not available", "-", "?"})

_SEPARATORS = (", ", ",", "|", ";")
_NO_LABELS = MISSING_WORDS | {"award winning", "(no genres listed)"}  # MyAnimeList's is an honour, no genre


def guess_separator(cells: Iterable[str]) -> str:
    """Return the separator that most cells hold; `", "` wins over `","` unless some commas have no space."""
    cells_with = Counter(separator for text in cells for separator in _SEPARATORS if separator in text)
    return max(_SEPARATORS, key=lambda separator: cells_with[separator])  # the first of equals


@lru_cache(maxsize=10_000)  # a few hundred lists make up most of a catalogue
def labels_in(text: str, separator: str) -> frozenset[str]:
    """Return the labels that stand in a cell, without the words for none."""
    return real_labels(items_in(text, separator))


def real_labels(labels: Iterable[str]) -> frozenset[str]:
    """Return the labels without surrounding spaces and without the words for none."""
    stripped = (label.strip() for label in labels)
    return frozenset(label for label in stripped if label.casefold() not in _NO_LABELS)


def real_text(cell: str) -> str:
    """Return the cell, or empty text for a word that stands for nothing."""
    return "" if cell.casefold() in MISSING_WORDS else cell


def items_in(text: str, separator: str) -> list[str]:
    """Return the items of a list as it stands in a cell: JSON, Python, or text with a separator."""
    if text.startswith("[") and text.endswith("]"):
        written = _literal(text)
        if isinstance(written, list):
            return [str(item.get("name", "")) if isinstance(item, dict) else str(item) for item in written]
    return text.split(separator)


def _literal(text: str) -> Any:
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return None
