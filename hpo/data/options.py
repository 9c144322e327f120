"""What decides the posters of a search: a light module, since every command names it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict

from hpo.data.catalogue.rules import CatalogueRules

Grouping: TypeAlias = Literal["all", "titles", "posters", "none"]


def at_home(path: Path) -> Path:
    """Return a path with ~ as the home folder, where a shell left it: in quotes, after =, in a variable."""
    try:
        return path.expanduser()
    except RuntimeError:  # no home is known
        return path


AtHome: TypeAlias = Annotated[Path, AfterValidator(at_home)]


class DataOptions(BaseModel):
    """What decides the posters of a search and their split; a study remembers it, to prepare them again."""

    model_config = ConfigDict(frozen=True)

    csv: AtHome
    images: AtHome | None  # None: the rows alone, which is enough to check a table
    rules: CatalogueRules
    val_size: int | float  # a number of posters, or a share of them
    test_size: int | float  # a number of posters, or a share of them
    seed: int
    grouping: Grouping = "all"  # by which evidence posters are kept in one part
    split_file: AtHome | None = None  # decides the parts in place of sizes, seed and grouping
