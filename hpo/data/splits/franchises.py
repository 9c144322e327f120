"""Finds the posters of one franchise by their titles: sequels, films, seasons, specials.

Titles of one franchise share a root. Every title claims roots (titles.py), and titles that claim the same
one are linked. A title may also just open with a root ("Naruto Shippuuden"), or mention it, or open with one that
nobody claims ("Harry Potter and ..."). That counts only if the root is a name rather than words that any title might
hold: "Monster" must not swallow "Monster Musume". What tells names apart, beside a list of everyday words, is their
cohesion in the catalogue at hand, a conditional probability as in the statistics of collocations (Manning & Schütze
1999, "Foundations of Statistical Natural Language Processing", ch. 5): of all titles that hold the root's rarest word,
the share that opens with the whole root. "potter" hardly ever appears without "harry" before it.

The trade-off: it knows titles only. Works whose titles share no root (Alien and Prometheus) are missed, and two
unrelated works of one name are linked; the first needs a group column, the second costs next to nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, chain

from hpo.data.splits.leakage import Links, linked_sets
from hpo.data.splits.title_words import EVERYDAY_WORDS
from hpo.data.splits.titles import Title, is_content, read_title

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

    def __init__(self, rows: Sequence[int], titles: Sequence[Title]) -> None:
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
        """Tell whether a root is an everyday word that too many titles claim: "Love: ..."."""
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

    def _openings(self, title: Title) -> Iterator[str]:
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
        """Tell whether titles that merely open with the root, or mention it, belong to it."""
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
