"""A real study in a real sqlite database."""

from __future__ import annotations

import errno
import os
import socket
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock

import optuna
import pytest
from filelock import FileLock

from hpo.errors import BackboneError, DataError, ResourceError, StudyError
from hpo.report.status import status_lines, status_of
from hpo.settings import Paths
from hpo.space.load import SearchSpace, load_space
from hpo.study import trial_queue as claims
from hpo.study.running_trial import OutOfTime, RunningTrial
from hpo.study.storage import latest_study_name
from hpo.study.study import Study, open_study
from tests.postgres import Postgres


def forever() -> bool:
    return True


@pytest.fixture(scope="module")
def space() -> SearchSpace:
    return load_space(Path("default"))


class House:
    """A folder with a database, in which a test opens a study as often as it likes."""

    def __init__(self, folder: Path, space: SearchSpace) -> None:
        self.folder, self.space = folder, space
        self.url = f"sqlite:///{folder / 'optuna.db'}"

    def open(self, name: str = "s", *, create: bool = True) -> Study:
        return open_study(self.url, name, self.folder / "locks", 0, create=create)

    def run(self, budget: int, objective=lambda trial: trial.choose().learning_rate) -> list[int]:
        study = self.open()
        study.set_budget(budget)
        return [trial.number for trial in study.run(self.space, objective, forever)]


@pytest.fixture
def house(tmp_path: Path, space: SearchSpace) -> House:
    return House(tmp_path, space)


def test_resuming_runs_to_exactly_the_budget(house: House) -> None:
    assert house.run(3) == [0, 1, 2]
    assert house.run(5) == [3, 4]
    assert house.run(5) == []
    assert house.open().budget == 5


def test_a_resumed_study_does_not_repeat_its_beginning(house: House) -> None:
    house.run(3)
    house.run(6)
    rates = [trial.value for trial in house.open().trials()]
    assert len(set(rates)) == 6


def test_failed_trials_do_not_count_and_three_in_a_row_stop_the_search(house: House) -> None:
    def every_other(trial: RunningTrial) -> float:
        trial.choose()
        if trial.number % 2:
            raise ValueError("odd")
        return 0.5

    assert house.run(3, every_other) == [0, 1, 2, 3, 4]
    counts = house.open().counts()
    assert (counts.finished, counts.failed, counts.retried) == (3, 0, 2)  # an even number's retry made up for each
    retried = house.open().trials()[2]
    assert list(retried.history) == [{"trial": 1, "how": "failed", "why": "ValueError: odd"}]

    def always(trial: RunningTrial) -> float:
        trial.choose()
        raise ValueError("bad luck")

    with pytest.raises(ValueError, match="bad luck"):
        house.run(9, always)
    counts = house.open().counts()  # one configuration twice and another once, which waits for its second chance
    assert (counts.failed, counts.retried, counts.waiting) == (1, 4, 1)


def test_what_is_refused_in_a_sentence_is_not_tried_again(house: House) -> None:
    def first_refused(trial: RunningTrial) -> float:
        trial.choose()
        if trial.number == 0:
            raise ResourceError("Expected memory for one poster at once.")
        return 0.5

    assert house.run(2, first_refused) == [0, 1, 2]
    study = house.open()
    assert (study.counts().failed, study.counts().retried) == (1, 0)
    assert study.trials()[0].error == "ResourceError: Expected memory for one poster at once."


def test_g8_a_backbone_that_cannot_be_had_is_left_out_and_the_others_are_searched(house: House) -> None:
    gone = house.space.backbone_choices[0]

    def refused(trial: RunningTrial) -> float:
        config = trial.choose()
        if config.backbone == gone:
            raise BackboneError("Expected weights, got none.")
        return 0.5

    notices: list[str] = []
    study = house.open()
    for _ in range(4):  # more than end a search that fails in a row
        optuna.load_study(study_name="s", storage=house.url).enqueue_trial({"backbone": gone})
    study.set_budget(3)
    ran = list(study.run(house.space, refused, forever, notices.append))
    assert study.counts().finished == 3
    assert [trial.error for trial in ran[:4]] == ["BackboneError: Expected weights, got none."] * 4
    assert notices == [f"Left out {gone} for the rest of this search: Expected weights, got none."]


def test_g8_a_search_ends_where_no_backbone_can_be_had(house: House) -> None:
    def refused(trial: RunningTrial) -> float:
        trial.choose()
        raise BackboneError("Expected weights, got none.")

    with pytest.raises(BackboneError):
        house.run(3, refused)


