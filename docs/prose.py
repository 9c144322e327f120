"""Check the prose of code, docs and tests: list the lines that hold a word which plain engineering English avoids.

``python docs/prose.py`` prints each and exits with 1 if there is one; ``make check`` runs it.
"""

from __future__ import annotations

import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("hpo", "docs", "search_spaces", "benchmarks", "tests")
SUFFIXES = {".py", ".md", ".yaml", ".html", ".css", ".js"}

# What to write instead stands behind each: the field's term, or the actor and a plain verb.
WORDS = {
    r"crown(s|ed|ing)?": "promote, champion",
    r"coronations?": "promotion",
    r"mend(s|ed|ing)?": "fix, repair",
    r"whoever": "a user who, a process that",
    r"nobody|somebody": "name the actor, or: no one, another user",
    r"(go|goes|going|gone|went) on": "continue",
    r"told|tells?|telling": "say, report, distinguish",
    r"(let|lets|letting) go": "delete, release",
    r"(look|looks|looked|looking) on": "poll, supervise",
    r"glances?": "snapshot",
    r"workshops?": "context",
    r"anew": "again",
}
# (file, text): where the word is another project's term.
ALLOWED = {
    ("docs/prose.py", ""),
    ("hpo/data/splits/title_words.py", "nobody"),  # a title's word
    ("hpo/study/study.py", "_study.tell("),  # Optuna's method
    ("benchmarks/LOG.md", ""),  # entries are records of their day
}
_ANY = re.compile(r"(?<![a-zA-Z])(" + "|".join(WORDS) + r")(?![a-zA-Z])", re.IGNORECASE)


def texts() -> Iterator[Path]:
    """Yield each file that is read by people."""
    yield from (ROOT / name for name in ("README.md", "CHANGELOG.md"))
    for folder in FOLDERS:
        yield from (path for path in sorted((ROOT / folder).rglob("*")) if path.suffix in SUFFIXES)


def lines_of(path: Path) -> Iterator[tuple[int, str]]:
    """Yield number and text of each line; of tests the comments and sentences alone, since names there are free."""
    if path.suffix != ".py" or not path.is_relative_to(ROOT / "tests"):
        yield from enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        return
    with tokenize.open(path) as file:
        for token in tokenize.generate_tokens(file.readline):
            if token.type == tokenize.COMMENT or (token.type == tokenize.STRING and token.string.startswith('"""')):
                yield from enumerate(token.string.splitlines(), token.start[0])


def findings(path: Path) -> Iterator[str]:
    """Yield each line that holds a listed word, with its place and the word."""
    name = path.relative_to(ROOT).as_posix()
    for number, line in lines_of(path):
        found = _ANY.search(line)
        if found and not any(name == allowed and text in line for allowed, text in ALLOWED):
            yield f"{name}:{number}: {found.group()!r} in: {line.strip()}"


def main() -> int:
    """Print every finding; return 1 if there is one."""
    found = [line for path in texts() for line in findings(path)]
    print("\n".join(found) if found else "Prose: no listed word.")  # noqa: T201
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
