"""Words and tables in Markdown, for model cards and the notes of runs."""

from __future__ import annotations

from typing import Any

from hpo.printable import one_line


def markdown_text(text: str) -> str:
    """Return words of others, such as a label, for Markdown: no HTML, no picture, no new line or cell of a table."""
    for found, instead in (("<", "&lt;"), ("|", "\\|"), ("![", "!\\[")):
        text = text.replace(found, instead)
    return one_line(text)


def markdown_table(rows: list[dict[str, Any]]) -> str:
    """Return ``rows`` as a Markdown table with the keys of the first as header."""
    header = list(rows[0])
    lines = [header, ["---"] * len(header), *[[markdown_text(str(row[key])) for key in header] for row in rows]]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
