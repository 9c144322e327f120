"""A split on disk: who is in which part, as JSON that a person can read and a search can be given (`--split`)."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from hpo.data.catalogue.catalogue import Catalogue
from hpo.data.catalogue.columns import shown
from hpo.data.shards import write_whole
from hpo.data.splits.leakage import Groups, Rows
from hpo.data.splits.splits import PARTS, Split
from hpo.errors import DataError, disk_cure

_MOST_BYTES = 500_000_000  # of a file: some millions of posters


class KeptTogether(BaseModel):
    """Posters that stay in one part."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ids: tuple[str, ...]
    reasons: tuple[str, ...]


class SplitFile(BaseModel):
    """The posters of each part by id; `groups` are the posters that were kept together, and why."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: Literal[1] = 1
    fingerprint: str  # of the parts (`Split.fingerprint`)
    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]
    groups: tuple[KeptTogether, ...] = ()

    @classmethod
    def of(cls, split: Split, catalogue: Catalogue, groups: Groups) -> SplitFile:
        """Write the split of `catalogue` down."""

        def ids(rows: Rows) -> tuple[str, ...]:
            return tuple(catalogue.ids[row] for row in rows)

        return cls(
            fingerprint=split.fingerprint(catalogue.ids),
            train=ids(split.train),
            val=ids(split.val),
            test=ids(split.test),
            groups=tuple(KeptTogether(ids=ids(group.rows), reasons=group.reasons) for group in groups.shared),
        )

    def save(self, path: Path) -> None:
        """Write the file, one poster a line. Raises DataError when the disk refuses."""
        try:
            write_whole(path, self.model_dump_json(indent=1).encode())
        except OSError as error:
            raise DataError(
                f"the split could not be written to {path} ({error.strerror}): {disk_cure(error)}"
            ) from error

    def apply(self, catalogue: Catalogue) -> Split:
        """Return the split of `catalogue` that the file describes.

        Posters of the file that the catalogue lacks are passed over: a file may have broken since. Raises DataError
        when the catalogue has posters of which the file says nothing, or a part is left empty.
        """
        part_of = {name: part for part in PARTS for name in getattr(self, part)}
        strangers = [name for name in catalogue.ids if name not in part_of]
        if strangers:
            raise DataError(
                f"the split file names every part's posters, but not {len(strangers)} of the {len(catalogue)} in the "
                f"catalogue ({shown(strangers, 3)}): give --split the file of this catalogue, or leave it out"
            )
        parts = np.array([part_of[name] for name in catalogue.ids])
        split = Split(*(np.flatnonzero(parts == part) for part in PARTS))
        empty = [name for name, rows in split.parts().items() if not len(rows)]
        if empty:
            raise DataError(f"the split file leaves no poster to {' and '.join(empty)}: give --split another file")
        return split


def load_split(path: Path) -> SplitFile:
    """Read a split file. Raises DataError when it cannot be read, is none, or puts a poster in two parts."""
    try:
        if path.exists() and (not path.is_file() or path.stat().st_size > _MOST_BYTES):
            raise DataError(f"{path} is no file of at most {_MOST_BYTES:,} bytes, as a split file is: check --split")
        loaded = SplitFile.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path} cannot be read as a split file ({error.strerror}): check --split") from error
    except (ValidationError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path} is no split file ({_first_problem(error)}): give --split a file that hpo data check wrote"
        ) from error
    times = Counter([*loaded.train, *loaded.val, *loaded.test])
    twice = [name for name, n in times.items() if n > 1]
    if twice:
        raise DataError(f"{path} puts posters into two parts ({shown(twice, 3)}): each belongs to one")
    return loaded


def _first_problem(error: ValidationError | UnicodeDecodeError) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "not UTF-8"
    problem: Any = error.errors()[0]
    return f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}".strip(": ")
