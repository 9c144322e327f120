from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from hpo.errors import StudyError
from hpo.space.load import load_space
from hpo.space.parameters import Categorical
from hpo.space.space import SearchSpace
from hpo.study.migration import STARTS
from hpo.study.running_trial import RunningTrial
from hpo.study.study import Study, open_study

SPACE = replace(load_space(Path("default")), recipes={})


class House:
    """A folder with a database and studies of eight trials, the later the better."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def open(self, name: str, *, create: bool = True) -> Study:
        return open_study(f"sqlite:///{self.folder}/o.db", name, self.folder, 0, create=create, sampler="random")

    def run(self, name: str, space: SearchSpace, n_trials: int = 8) -> Study:
        def objective(trial: RunningTrial) -> float:
            trial.note(chosen=trial.choose().model_dump())
            return trial.number / 100

        study = self.open(name)
        study.set_budget(n_trials)
        list(study.run(space, objective, lambda: True))
        return study


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def started(study: Study) -> list[str]:
    return [trial.warm_start for trial in study.trials() if trial.warm_start is not None]


def with_backbones(*names: str) -> SearchSpace:
    return replace(SPACE, searched={**SPACE.searched, "backbone": Categorical(type="categorical", choices=[*names])})


def test_the_best_trials_of_another_study_are_tried_first_and_once(house):
    old, new = house.run("old", SPACE), house.open("new")
    for _ in range(2):
        new.warm_start(old, SPACE)
    assert started(new) == ["old #7", "old #6", "old #5", "old #4", "old #3"]
    ran = house.run("new", SPACE, STARTS).trials()
    assert [trial.params for trial in ran] == [trial.params for trial in old.top(STARTS)]
    house.run("old", SPACE, 10)  # has better ones now
    house.open("new").warm_start(house.open("old"), SPACE)
    assert house.open("new").counts().waiting == 0


def test_machines_that_begin_at_once_queue_everything_once(house):
    old, together = house.run("old", SPACE), threading.Barrier(4)
    studies = [house.open("new") for _ in range(4)]

    def begin(study: Study) -> None:
        together.wait()
        study.enqueue_recipes(load_space(Path("default")))
        study.warm_start(old, SPACE)

    with ThreadPoolExecutor(4) as machines:
        list(machines.map(begin, studies))
    assert len(started(house.open("new"))) == STARTS
    assert house.open("new").counts().waiting == STARTS + len(load_space(Path("default")).recipes)


def test_what_was_queued_already_is_not_queued_again(house):
    old, new = house.run("old", SPACE), house.open("new")
    new.warm_start(old, SPACE)
    twin = house.open("twin")
    twin.warm_start(old, SPACE)
    house.run("twin", SPACE, STARTS)
    new.warm_start(house.open("twin"), SPACE)
    assert len(started(new)) == STARTS


def test_what_the_other_study_tried_twice_counts_once(house):
    old = house.run("old", SPACE)
    for trial in old.top(3):
        old._study.enqueue_trial(trial.params)
    old = house.run("old", SPACE, 11)
    new = house.open("new")
    new.warm_start(old, SPACE)
    assert len(started(new)) == STARTS


def test_only_what_lies_in_the_space_is_taken(house):
    old = house.run("old", SPACE)
    wanted = "tf_efficientnet_lite0"
    house.open("new").warm_start(old, with_backbones(wanted, "test_resnet"))
    new = house.open("new")._study.trials
    assert 0 < len(new) < STARTS
    assert {trial.system_attrs["fixed_params"]["backbone"] for trial in new} == {wanted}


def test_what_one_space_fixes_and_the_other_searches_fits_where_the_value_does(house):
    old = house.run("old", SPACE)  # fit is fixed at squash there, patience at 5
    fits = {**SPACE.searched, "fit": Categorical(type="categorical", choices=["squash", "crop"])}
    fixed = {name: value for name, value in SPACE.fixed.items() if name != "fit"}
    house.open("new").warm_start(old, replace(SPACE, searched=fits, fixed=fixed))
    assert house.open("new")._study.trials[0].system_attrs["fixed_params"]["fit"] == "squash"
    with pytest.raises(StudyError, match=r"none of its 8 does: patience does not fit in 8 of them \(expected 7\)"):
        house.open("other").warm_start(old, replace(SPACE, fixed={**SPACE.fixed, "patience": 7}))


def test_nothing_to_start_from_is_told_in_a_sentence(house):
    old = house.run("old", SPACE)
    new = house.open("new")
    with pytest.raises(StudyError, match=r"backbone does not fit in 8 of them \(expected test_vit\)"):
        new.warm_start(old, with_backbones("test_vit"))
    with pytest.raises(StudyError, match="none of it is complete"):
        new.warm_start(house.open("empty"), SPACE)
    with pytest.raises(StudyError, match="another study than 'new' itself"):
        new.warm_start(house.open("new"), SPACE)
    with pytest.raises(StudyError, match="Expected a study called 'nobody', but there are old, new, empty"):
        house.open("nobody", create=False)
    assert new.counts().waiting == 0
