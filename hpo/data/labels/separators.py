"""Choose the separator of text label cells from the evidence of the whole column.

A mark that hardly ever stands within a label (`|`, `,`, `、`) separates wherever most cells have it. A mark that often
does (`/`, ` & `, a space) separates only where the parts are seen apart as well: alone, or beside different neighbours.
`Sci-Fi & Fantasy` whose halves never part is one label.
"""

from __future__ import annotations

import csv
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

STRONG = (",", "|", ";", "\n", "\t", "::", "、", "，", "；", "،", "؛", "•", "｜", "│", "¦", "\x1f", ";#", "^", "\\n")
_WEAK = {  # mark -> the share of its parts that must be seen apart
    " / ": 0.5,
    "/": 0.6,
    "／": 0.6,
    "・": 0.6,
    "･": 0.6,
    " · ": 0.5,
    "·": 0.6,
    " - ": 0.6,
    " – ": 0.6,
    " + ": 0.5,
    "+": 0.6,
    " > ": 0.6,
    "\\": 0.6,
    "~": 0.6,
    " — ": 0.6,
    " → ": 0.6,
    " -> ": 0.6,
    "#": 0.6,
    "$": 0.6,
    "*": 0.6,
    "=": 0.7,
    "!": 0.7,
    ":": 0.7,
    " & ": 0.85,
    "&": 0.85,
    " and ": 0.9,
    " ": 0.95,
    "-": 0.95,
    "_": 0.95,
    ".": 0.95,
}
_WORD_MARKS = (" ", "-", "_", ".")  # these stand within labels: what never parts is joined again
_BESIDE_ANOTHER = ("/", "／", "・", "･", " - ", "+")  # weak marks that single cells of a column may use
_ANY_STRONG = re.compile("|".join(map(re.escape, STRONG)))
_QUOTED_PART = re.compile(r'(?:^|[,;|]\s*)"[^"\n]+"\s*(?:$|[,;|])')
_CONJUNCTIONS = (" and ", " & ", " und ", " et ", " y ", " e ")
_MOSTLY = 0.8
_LEARNT_FROM = 5_000  # different cells, the commonest: more add nothing
_MOST_CHARACTERS = 2_000  # longer cells do not show how labels are separated
_SIMILAR = 0.8
_MOST_KNOWN = 0.6  # of three or more parts
_STUCK = 2  # neighbours that were seen so often, and never apart, are one label


@dataclass(frozen=True)
class Splitting:
    """How the text cells of one column are split."""

    separator: str | None  # of most cells that have one; None where none was found
    asked: bool  # the user named it
    parts: Mapping[str, int]  # every label that stands by itself -> how often
    together: frozenset[str]  # what stands beside the separator in some cell
    odd: frozenset[str]  # the weak marks that some cells use in place of the separator
    stuck: frozenset[tuple[str, str]] = frozenset()  # neighbours that are one label
    conjunction: str | None = None  # what stands before the last label of most cells: "Action, Drama and Comedy"

    def items(self, text: str) -> list[str]:
        """Return the labels of a cell, without the spaces around them."""
        if self.separator is None:
            return [text.strip()]
        items = split(text, self.separator, self.stuck)
        if self.conjunction is not None:
            items = [*items[:-1], *self._before_and_behind(items[-1], several=len(items) > 1)]
        if self.asked or self.separator in _WEAK:
            return items
        return [part for item in items for part in self._split_again(item, alone=len(items) == 1)]

    def _before_and_behind(self, item: str, *, several: bool) -> list[str]:
        """Split the last item of a cell at the conjunction, unless it stands alone and its parts are no labels."""
        parts = split(f" {item}", self.conjunction or "")
        return parts if several or all(part in self.parts for part in parts) else [item]

    def _split_again(self, item: str, *, alone: bool) -> list[str]:
        """Split what holds another mark where its parts are labels of the column."""
        if item.isalnum() or not (_ANY_STRONG.search(item) or " and " in f" {item}" or (alone and self.odd)):
            return [item]
        for mark in STRONG:
            if mark in item:
                parts = split(item, mark)
                known = sum(self.parts.get(part, 0) > self.parts.get(item, 0) for part in parts)
                if known == len(parts) or (alone and 2 * known >= len(parts)):
                    return parts
        if not alone and " and " in f" {item}":  # the end of "Action, Drama and Comedy" or of "Drama, and Comedy"
            parts = split(f" {item}", " and ")
            if self.are_known(parts, item):
                return parts
        for mark in self.odd if alone and item not in self.together else ():
            if mark in item:
                parts = split(item, mark)
                n_known = sum(self.parts.get(part, 0) > self.parts.get(item, 0) for part in parts)
                if n_known == len(parts) or (n_known > 1 and n_known >= _MOST_KNOWN * len(parts)):
                    return parts
        return [item]

    def within(self, item: str) -> list[str]:
        """Return the labels of the only item of a container: `["Action, Drama"]` is text in a list."""
        marks = (mark for mark in STRONG if mark in item)
        return next((parts for mark in marks if self.are_known(parts := split(item, mark), item)), [item])

    def are_known(self, parts: Sequence[str], whole: str) -> bool:
        """Return whether each part is a label of the column more often than what it is a part of."""
        return all(self.parts.get(part, 0) > self.parts.get(whole, 0) for part in parts)


