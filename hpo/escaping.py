"""Escape control characters in untrusted text before it is printed."""

from __future__ import annotations

import json
import re
from typing import Any

# Control characters but the end of a line and the tab, what turns the direction of writing, and halves of characters,
# which a file name that is not UTF-8 is made of.
_COMMANDS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """Return ``text`` with escapes such as ``\\x1b`` in the place of characters that command a terminal."""
    return _COMMANDS.sub(lambda found: found[0].encode("unicode_escape", "backslashreplace").decode(), text)


def shortened(text: str, most: int = 60) -> str:
    """Return ``text``, or its beginning and ``...`` where it is longer than ``most`` characters."""
    return text if len(text) <= most else f"{text[: most - 3]}..."


def one_line(text: str) -> str:
    """Return ``printable`` text in which an end of a line or a tab is an escape as well."""
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def to_json(value: Any) -> str:
    """Return ``value`` as JSON in a line, readable in any script, but without what commands a terminal."""
    text = json.dumps(value, ensure_ascii=False)
    return _COMMANDS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
