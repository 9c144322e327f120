"""A Rich console for untrusted text: no markup, no emoji codes, escapes shown."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text

from hpo.escaping import printable


class Plain(Console):
    """A console that prints strings as they are written, in tables as well."""

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, markup=False, emoji=False)

    def render_str(self, text: str, **how: Any) -> Text:
        """Turn a string, also of a cell, into what is shown."""
        return super().render_str(printable(text), **how)