def test_an_interrupted_trial_is_queued_again_with_its_parameters(house: House) -> None:
    seen = []

    def interrupted(trial: RunningTrial) -> float:
        seen.append(trial.choose())
        if len(seen) == 1:
            raise KeyboardInterrupt
        return 0.5

    with pytest.raises(KeyboardInterrupt):
        house.run(1, interrupted)
    assert house.open().counts().waiting == 1
    house.run(1, interrupted)
    assert seen[0] == seen[1]
    assert house.open().trials()[1].retry_of == 0


def lost_trial(house: House, worker: str) -> optuna.Trial:
    """Leave a trial RUNNING, as a killed worker does."""
    storage = optuna.storages.RDBStorage(house.url)
    trial = optuna.load_study(study_name="s", storage=storage).ask()
    trial.suggest_float("x", 0, 1)
    trial.set_user_attr("worker", worker)
    return trial


def test_the_leader_is_the_best_mean_once_the_best_was_run_again(house: House) -> None:
    values = iter([0.4, 0.5, 0.45, 0.1])

    def objective(trial: RunningTrial) -> float:
        trial.choose()
        return next(values)

    house.run(4, objective)
    study = house.open()
    assert [trial.number for trial in study.top(2)] == [1, 2]
    assert study.leader().number == 1
    for trial, value in zip(study.top(2), (0.3, 0.44), strict=True):
        study.confirm(trial, 7, value)
    assert house.open().leader().number == 2
    assert [(trial.number, values) for trial, values in house.open().run_again()] == [(2, [0.44]), (1, [0.3])]
    assert study.is_confirmed(study.top(1)[0], 7)
    assert not study.is_confirmed(study.top(1)[0], 8)
    house.run(5, lambda trial: trial.choose() and 0.6)  # a new best one leads until it was run again as well
    assert house.open().leader().number == 4


def test_a_dead_workers_trial_is_lost_and_a_living_ones_is_not(house: House) -> None:
    study, locks = house.open(), house.folder / "locks"
    locks.mkdir()
    alive, dead = (f"{socket.gethostname()}-{name}" for name in ("alive", "dead"))
    lost_trial(house, alive)
    lost_trial(house, dead)
    (locks / f"{dead}.lock").touch()
    with FileLock(locks / f"{alive}.lock"):
        assert study.requeue_lost() == [1]
    assert (study.counts().running, study.counts().failed, study.counts().waiting) == (1, 0, 1)
    retry = study.trials()[-1]
    assert list(retry.history) == [{"trial": 1, "how": "lost", "why": "its worker died"}]
    assert study._study.trials[-1].system_attrs["fixed_params"] == study.trials()[1].params


