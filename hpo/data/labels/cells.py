"""Parse a column of label cells into consistently named labels.

What a program wrote is read as it was written (`containers.py`), text is split by what the whole column holds
(`separators.py`), and labels that differ in case or in the form of a character
alone are one label, named as most rows name it.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from html.entities import html5

from hpo.data.labels.containers import container_items, name_of, unquoted
from hpo.data.labels.separators import Splitting, learn_splitting

MISSING_WORDS = frozenset(
    {"", "unknown", "n/a", "na", "nan", "none", "null", "not available", "-", "?", "\\n", "<na>", "#n/a", "undefined"}
    | {"n.a.", "tba", "tbd", "--", "---", "—", "–", "not specified", "unspecified", "none listed", "no data", "missing"}
)

_NO_LABELS = MISSING_WORDS | {
    "award winning",
    "(no genres listed)",
    "no genres listed",
    "no genres",
    "no genre",
    "no_genres_listed",
}  # the first is an honour
_ENTITY = re.compile(r"&(#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|\w{2,31});")
_LINE_BREAK = re.compile(r"\r\n?|<br\s*/?>", re.IGNORECASE)
_INVISIBLE = re.compile("[\u00ad\u200b\u200e\u200f\u2060\ufeff]")
_PREFIX = re.compile(r"(?:genre|label|tag|categorie)s?\s*:\s*", re.IGNORECASE)  # "Genres: Action, Drama"
_BULLET = re.compile(r"^(?:[-*•‣▪]\s+|\d{1,2}[.)]\s+|#(?=\w))(?=\S)")  # of a list of lines, or a tag
_LOOKALIKES = str.maketrans(
    {**dict.fromkeys("\u2010\u2011\u2012\u2013\u2212", "-"), **dict.fromkeys("\u2018\u2019\u02bc", "'")}
)
_UNPARSED = re.compile(r"[\[\]{}<>\"|;\\\n\t]|::|、|，|；|،|, ")
_MAYBE_SEVERAL = re.compile(r"[/,・･+:&_]|\s[-–]\s|\sand\s")


def tidy(text: str) -> str:
    """Return a text with its HTML entities resolved, in Unicode's NFC, without what cannot be seen or written."""
    if text.isascii() and "&" not in text and "\r" not in text and "<" not in text:
        return text.strip()
    for _ in range(2):  # "&amp;amp;" is the work of two programs
        text = _ENTITY.sub(_character, text)
    text = _INVISIBLE.sub("", _LINE_BREAK.sub("\n", text)).replace("\u00a0", " ")
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")  # a lone surrogate cannot be printed
    return unicodedata.normalize("NFC", text).strip()


def _character(entity: re.Match[str]) -> str:
    body = entity[1]
    if not body.startswith("#"):
        return html5.get(body + ";", entity[0])
    code = int(body[2:], 16) if body[1] in "xX" else int(body[1:])
    return chr(code) if 31 < code < 0x110000 and not 0xD800 <= code < 0xE000 else entity[0]


@dataclass(frozen=True)
class LabelCells:
    """How the cells of one column are read."""

    splitting: Splitting
    names: Mapping[str, str]  # a label in lower case -> the name that most rows give it
    spellings: Mapping[str, tuple[str, ...]]  # such a name -> its other spellings
    seen: dict[str, list[str]] = field(default_factory=dict, repr=False, compare=False)  # cell -> what stands in it

    @classmethod
    def learn(cls, cells: Iterable[str], separator: str | None = None, known: Sequence[str] = ()) -> LabelCells:
        """Learn from all cells of a column; a label that differs from one of `known` in case alone gets its name."""
        counts = Counter(cells)
        texts: Counter[str] = Counter()
        listed: list[str] = []
        for cell, n in counts.items():
            written = _unprefixed(tidy(cell))
            items = container_items(written)
            if items is None:
                texts[written] += n if written.casefold() not in _NO_LABELS else 0
            else:
                listed += [name_of(item) for item in items]
        splitting = learn_splitting(+texts, listed, separator)
        plain = cls(splitting, {}, {})
        labels: Counter[str] = Counter()
        for cell, n in counts.items():
            for label in plain.of(cell):
                labels[label] += n
        return cls(splitting, *_one_name_each(labels, known), plain.seen)

    def in_order(self, cell: str) -> list[str]:
        """Return what stands in a cell, in its order, words for none included."""
        labels = self.seen.get(cell)
        if labels is None:
            labels = self.seen[cell] = self._labels(cell)
        return list(dict.fromkeys(self.names.get(_key(label), label) for label in labels))

    def _labels(self, cell: str) -> list[str]:
        text = _unprefixed(tidy(cell))
        items = container_items(text)
        names = self._split(text) if items is None else [tidy(name_of(item)) for item in items]
        if items is not None and len(names) == 1:
            names = self.splitting.within(names[0])
        return [" ".join(name.split()) for name in names]

    def of(self, cell: str) -> frozenset[str]:
        """Return the labels of a cell, without the words for none."""
        return real_labels(self.in_order(cell))

    def _split(self, text: str) -> list[str]:
        if text.casefold() in _NO_LABELS:
            return [text]
        return [_BULLET.sub("", unquoted(item), count=1) for item in self.splitting.items(text)]


def _unprefixed(text: str) -> str:
    found = _PREFIX.match(text)
    return text[found.end() :] if found else text


def _key(label: str) -> str:
    """Return a label without case, width of letters, kind of hyphen or apostrophe, and full stop at its end."""
    if label.isascii():
        return label.casefold().rstrip(".") or label
    return unicodedata.normalize("NFKC", label).translate(_LOOKALIKES).casefold().rstrip(".") or label


def items_in(text: str, separator: str) -> list[str]:
    """Return the items of a list of file names as it stands in a cell: a container, or text with a separator."""
    items = container_items(text)
    return text.split(separator) if items is None else [name_of(item) for item in items]


def real_labels(labels: Iterable[str]) -> frozenset[str]:
    """Return the labels without surrounding spaces and without the words for none."""
    stripped = (label.strip() for label in labels)
    return frozenset(label for label in stripped if label.casefold() not in _NO_LABELS)


def real_text(cell: str) -> str:
    """Return the cell, or empty text for a word that stands for nothing."""
    return "" if cell.casefold() in MISSING_WORDS else cell


@lru_cache(maxsize=10_000)
def looks_unparsed(label: str, *, single: bool) -> bool:
    """Return whether a label holds brackets or a separator, or what may be one where posters have a `single` label."""
    return _UNPARSED.search(label) is not None or (single and _MAYBE_SEVERAL.search(label) is not None)


def _one_name_each(
    labels: Mapping[str, int], known: Sequence[str]
) -> tuple[dict[str, str], dict[str, tuple[str, ...]]]:
    """Return the name for each label in lower case, and the spellings that it replaces."""
    by_key: defaultdict[str, list[str]] = defaultdict(list)
    for label in labels:
        by_key[_key(label)].append(label)
    asked = {_key(name): name for name in reversed(known)}
    names = {
        key: asked.get(key)
        or max(spelled, key=lambda label: (not label.endswith("."), labels[label], not label.isupper(), label))
        for key, spelled in by_key.items()
    }
    others = {names[key]: tuple(sorted(set(spelled) - {names[key]})) for key, spelled in by_key.items()}
    return names, {name: spelled for name, spelled in others.items() if spelled}
