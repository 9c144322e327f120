"""Read labelled posters for a bundle: what became of each row, and how its labels match.

A label that the table spells in another way than the bundle counts as absent: it is named, and not guessed.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from hpo.data.summary import cleaning_lines
from hpo.data.table.catalogue import Catalogue, CleaningReport, read_catalogue
from hpo.data.table.image_files import ImageFiles
from hpo.data.table.rules import CatalogueRules
from hpo.errors import DataError
from hpo.escaping import one_line

_ALIKE = 0.75  # of difflib's ratio: Romance and Romantic are, Mystery and History are not
_SHOWN = 5
_TALLY = ("rows_read", "rows_kept", "dropped", "examples", "columns")


@dataclass(frozen=True, eq=False)
class Labelled:
    """What ``hpo evaluate`` and ``hpo compare`` judge on."""

    catalogue: Catalogue
    cleaning: CleaningReport
    unknown: Mapping[str, int]  # label of the table that the bundle does not know → posters, commonest first
    otherwise: Mapping[str, str]  # label of the bundle → how the table seems to spell it
    broken: dict[Path, str] = field(default_factory=dict)  # filled when posters are decoded

    @classmethod
    def read(cls, csv: Path, images: Path | ImageFiles | None, rules: CatalogueRules) -> Labelled:
        """Read a table by the ``rules`` of a bundle, whose label names they fix. Raises DataError."""
        catalogue, cleaning = read_catalogue(csv, images, rules)
        names = set(catalogue.label_names)
        every = rules.model_copy(update={"label_names": None, "top_labels": 10**6})
        try:
            counts = read_catalogue(csv, None, every)[1].label_counts
        except DataError:  # it holds a single label
            counts = {}
        unknown = {name: n for name, n in counts.items() if name not in names}
        found = ((name, _alike_among(name, unknown)) for name in catalogue.label_names)
        return cls(catalogue, cleaning, unknown, {name: other for name, other in found if other is not None})

    @property
    def unused(self) -> tuple[str, ...]:
        """The labels of the bundle that no poster has."""
        has = self.catalogue.targets.sum(axis=0).tolist()
        return tuple(name for name, n in zip(self.catalogue.label_names, has, strict=True) if not n)

    def account(self) -> dict[str, Any]:
        """Return the tally in the words of ``hpo data check --json``, and how the labels agree."""
        cleaning = self.cleaning.as_dict()
        return {
            **{key: cleaning[key] for key in _TALLY},
            "broken": {f"{path}": reason for path, reason in self.broken.items()},
            "labels_without_support": list(self.unused),
            "labels_unknown": dict(self.unknown),
            "labels_spelled_otherwise": dict(self.otherwise),
        }

    def lines(self) -> list[str]:
        """Say the same in sentences."""
        # Nothing is split here, so what would keep posters together is of no concern.
        lines = [line for line in cleaning_lines(self) if "--group-column" not in line]
        if self.unused:
            named = ", ".join(self._named(name) for name in self.unused)
            lines.append(f"No poster has {named}: left out of the averages over labels.")
        partly = [name for name in self.otherwise if name not in self.unused]
        if partly:
            lines.append(f"Spelled in two ways: {', '.join(map(self._named, partly))}.")
        if self.unknown:
            shown = ", ".join(f"{one_line(name)} ({n:,})" for name, n in list(self.unknown.items())[:_SHOWN])
            more = f" and {len(self.unknown) - _SHOWN:,} more" if len(self.unknown) > _SHOWN else ""
            lines.append(f"Labels of the table that the bundle does not know: {shown}{more}.")
        if self.otherwise:
            lines.append("Rename labels in the table where they mean the same: the bundle's spelling counts.")
        return lines

    def _named(self, name: str) -> str:
        other = self.otherwise.get(name)
        if other is None:
            return one_line(name)
        return f"{one_line(name)} (the table says {one_line(other)}, {self.unknown[other]:,} posters)"


def _alike_among(name: str, others: Mapping[str, int]) -> str | None:
    likeness = {other: _likeness(name, other) for other in others}
    best = max(likeness, key=lambda other: likeness[other], default=None)
    return best if best is not None and likeness[best] >= _ALIKE else None


def _likeness(first: str, second: str) -> float:
    """Return 1.0 for two spellings of the same words, short or in full, else how alike the letters are."""
    one, other = _words(first), _words(second)
    if not one or not other:
        return 0.0
    joined = "".join(one), "".join(other)
    initials = ["".join(word[0] for word in words) for words in (one, other) if len(words) > 1]
    shortened = len(one) == len(other) > 1 and all(
        a.startswith(b) or b.startswith(a) for a, b in zip(one, other, strict=True)
    )
    if joined[0] == joined[1] or shortened or any(joined[at] in initials for at in (0, 1)):
        return 1.0
    return SequenceMatcher(None, *joined).ratio()


def _words(label: str) -> list[str]:
    """Return a label's words without case, accents, plurals and the words between them."""
    plain = "".join(mark for mark in unicodedata.normalize("NFKD", label) if not unicodedata.combining(mark))
    apart = re.sub(r"([a-z])([A-Z])", r"\1 \2", plain).casefold()
    words = [word for word in re.split(r"[\W_]+", apart) if word and word != "and"]
    return [re.sub(r"ies$", "y", word) if word.endswith("ies") else word.removesuffix("s") or word for word in words]