def test_a_worker_elsewhere_is_dead_when_its_heartbeat_stands_still(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(claims, "_clock", lambda: now[0])
    study = house.open()
    beating, silent = (lost_trial(house, f"elsewhere-{name}") for name in ("beating", "silent"))
    assert study.requeue_lost() == []  # the first look only remembers
    now[0] += claims._SILENCE_SECONDS - 1
    assert study.requeue_lost() == []
    now[0] += 2
    beating.set_user_attr("heartbeat", 1)
    assert study.requeue_lost() == [silent.number]


def test_a_study_ends_with_its_budget_whoever_runs_it(house: House) -> None:
    def slow(trial: RunningTrial) -> float:
        trial.choose()
        time.sleep(0.02)
        return 0.5

    house.open().set_budget(20)
    with ThreadPoolExecutor(4) as pool:
        runs = [pool.submit(lambda: list(house.open().run(house.space, slow, forever))) for _ in range(4)]
        ran = [trial.number for run in runs for trial in run.result()]
    assert sorted(ran) == list(range(20))
    assert house.open().counts().finished == 20


def test_recipes_come_first_once_and_are_never_pruned(house: House, space: SearchSpace) -> None:
    study = house.open()
    study.enqueue_recipes(space)
    study.enqueue_recipes(space)
    assert study.counts().waiting == len(space.recipes)
    recipes = []

    def hopeless(trial: RunningTrial) -> float:
        recipes.append(trial.recipe)
        trial.choose()
        for epoch in range(1, 20):
            trial.report(0.0 if trial.recipe else 0.5, epoch, f"epoch {epoch}")
        return 0.1

    house.run(len(space.recipes) + 1, hopeless)
    assert recipes == [*space.recipes, None]
    assert house.open().counts().pruned == 0


def test_a_trial_behind_the_median_is_pruned(house: House) -> None:
    def learning(trial: RunningTrial) -> float:
        trial.choose()
        value = 0.1 if trial.number == 14 else 0.5
        for epoch in range(1, 8):
            trial.report(value, epoch, f"epoch {epoch}")
        return value

    house.run(15, learning)
    counts = house.open().counts()
    assert (counts.complete, counts.pruned, counts.finished) == (14, 1, 15)


def test_a_study_is_bound_to_its_data_space_and_metric(house: House) -> None:
    identity = {"data set": "a", "search space": "b", "metric": "f1_macro"}
    house.open().bind(identity, {"metric": "f1_macro"})
    house.open().bind(identity, {})
    with pytest.raises(StudyError, match="other data set and metric than"):
        house.open().bind({**identity, "data set": "x", "metric": "f1_micro"}, {})


def test_an_unknown_study_is_answered_with_those_there_are(house: House) -> None:
    with pytest.raises(StudyError, match="no study"):
        latest_study_name(house.url)
    house.open("one")
    house.open("two")
    assert latest_study_name(house.url) == "two"
    with pytest.raises(StudyError, match="one, two"):
        house.open("three", create=False)


def test_a_trial_that_would_not_end_in_time_waits_for_the_next_search(house: House) -> None:
    def too_long(trial: RunningTrial) -> float:
        trial.choose()
        raise OutOfTime("it would take an hour")

    with pytest.raises(OutOfTime):
        house.run(2, too_long)
    counts = house.open().counts()
    assert (counts.running, counts.waiting, counts.finished) == (0, 1, 0)
    assert house.run(1) == [1]


def test_u8_a_smaller_budget_than_has_finished_changes_nothing(house: House) -> None:
    house.run(3)
    study = house.open()
    study.set_budget(9)
    assert study.set_budget(2) == 9
    assert study.set_budget(3) == 9
    assert study.set_budget(4) == 4  # more than have finished: another process asks for fewer
    assert study.set_budget(2, more=True) == 5


def test_a17_a_study_that_no_search_has_begun_is_one_sentence(house: House) -> None:
    study = house.open()
    for ask in (study.check_begun, lambda: study.metric, lambda: status_of(study, None)):
        with pytest.raises(StudyError, match="to have been begun by hpo search"):
            ask()
    study.bind({"metric": "f1_macro"}, {"metric": "f1_macro", "seed": 0})
    assert house.open(create=False).metric == "f1_macro"


def test_f6_a_killed_worker_is_no_worker(house: House) -> None:
    study, locks = house.open(), house.folder / "locks"
    study.bind({"metric": "f1_macro"}, {"metric": "f1_macro", "folds": 1, "seed": 0})
    study.set_budget(5)
    locks.mkdir()
    worker = f"{socket.gethostname()}-one"
    lost_trial(house, worker)
    with FileLock(locks / f"{worker}.lock"):
        alive = status_of(study, None)
    dead = status_of(study, None)
    assert (alive["workers"], dead["workers"]) == (1, 0)
    assert (dead["trials_an_hour"], dead["left_seconds"]) == (None, None)
    assert any("no worker is alive" in line for line in status_lines(dead))


def test_a23_lock_files_of_killed_workers_are_deleted_once_their_trials_wait(house: House) -> None:
    study, locks = house.open(), house.folder / "locks"
    locks.mkdir()
    worker = f"{socket.gethostname()}-dead"
    lost_trial(house, worker)
    (locks / f"{worker}.lock").touch()
    assert study.requeue_lost() == [0]
    assert list(locks.iterdir()) == []


def test_a14_a_worker_that_stood_still_and_wakes_queues_nothing(house: House) -> None:
    other, woke = house.open(), []

    def sleeper(trial: RunningTrial) -> float:
        trial.choose()
        if not woke:  # meanwhile its worker is taken for dead: another one finds no lock of it
            woke.append(trial.number)
            [lock] = (house.folder / "locks").glob("*.lock")
            other._queue._is_lost = lambda _: True
            assert other.requeue_lost() == [trial.number]
            assert lock.name
        trial.note(epoch=1)
        return 0.5

    assert house.run(1, sleeper) == [0, 1]
    counts = house.open().counts()
    assert (counts.waiting, counts.failed, counts.retried, counts.complete) == (0, 0, 1, 1)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, OutOfTime("later"), ValueError("of its own")])
def test_a14_nor_does_one_that_is_stopped_after_it_woke(house: House, stop: BaseException) -> None:
    other = house.open()

    def sleeper(trial: RunningTrial) -> float:
        trial.choose()
        if trial.number == 0:
            other._queue._is_lost = lambda _: True
            other.requeue_lost()
            raise stop
        return 0.5

    if isinstance(stop, ValueError):
        house.run(1, sleeper)
    else:
        with pytest.raises((KeyboardInterrupt, OutOfTime)):
            house.run(1, sleeper)
        house.run(1, sleeper)
    counts = house.open().counts()
    assert (counts.waiting, counts.retried, counts.complete) == (0, 1, 1)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS])
