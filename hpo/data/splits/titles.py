"""Takes a title apart: its words, where a subtitle begins, and what only counts sequels.

"Naruto Movie 2: Legend of the Stone of Gelel" states its root, "naruto", before a separator and followed by nothing
but sequel markers (movie, 2). Such roots are the title's claims. Whether it belongs to yet another root, one that it
merely opens with or mentions, only the other titles can tell (hpo/data/splits/franchises.py).

The trade-off: the markers are word lists in the languages of the large catalogues. A word that is missing from them
costs a link; one too many ("movie" in "Scary Movie") costs nothing as long as all titles are stripped alike.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from hpo.data.splits.title_words import ARTICLES, LEADING_MARKERS, MARKERS, ORDINALS, PARTICLES, UNITS

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


class Title(NamedTuple):
    """One title as words, in lower case and without accents and apostrophes."""

    words: tuple[str, ...]  # from the first that is neither an article nor "the movie of"
    claims: tuple[str, ...]  # its roots: the words before each separator, and all of them, without sequel markers


def read_title(text: str) -> Title | None:
    """Take a title apart, or return None for one without a word."""
    phrase, *rest = _SEPARATOR.split(_plain(text))  # phrase, separator or None, phrase, ...
    words = _WORD.findall(phrase)
    claims = []
    for separator, phrase in zip(rest[::2], rest[1::2], strict=True):
        if (separator or len(words) > 1) and _tells(head := _without_markers(words)):
            claims.append(" ".join(head))
        words += _WORD.findall(phrase)
    if not words:
        return None
    claims.append(" ".join(_without_markers(words)))  # the whole title is claimed even if it is "It"
    start = _leading(words)
    return Title(tuple(words[start : start + MAX_WORDS]), tuple(dict.fromkeys(claims)))


def is_content(word: str) -> bool:
    """Tell whether a word says what a work is about: no particle, number, sequel marker or single letter."""
    return len(word) > 1 and _tells([word])


def _tells(words: Iterable[str]) -> bool:
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
