"""Snapshot of a study: every trial with state, times and value, read in milliseconds.

Optuna's ``get_trials`` reads all that was noted with every trial, curves and metrics of each label included: two
seconds for 2,000 of them, too long for a look at the progress. What is read here are
columns of Optuna's own tables, in two queries.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import sqlalchemy
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Column, DateTime, Float, Integer, String

from hpo.study.trial_queue import TrialCounts
from hpo.study.trial_record import TrialRecord

_NOTED = ("worker", "retry_of")  # of what was noted with a trial

_tables = sqlalchemy.MetaData()
_TRIALS = sqlalchemy.Table(
    "trials",
    _tables,
    Column("trial_id", Integer),
    Column("number", Integer),
    Column("study_id", Integer),
    Column("state", String),
    Column("datetime_start", DateTime),
    Column("datetime_complete", DateTime),
)
_VALUES = sqlalchemy.Table("trial_values", _tables, Column("trial_id", Integer), Column("value", Float))
_NOTES = sqlalchemy.Table(
    "trial_user_attributes",
    _tables,
    Column("trial_id", Integer),
    Column("key", String),
    Column("value_json", String),
)


@dataclass(frozen=True)
class StudySnapshot:
    """How a study stands."""

    trials: list[TrialRecord]  # in order of number, light: states, times, values and who runs them
    counts: TrialCounts
    best: TrialRecord | None  # of the highest value, whole
    leader: TrialRecord | None  # the trial that should be champion, whole
    fresh: list[float]  # values of the leader on fresh seeds


def snapshot(engine: sqlalchemy.Engine, study_id: int) -> list[FrozenTrial]:
    """Return the trials of a study in order of number, without parameters, and of what was noted only a worker's name.

    Raises SQLAlchemyError.
    """
    of_study = _TRIALS.c.study_id == study_id
    trials = sqlalchemy.select(_TRIALS, _VALUES.c.value).outerjoin_from(
        _TRIALS, _VALUES, _VALUES.c.trial_id == _TRIALS.c.trial_id
    )
    notes = sqlalchemy.select(_NOTES).join_from(_NOTES, _TRIALS, _NOTES.c.trial_id == _TRIALS.c.trial_id)
    with engine.connect() as connection:
        rows = connection.execute(trials.where(of_study).order_by(_TRIALS.c.number)).all()
        noted = connection.execute(notes.where(of_study, _NOTES.c.key.in_(_NOTED))).all()
    by_trial: dict[int, dict[str, Any]] = defaultdict(dict)
    for note in noted:
        by_trial[note.trial_id][note.key] = json.loads(note.value_json)
    return [_trial(row, by_trial[row.trial_id]) for row in rows]


def _state(name: str) -> TrialState:
    if name not in TrialState.__members__:
        raise LookupError(f"{name!r} is not among the states of a trial")  # as SQLAlchemy says it
    return TrialState[name]


def _trial(row: Any, noted: dict[str, Any]) -> FrozenTrial:
    return FrozenTrial(
        number=row.number,
        state=_state(row.state),
        value=row.value,
        datetime_start=row.datetime_start,
        datetime_complete=row.datetime_complete,
        params={},
        distributions={},
        user_attrs=noted,
        system_attrs={},
        intermediate_values={},
        trial_id=row.trial_id,
    )