def test_a16_a_full_disk_ends_the_search_and_costs_no_recipe(house: House, space: SearchSpace, code: int) -> None:
    house.open().enqueue_recipes(space)

    def full(trial: RunningTrial) -> float:
        trial.choose()
        raise DataError("The cache folder could not be written: free some space.") from OSError(code, os.strerror(code))

    for _ in range(4):
        with pytest.raises(DataError, match="free some space"):
            house.run(1, full)
    counts = house.open().counts()
    assert (counts.waiting, counts.failed) == (len(space.recipes), 0)
    recipes = []
    house.run(len(space.recipes), lambda trial: recipes.append(trial.recipe) or trial.choose().learning_rate)
    assert sorted(recipes) == sorted(space.recipes)


def test_a11_a_database_that_refuses_in_mid_search_is_one_sentence(house: House) -> None:
    def damaging(trial: RunningTrial) -> float:
        trial.choose()
        (house.folder / "optuna.db").write_bytes(b"no database" * 1000)
        for journal in house.folder.glob("optuna.db-*"):
            journal.unlink()
        trial.note(epoch=1)
        return 0.5

    with pytest.raises(StudyError, match=r"which it refuses|cannot be read") as told:
        house.run(2, damaging)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("UPDATE study_user_attributes SET value_json = '{odb'", "a row that cannot be read"),
        ("UPDATE trials SET state = 'ODD'", "a row that cannot be read"),
        ("UPDATE alembic_version SET version_num = 'v9.9.9'", "no longer compatible"),
    ],
)
def test_a2_a_damaged_database_is_one_sentence(house: House, damage: str, words: str) -> None:
    house.run(1)
    with sqlite3.connect(house.folder / "optuna.db") as connection:
        connection.execute(damage)
    connection.close()
    with pytest.raises(StudyError, match=words):
        house.open(create=False).snapshot()


def test_a1_eight_who_begin_a_study_at_once_begin_one(house: House, space: SearchSpace) -> None:
    identity = {"data set": "a", "search space": "b", "metric": "f1_macro"}

    def begin(_: int) -> None:
        study = house.open()
        study.bind(identity, {"metric": "f1_macro"})
        study.take_code("1", lambda _: None)
        study.enqueue_recipes(space)
        study.set_budget(7)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(begin, range(8)))
    study = house.open(create=False)
    assert (study.counts().waiting, study.budget) == (len(space.recipes), 7)


@pytest.mark.parametrize("folder", ["100%", "a%20b", "what?", "a#b", "a b", "ü@x", "a&b=c"])
def test_f20_a_folder_may_have_any_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, space: SearchSpace, folder: str
) -> None:
    place = tmp_path / folder
    place.mkdir()
    monkeypatch.chdir(place)
    for variable in ("HPO_STORAGE", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(variable, raising=False)
    paths = Paths.of(None, None, tmp_path)
    study = open_study(paths.storage, "s", paths.locks, 0, create=True)
    study.set_budget(1)
    assert len(list(study.run(space, lambda trial: trial.choose().learning_rate, forever))) == 1
    assert (place / "mlruns" / "optuna.db").exists()
    assert [found.name for found in tmp_path.iterdir()] == [folder]


def test_a11_restarts_of_postgresql_end_no_search(space: SearchSpace, tmp_path: Path, postgres: Postgres) -> None:
    server = Postgres(postgres.binaries)
    server.start()
    url = server.create_database("restarted")

    def work(_: int) -> list[int]:
        study = open_study(url, "s", tmp_path, 0, create=True)
        return [trial.number for trial in study.run(space, objective, forever)]

    def objective(trial: RunningTrial) -> float:
        trial.choose()
        for epoch in range(1, 3):
            with restarting:
                server.stop(immediately=epoch % 2 == 0)
                server.start()
            trial.report(0.5, epoch, f"epoch {epoch}")
        return 0.5

    restarting = Lock()
    try:
        open_study(url, "s", tmp_path, 0, create=True).set_budget(4)
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(work, range(2)))
        counts = open_study(url, "s", tmp_path, 0, create=False).counts()
        assert (counts.finished, counts.failed, counts.running, counts.waiting) == (4, 0, 0, 0)
    finally:
        server.stop()
        server.remove()
