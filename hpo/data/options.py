"""What decides the posters of a search: a light module, since every command names it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict

from hpo.data.catalogue.rules import CatalogueRules

Grouping: TypeAlias = Literal["all", "titles", "posters", "none"]


class DataOptions(BaseModel):
    """What decides the posters of a search and their split; a study remembers it, to prepare them again."""

    model_config = ConfigDict(frozen=True)

    csv: Path
    images: Path | None  # None: the rows alone, which is enough to check a table
    rules: CatalogueRules
    val_size: int | float  # a number of posters, or a share of them
    test_size: int | float  # a number of posters, or a share of them
    seed: int
    grouping: Grouping = "all"  # by which evidence posters are kept in one part
    split_file: Path | None = None  # decides the parts in place of sizes, seed and grouping
