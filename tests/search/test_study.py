"""A real study in a real sqlite database."""

from __future__ import annotations

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import optuna
import pytest
from filelock import FileLock

from hpo.errors import BackboneError, ResourceError, StudyError
from hpo.search import claims
from hpo.search.running_trial import OutOfTime, RunningTrial
from hpo.search.space.space import SearchSpace, load_space
from hpo.search.storage import latest_study_name
from hpo.search.study import Study, open_study


def forever() -> bool:
    return True


@pytest.fixture(scope="module")
def space() -> SearchSpace:
    return load_space(Path("default"))


class House:
    """A folder with a database, in which a study is opened anew as often as a test likes."""

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
    assert retried.user_attrs["history"] == [{"trial": 1, "how": "failed", "why": "ValueError: odd"}]

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
    assert study.trials()[0].user_attrs["error"] == "ResourceError: Expected memory for one poster at once."


def test_g8_a_backbone_that_cannot_be_had_is_left_out_and_the_others_are_searched(house: House) -> None:
    gone = house.space.backbone_choices[0]

    def refused(trial: RunningTrial) -> float:
        chosen = trial.choose()
        if chosen.backbone == gone:
            raise BackboneError("Expected weights, got none.")
        return 0.5

    notices: list[str] = []
    study = house.open()
    for _ in range(4):  # more than end a search that fails in a row
        optuna.load_study(study_name="s", storage=house.url).enqueue_trial({"backbone": gone})
    study.set_budget(3)
    ran = list(study.run(house.space, refused, forever, notices.append))
    assert study.counts().finished == 3
    assert [trial.user_attrs.get("error") for trial in ran[:4]] == ["BackboneError: Expected weights, got none."] * 4
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
    assert house.open().trials()[1].user_attrs["retry_of"] == 0


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
    assert retry.user_attrs["history"] == [{"trial": 1, "how": "lost", "why": "its worker died"}]
    assert retry.system_attrs["fixed_params"] == study.trials()[1].params


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
