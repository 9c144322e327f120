"""Look up titles and labels of single posters in a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hpo.data.labels.cells import real_text
from hpo.data.table.cleaning import Title, label_cells_of, titles_in
from hpo.data.table.columns import shown
from hpo.data.table.image_files import owner_of
from hpo.data.table.reader import read_table
from hpo.data.table.rules import CatalogueRules
from hpo.errors import DataError


@dataclass(frozen=True)
class Known:
    """The rows of a table by id, and by the name of their image where the table has a column of such."""

    label_names: frozenset[str]
    by_id: dict[str, Title]
    by_image: dict[str, Title]

    @classmethod
    def read(cls, csv: Path, rules: CatalogueRules, label_names: Sequence[str]) -> Known:
        """Read a table of the columns that ``rules`` name, or, where it is another one's, of those that are found.

        Raises DataError when it cannot be read or carries none of ``label_names``.
        """
        try:
            table = read_table(csv, rules.column_names)
        except DataError:
            rules = CatalogueRules()
            table = read_table(csv, rules.column_names)
        titles = titles_in(table, label_cells_of(table, rules.label_separator, label_names))
        check_shared_labels(csv, label_names, {label for title in titles for label in title.labels})
        by_id: dict[str, Title] = {}
        for title in titles:  # of two rows with one id the first counts, unless they differ in their labels alone
            first = by_id.setdefault(title.id, title)
            if first.row._replace(labels="", marked=()) == title.row._replace(labels="", marked=()):
                by_id[title.id] = first._replace(labels=first.labels | title.labels)
        by_image = {title.row.image: title for title in reversed(titles) if title.row.image}
        return cls(frozenset(label_names), by_id, by_image)

    def of(self, poster: Path) -> tuple[str, frozenset[str] | None]:
        """Return a poster's title, or its file's name, and its labels among the known ones; None where it has none."""
        title = self._title(poster)
        if title is None:
            return poster.stem, None
        named = real_text(title.row.title) or title.id or poster.stem
        return named, title.labels & self.label_names if title.labels else None

    def _title(self, poster: Path) -> Title | None:
        parts = poster.absolute().parts
        tails = ("/".join(parts[at:]) for at in range(1, len(parts)))  # the longest is the surest
        by_image = next((self.by_image[tail] for tail in tails if tail in self.by_image), None)
        owner = owner_of("/".join(parts[-2:]), self.by_id)
        return by_image or (None if owner is None else self.by_id[owner])


def check_shared_labels(csv: Path, label_names: Sequence[str], found: set[str]) -> None:
    """Raise DataError where a table carries none of a bundle's labels."""
    if found.isdisjoint(label_names):
        others = shown(sorted(found), 5) or "none"
        raise DataError(
            f"expected at least one of the labels {shown(label_names, 5)} in {csv}, got {others}: "
            "name a table of the labels that the bundle was trained on, or another bundle"
        )