def learn_splitting(counts: Mapping[str, int], listed: Iterable[str] = (), asked: str | None = None) -> Splitting:
    """Learn from the text cells of a column and how often each is there; `listed` are labels of its containers."""
    if asked is not None:
        mark = asked.replace("\\n", "\n").replace("\\t", "\t") if asked in ("\\n", "\\t") else asked
        return Splitting(mark, True, {}, frozenset(), frozenset())
    common = Counter({cell: n for cell, n in counts.items() if len(cell) <= _MOST_CHARACTERS})
    counts = dict(common.most_common(_LEARNT_FROM))
    separator = _strong(counts)
    n_strong = sum(n for cell, n in counts.items() if separator is not None and separator in cell)
    conjunction = None if separator is None else _conjunction(counts, separator)
    weak, stuck = (None, frozenset()) if conjunction else _weak(counts, 2 * n_strong)
    if weak is not None:
        return Splitting(weak, False, {}, frozenset(), frozenset(), stuck)
    if separator is None and not listed:
        return Splitting(None, False, {}, frozenset(), frozenset())
    parts: Counter[str] = Counter(listed)
    together: set[str] = set()
    for cell, n in counts.items():
        items = split(cell, separator or ",")
        if conjunction and len(items) > 1:
            items = [*items[:-1], *split(f" {items[-1]}", conjunction)]
        parts.update(dict.fromkeys(items, n))
        together.update(items if len(items) > 1 else ())
    odd = {mark for mark in _BESIDE_ANOTHER if sum(mark in part for part in parts) > 1}
    return Splitting(separator or ",", False, parts, frozenset(together), frozenset(odd), conjunction=conjunction)


def _conjunction(counts: Mapping[str, int], separator: str) -> str | None:
    """Return the word that stands in the last item of nearly every cell of several, and in no other item."""
    lists = [split(cell, separator) for cell in counts if separator in cell]
    several = [items for items in lists if len(items) > 1]
    for word in _CONJUNCTIONS:
        n_last = sum(word in f" {items[-1]}" for items in several)
        n_before = sum(word in f" {item}" for items in several for item in items[:-1])
        if several and not n_before and n_last >= max(2, _MOSTLY * len(several)):
            return word
    return None


def split(text: str, mark: str, stuck: frozenset[tuple[str, str]] = frozenset()) -> list[str]:
    """Return the parts of a text, without empty ones unless all are."""
    if '"' in text and len(mark) == 1 and _QUOTED_PART.search(text):  # Drama, "Crime, true"
        parts = [part.strip() for part in next(csv.reader([text], delimiter=mark, skipinitialspace=True), [])]
    else:
        parts = [part.strip() for part in text.split(mark)] if mark != " " else text.split()
    found: list[str] = []
    last = ""
    for part in parts:
        if found and (last, part) in stuck:
            found[-1] += mark + part
        elif part:
            found.append(part)
        last = part
    return found or [""]


def _strong(counts: Mapping[str, int]) -> str | None:
    """Return the mark that most cells hold; of nearly equal ones that which leaves the fewest different parts."""
    with_mark = {mark: sum(n for cell, n in counts.items() if mark in cell) for mark in STRONG}
    most = max(with_mark.values(), default=0)
    if not most:
        return None
    rivals = [mark for mark in STRONG if with_mark[mark] >= _SIMILAR * most]
    return min(rivals, key=lambda mark: len({part for cell in counts for part in split(cell, mark)}))


def _weak(counts: Mapping[str, int], more_than: int) -> tuple[str | None, frozenset[tuple[str, str]]]:
    """Return the weak mark that most cells hold and whose parts are seen apart, and which parts never are."""
    best: tuple[int, str | None, frozenset[tuple[str, str]]] = (more_than, None, frozenset())
    for mark, needed in _WEAK.items():
        if best[1] is not None and mark in _WORD_MARKS:
            break
        with_mark = [cell for cell in counts if mark in cell]
        n = sum(counts[cell] for cell in with_mark)
        if n <= best[0]:
            continue
        stuck = _never_apart([cell.split(mark) for cell in with_mark], counts) if mark in _WORD_MARKS else frozenset()
        lists = [split(cell, mark, stuck) for cell in with_mark]
        if mark in _WORD_MARKS and not _are_words(lists):
            continue
        if _share_apart(lists, {cell for cell in counts if mark not in cell}) >= needed:
            best = (n, mark, stuck)
    return best[1], best[2]


def _are_words(lists: Sequence[Sequence[str]]) -> bool:
    """Return whether lists of words are likely: some have three, none a word such as "of", none has a dozen."""
    lengths = [len(parts) for parts in lists]
    words = {part for parts in lists for part in parts}
    joins = any(word in ("of", "the", "and", "de", "la", "&", "und", "et", "-", "/", "a") for word in words)
    return max(lengths, default=0) > 2 and max(lengths) < 12 and not joins


def _never_apart(lists: Sequence[Sequence[str]], counts: Mapping[str, int]) -> frozenset[tuple[str, str]]:
    """Return the neighbours that are always neighbours, as in "Slice of Life"."""
    pairs: Counter[tuple[str, str]] = Counter()
    seen: Counter[str] = Counter(cell for cell in counts)
    for parts in lists:
        seen.update(parts)
        pairs.update(pairwise(parts))
    return frozenset(pair for pair, n in pairs.items() if n >= _STUCK and seen[pair[0]] == n == seen[pair[1]])


def _share_apart(lists: Sequence[Sequence[str]], alone: set[str]) -> float:
    """Return the share of parts that also stand alone or beside two different neighbours."""
    neighbours: defaultdict[str, set[str]] = defaultdict(set)
    for parts in lists:
        for left, right in pairwise(parts):
            neighbours[left].add(right)
            neighbours[right].add(left)
    parts = [part for found in lists for part in found]
    apart = sum(part in alone or len(neighbours[part]) > 1 for part in parts)
    several = any(len(found) > 1 for found in lists)
    return apart / len(parts) if parts and several else 0.0
