"""Store the predictions of a study's trials: out-of-fold probabilities, for ensembles, comparisons and intervals.

They lie in a table beside Optuna's, a row a trial, so that every process that sees the study sees them, whatever
becomes of MLflow. Probabilities of 6,000 posters and 10 labels are 240 kB.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Protocol

import numpy as np
import sqlalchemy as sa
from safetensors import SafetensorError
from safetensors.numpy import load, save

from hpo.data.dataset import Part
from hpo.runtime.atomic import Array
from hpo.study.storage import RetryingStorage

_TENSOR = "probabilities"
_TABLE = sa.Table(
    "hpo_predictions",
    sa.MetaData(),
    sa.Column("study_id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("trial", sa.Integer, primary_key=True, autoincrement=False),  # its number
    sa.Column("posters", sa.String(24), nullable=False),  # which ones and in which order, as a digest
    sa.Column("probabilities", sa.LargeBinary, nullable=False),  # safetensors, float32 (N, L)
)


def create_table(storage: RetryingStorage) -> None:
    """Make the table of predictions where there is none. Raises StudyError."""
    with storage.locked("table of predictions"):  # as two processes that create a table at once break both
        storage.retry(lambda: _TABLE.create(storage.engine, checkfirst=True))


class PredictionStore(Protocol):
    """Where the predictions of one study's trials are kept."""

    def save(self, number: int, probabilities: Array, part: Part) -> None:
        """Keep the probabilities (N, L) that trial ``number`` gives the posters of ``part``, instead of earlier ones.

        Raises StudyError where they cannot be written.
        """

    def load(self, number: int, part: Part) -> Array | None:
        """Return the probabilities (N, L) of trial ``number``; None where it has none, or of other posters.

        Raises StudyError where they cannot be read.
        """


class DatabasePredictions:
    """Predictions in the database of the studies, by Optuna's id of the study and the number of the trial."""

    def __init__(self, storage: RetryingStorage, study_id: int) -> None:
        self._storage, self._study_id = storage, study_id

    def save(self, number: int, probabilities: Array, part: Part) -> None:
        """Keep the probabilities of a trial: see ``PredictionStore``."""
        row = {
            "study_id": self._study_id,
            "trial": number,
            "posters": _digest(part),
            "probabilities": save({_TENSOR: np.ascontiguousarray(probabilities, np.float32)}),
        }

        def write() -> None:  # twice is as once: the storage asks again after an outage
            with self._storage.engine.begin() as connection:
                connection.execute(_TABLE.delete().where(self._is_mine, _TABLE.c.trial == number))
                connection.execute(_TABLE.insert().values(row))

        self._storage.retry(write)

    def load(self, number: int, part: Part) -> Array | None:
        """Return the probabilities of a trial, or None: see ``PredictionStore``."""
        wanted = sa.select(_TABLE.c.probabilities).where(
            self._is_mine, _TABLE.c.trial == number, _TABLE.c.posters == _digest(part)
        )

        def read() -> bytes | None:
            with self._storage.engine.connect() as connection:
                found: bytes | None = connection.scalar(wanted)
                return found

        kept = self._storage.retry(read)
        try:
            probabilities: Array | None = None if kept is None else load(kept)[_TENSOR]
        except (SafetensorError, KeyError):
            return None  # damaged: as good as none
        fits = probabilities is not None and probabilities.shape == part.targets.shape
        return probabilities if fits else None

    def clear(self) -> None:
        """Delete what a study of the same id has left: databases give the id of a deleted study again."""

        def delete() -> None:
            with self._storage.engine.begin() as connection:
                connection.execute(_TABLE.delete().where(self._is_mine))

        self._storage.retry(delete)

    def copy_from(self, other: DatabasePredictions) -> None:
        """Take over the predictions of a study in the same database whose trials have the same numbers."""
        columns = [column.name for column in _TABLE.columns]
        rows = sa.select(sa.literal(self._study_id), *_TABLE.columns[1:]).where(other._is_mine)
        self.clear()

        def copy() -> None:
            with self._storage.engine.begin() as connection:
                connection.execute(_TABLE.insert().from_select(columns, rows))

        self._storage.retry(copy)

    @property
    def _is_mine(self) -> sa.ColumnElement[bool]:
        return _TABLE.c.study_id == self._study_id


def _digest(part: Part) -> str:
    """Name the posters, in their order."""
    return blake2b(b"".join(part.posters.digests), digest_size=12).hexdigest()
