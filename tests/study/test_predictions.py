"""The contract of every store of predictions, on SQLite and on PostgreSQL."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
import sqlalchemy as sa

from hpo.data.dataset import Part
from hpo.errors import StudyError
from hpo.study.predictions import DatabasePredictions, create_table
from hpo.study.storage import open_storage


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/optuna.db"
    name = f"predictions_{uuid4().hex}"
    return request.getfixturevalue("postgres").create_database(name)


def store(url: str, study_id: int = 1) -> DatabasePredictions:
    with open_storage(url) as storage:
        create_table(storage)
        return DatabasePredictions(storage, study_id)


@pytest.fixture
def val(parts: tuple[Part, Part]) -> Part:
    return parts[1]


@pytest.fixture
def probabilities(val: Part) -> np.ndarray:
    return np.random.default_rng(0).random(val.targets.shape).astype(np.float32)


def test_what_is_saved_is_loaded_to_the_last_bit_by_another_process(url: str, val: Part, probabilities: np.ndarray):
    store(url).save(3, probabilities, val)
    found = store(url).load(3, val)
    assert found is not None
    assert found.dtype == np.float32
    assert np.array_equal(found, probabilities)


def test_a_trial_without_predictions_has_none_and_no_trial_has_those_of_another_study(
    url: str, val: Part, probabilities: np.ndarray
):
    store(url).save(3, probabilities, val)
    assert store(url).load(4, val) is None
    assert store(url, study_id=2).load(3, val) is None


def test_predictions_of_other_posters_or_of_another_order_are_none(url: str, val: Part, probabilities: np.ndarray):
    kept = store(url)
    kept.save(0, probabilities, val)
    assert kept.load(0, val.take(np.arange(len(val))[::-1])) is None
    assert kept.load(0, val.take(np.arange(len(val) - 1))) is None


def test_saved_twice_is_what_was_saved_last(url: str, val: Part, probabilities: np.ndarray):
    kept = store(url)
    kept.save(0, probabilities, val)
    kept.save(0, 1 - probabilities, val)
    assert np.array_equal(kept.load(0, val), 1 - probabilities)


def test_a_new_version_of_a_study_takes_the_predictions_along(url: str, val: Part, probabilities: np.ndarray):
    first, second = store(url, 1), store(url, 2)
    first.save(0, probabilities, val)
    second.save(5, probabilities, val)  # left by a copy that was interrupted
    second.copy_from(first)
    assert np.array_equal(second.load(0, val), probabilities)
    assert second.load(5, val) is None
    assert first.load(0, val) is not None


def test_a_study_begins_without_what_a_deleted_one_of_its_id_left(url: str, val: Part, probabilities: np.ndarray):
    other = store(url, 2)
    other.save(0, probabilities, val)
    kept = store(url, 1)
    kept.save(0, probabilities, val)
    kept.clear()
    assert kept.load(0, val) is None
    assert other.load(0, val) is not None


def test_many_processes_that_open_a_fresh_database_make_one_table(url: str, val: Part, probabilities: np.ndarray):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: store(url).save(number, probabilities, val), range(8)))
    assert all(store(url).load(number, val) is not None for number in range(8))


def test_a_damaged_row_is_none(url: str, val: Part, probabilities: np.ndarray):
    store(url).save(0, probabilities, val)
    with open_storage(url) as storage, storage.engine.begin() as connection:
        connection.execute(sa.text("UPDATE hpo_predictions SET probabilities = :cut"), {"cut": b"cut short"})
    assert store(url).load(0, val) is None


def test_a_database_that_refuses_is_one_sentence(tmp_path: Path, val: Part, probabilities: np.ndarray):
    kept = store(f"sqlite:///{tmp_path}/optuna.db")
    with open_storage(f"sqlite:///{tmp_path}/optuna.db") as storage, storage.engine.begin() as connection:
        connection.execute(sa.text("DROP TABLE hpo_predictions"))
    with pytest.raises(StudyError, match=r"^Expected the database of studies at .* to answer, which it refuses"):
        kept.save(0, probabilities, val)
