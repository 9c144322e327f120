"""Group posters of one franchise by title: sequels, films, seasons, specials.

Titles of one franchise share a root. Every title claims roots (titles.py), and titles that claim the same
one are linked. A title may also just open with a root ("Naruto Shippuuden"), or mention it, or open with one that
that no title claims ("Harry Potter and ..."). That counts only if the root is a name rather than words that any title
might hold: "Monster" must not swallow "Monster Musume". What distinguishes names, beside a list of everyday words, is
their cohesion in the catalogue at hand, a conditional probability as in the statistics of collocations (Manning &
Schütze 1999, "Foundations of Statistical Natural Language Processing", ch. 5): of all titles that hold the root's
rarest word, the share that opens with the whole root. "potter" hardly ever appears without "harry" before it.

The trade-off: it knows titles only. Works whose titles share no root (Alien and Prometheus) are missed, and two
unrelated works of one name are linked; the first needs a group column, the second costs next to nothing.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import accumulate, chain
from typing import NamedTuple

from hpo.data.splits.groups import Links, linked_sets
from hpo.data.splits.title_words import ARTICLES, EVERYDAY_WORDS, LEADING_MARKERS, MARKERS, ORDINALS, PARTICLES, UNITS

# Takes a title apart: its words, where a subtitle begins, and what only counts sequels.
#
# "Naruto Movie 2: Legend of the Stone of Gelel" states its root, "naruto", before a separator and followed by nothing
# but sequel markers (movie, 2). Such roots are the title's claims. Whether it belongs to yet another root, one that it
# merely opens with or mentions, only the other titles can decide (hpo/data/splits/franchises.py).
#
# The trade-off: the markers are word lists in the languages of the large catalogues. A word that is missing from them
# costs a link; one too many ("movie" in "Scary Movie") costs nothing as long as all titles are stripped alike.

# Where a subtitle begins: at a bracket, slash or tilde, and at a colon or dash beside a space. "!", "?" and "..." may
# as well be part of the name ("Hibike! Euphonium"), so that a single word before one claims nothing.
_SEPARATOR = re.compile(r"([|~〜()\[\]【】「」『』/]|:(?!\S)|[-–—](?<!\S.)[-–—]*|[-–—]+(?!\S))|[!?]+(?!\S)|\.\.\.+")
# Japanese puts no spaces, so that its words are runs of one script; ordinals as in 第2期 are one word.
_WORD = re.compile(
    r"劇場版|剧场版|第[\d一二三四五六七八九十]+[^\W\d]|\d+(?:st|nd|rd|th)?(?![^\W\d_])|\d+|[ぁ-ゖ]+|[ァ-ヿ]+|[㐀-鿿々]+"
    r"|[^\W\d_ぁ-ヿ㐀-鿿]+"
)
_LATIN_ACCENTS = re.compile("[\u0300-\u036f]")
_APOSTROPHE = re.compile("['’‘`]")
# Counts of sequels, and years: digits, roman, 第2期. Other numbers are names, Eyeshield 21 or Area 88, and so is X.
_NUMBER = re.compile(r"0?\d|1\d|20|(?:19|20)\d\d|第.+|(?=[ivx])(?!x$)x{0,2}(?:ix|iv|v?i{0,3})")
MAX_WORDS = 40  # no name is that long; a cell that holds a whole synopsis may be

_EMPTY_WORDS = ARTICLES | PARTICLES | MARKERS


class ParsedTitle(NamedTuple):
    """One title as words, in lower case and without accents and apostrophes."""

    words: tuple[str, ...]  # from the first that is neither an article nor "the movie of"
    claims: tuple[str, ...]  # its roots: the words before each separator, and all of them, without sequel markers


def read_title(text: str) -> ParsedTitle | None:
    """Take a title apart, or return None for one without a word."""
    phrase, *rest = _SEPARATOR.split(_plain(text))  # phrase, separator or None, phrase, ...
    words = _WORD.findall(phrase)
    claims = []
    for separator, phrase in zip(rest[::2], rest[1::2], strict=True):
        if (separator or len(words) > 1) and _is_distinctive(head := _without_markers(words)):
            claims.append(" ".join(head))
        words += _WORD.findall(phrase)
    if not words:
        return None
    claims.append(" ".join(_without_markers(words)))  # the whole title is claimed even if it is "It"
    start = _leading(words)
    return ParsedTitle(tuple(words[start : start + MAX_WORDS]), tuple(dict.fromkeys(claims)))


def is_content(word: str) -> bool:
    """Return whether a word says what a work is about: no particle, number, sequel marker or single letter."""
    return len(word) > 1 and _is_distinctive([word])


def _is_distinctive(words: Iterable[str]) -> bool:
    return any(word not in _EMPTY_WORDS and not _is_number(word) for word in words)


@lru_cache(maxsize=100_000)  # titles share most of their words
def _is_number(word: str) -> bool:
    return _NUMBER.fullmatch(word) is not None


def _plain(text: str) -> str:
    """Fold case, width, accents of Latin letters and "&", and drop apostrophes."""
    text = text.casefold()
    if not text.isascii():
        decomposed = unicodedata.normalize("NFKD", text)
        text = unicodedata.normalize("NFC", _LATIN_ACCENTS.sub("", decomposed))
    return _APOSTROPHE.sub("", text).replace("&", " and ")


def _without_markers(words: list[str]) -> list[str]:
    """Drop the sequel markers at both ends, but never the last word."""
    start, end = _leading(words), len(words)
    while end > start + 1 and _is_marker(words, end - 1):
        end -= 1
    return words[start:end]


def _leading(words: list[str]) -> int:
    """Return how many words at the start are an article or say that this is the film of a series."""
    start = 0
    while start < len(words) - 1 and words[start] in LEADING_MARKERS:
        start += 1
        if words[start - 1] in ARTICLES:  # but the next may be part of the name: "The A-Team"
            break
    return start


def _is_marker(words: list[str], at: int) -> bool:
    word = words[at]
    if word in MARKERS or _is_number(word):
        return True
    if word not in UNITS and word not in ORDINALS:
        return False
    before, after = words[at - 1], words[at + 1] if at + 1 < len(words) else ""
    if word in UNITS:
        return _counts(before) or _counts(after)
    return before in UNITS or after in UNITS or after in MARKERS


def _counts(word: str) -> bool:
    return word in ORDINALS or _is_number(word)


REASON = "title"
LONG_NAME = 3  # a claimed root of so many content words does not recur by chance
MIN_COHESION = {1: 0.8, 2: 1 / 3}  # content words of a shorter claimed root -> cohesion that makes it a name
MIN_COHESION_UNCLAIMED = 0.75  # "Harry Potter and the ...": no title claims the bare root
MAX_TITLES_OF_ONE_WORD = 8  # with more it needs a second claim, or is a modifier: Ghost Ship, Ghost Town, Ghost World
MAX_SHARE = 0.05  # of all titles: what more of them share is a pattern ("Poster 17"), unless there are few of them
LARGE_FRANCHISE = 50  # titles
MIN_LETTERS = 4  # of a name of one word: Air, Kid and Saw are words


def franchise_links(titles: Sequence[tuple[str, ...]]) -> Links:
    """Link posters whose titles share a root; any of a poster's titles (main, English, ...) may say so.

    `titles` (N,) holds every poster's titles, in any order; one that is missing has to be an empty text.
    """
    texts = [(row, text) for row, texts in enumerate(titles) for text in dict.fromkeys(texts) if text]
    read = [(row, title) for row, text in texts if (title := read_title(text)) is not None]
    return linked_sets(REASON, _Roots(*zip(*read, strict=True)).franchises() if read else ())


class _Roots:
    """Which titles claim which root, how many open with it, and how common its words are."""

    def __init__(self, rows: Sequence[int], titles: Sequence[ParsedTitle]) -> None:
        self._rows = rows  # (T,), of each title's poster
        self._titles = titles  # (T,)
        self._claimed_by: dict[str, list[int]] = {}  # root -> places in titles
        for at, title in enumerate(titles):
            for root in title.claims:
                self._claimed_by.setdefault(root, []).append(at)
        n_with_word = Counter(chain.from_iterable(set(title.words) for title in titles))
        self._n_with_content = {word: n for word, n in n_with_word.items() if is_content(word)}
        self._n_opening = Counter(chain.from_iterable(map(self._openings, titles)))

    def franchises(self) -> Iterator[list[int]]:
        """Yield the rows of every root that posters share."""
        claimed = (places for root, places in self._claimed_by.items() if not self._is_modifier(root))
        most = max(LARGE_FRANCHISE, MAX_SHARE * len(self._titles))
        for places in chain(claimed, self._places_of_names().values()):
            if 1 < len(places) <= most:
                yield sorted({self._rows[at] for at in places})

    def _is_modifier(self, root: str) -> bool:
        """Return whether a root is an everyday word that too many titles claim: "Love: ..."."""
        return root in EVERYDAY_WORDS and len(self._claimed_by[root]) > MAX_TITLES_OF_ONE_WORD

    def _places_of_names(self) -> dict[str, list[int]]:
        """Return the titles that open with each name, or mention it."""
        shareable = (root for root, n in self._n_opening.items() if n > 1 or " " in root)  # or it may be mentioned
        names = {root: len(self._content(root)) for root in shareable if self._is_name(root)}
        longest = _most_words_by_first_word(names)
        places: dict[str, list[int]] = {}
        for at, title in enumerate(self._titles):
            for name in _names_in(title.words, names, longest):
                places.setdefault(name, []).append(at)
        return places

    def _openings(self, title: ParsedTitle) -> Iterator[str]:
        """Yield the claimed roots that a title opens with, and the runs of words that may be unclaimed ones.

        Those end in their second content word or a later one. A word that no other title holds ends the search.
        """
        n_content = 0
        for run, word in zip(_runs(title.words), title.words, strict=True):
            n_with = self._n_with_content.get(word, 0)
            if n_with == 1:
                return
            n_content += n_with > 0
            if run in self._claimed_by or (n_with and n_content > 1):
                yield run

    def _is_name(self, root: str) -> bool:
        """Return whether titles that merely open with the root, or mention it, belong to it."""
        content = self._content(root)
        claiming = self._claimed_by.get(root, [])
        if claiming and len(content) >= LONG_NAME:
            return True
        needed = MIN_COHESION.get(len(content), 1.0) if claiming else MIN_COHESION_UNCLAIMED
        if not content or self._n_opening[root] < needed * min(self._n_with_content[word] for word in content):
            return False
        is_claimed_twice = len({self._titles[at].words for at in claiming}) > 1
        is_everyday = EVERYDAY_WORDS.issuperset(content)
        if len(content) > 1:
            return is_claimed_twice or not is_everyday
        is_short = root.isascii() and len(content[0]) < MIN_LETTERS
        return not (is_everyday or is_short) and (is_claimed_twice or self._n_opening[root] <= MAX_TITLES_OF_ONE_WORD)

    def _content(self, root: str) -> list[str]:
        return [word for word in root.split() if word in self._n_with_content]


def _names_in(words: tuple[str, ...], names: Mapping[str, int], longest: Mapping[str, int]) -> Iterator[str]:
    """Yield the names at the start of a title, and those of two content words or more that stand anywhere in it."""
    for start, word in enumerate(words):
        if word in longest:
            for run in _runs(words[start : start + longest[word]]):
                if names.get(run, 0) > (start > 0):
                    yield run


def _most_words_by_first_word(names: Iterable[str]) -> dict[str, int]:
    longest: dict[str, int] = {}
    for name in names:
        first, *others = name.split()
        longest[first] = max(longest.get(first, 0), 1 + len(others))
    return longest


def _runs(words: tuple[str, ...]) -> Iterator[str]:
    """Yield the first word, the first two, ... joined by spaces."""
    return accumulate(words, "{} {}".format)
