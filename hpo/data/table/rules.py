"""Cleaning rules of a catalogue, in a form that a bundle stores."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict


@dataclass(frozen=True)
class ColumnNames:
    """What the user says of the columns; None is found by name, but no column of images is looked for.

    `labels` may name several one-hot columns, separated by commas.
    """

    id: str | None = None
    labels: str | None = None
    image: str | None = None
    group: str | None = None
    image_url: str | None = None


class CatalogueRules(BaseModel):
    """How rows become posters; a bundle stores it, so that another CSV is cleaned as the search's was.

    Columns and the separator are found when None, but without an `image_column` the image is named by the id.
    `types` holds only where the table has a `Type` column, in any case; None takes all. `label_names` fixes the
    labels and their order, and then `top_labels` chooses nothing. `keep_unlabelled` keeps the posters that
    carry none of the label names, as rows of False.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id_column: str | None = None
    labels_column: str | None = None  # of lists, or several one-hot columns separated by commas
    label_separator: str | None = None
    image_column: str | None = None
    group_column: str | None = None
    image_url_column: str | None = None
    types: tuple[str, ...] | None = ("TV", "Movie")
    keep_adult: bool = False
    top_labels: int = 10
    label_names: tuple[str, ...] | None = None
    keep_unlabelled: bool = False

    @property
    def column_names(self) -> ColumnNames:
        """Return what the user says of the columns."""
        return ColumnNames(
            self.id_column, self.labels_column, self.image_column, self.group_column, self.image_url_column
        )


DEFAULT_RULES = CatalogueRules()
