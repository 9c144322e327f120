"""Studies whose space changes while they live, in a real sqlite database."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pytest

from hpo.errors import StudyError
from hpo.model.config import TrialConfig
from hpo.space.load import load_space
from hpo.space.parameters import Categorical, Float
from hpo.space.space import SearchSpace
from hpo.study.attributes import SPACE
from hpo.study.migration import base_name, latest_version, read_space, write_space
from hpo.study.running_trial import RunningTrial
from hpo.study.storage import latest_study_name, study_names
from hpo.study.study import Study, open_study

DEFAULT = load_space(Path("default"))
LITES = ("tf_efficientnet_lite0", "tf_efficientnet_lite1", "tf_efficientnet_lite2")


def searching(space: SearchSpace = DEFAULT, **changed: Categorical | Float) -> SearchSpace:
    return replace(space, searched={**space.searched, **changed})


def backbones(*names: str) -> Categorical:
    return Categorical(type="categorical", choices=[*names])


PATIENCE = Categorical(type="categorical", choices=[3])
WIDER = searching(backbone=backbones(*LITES, "test_resnet"))


class House:
    """A folder with a database, in which a search is begun as `hpo search` begins it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.url = folder, f"sqlite:///{folder / 'o.db'}"
        self.notices: list[str] = []

    def begin(self, space: SearchSpace, name: str = "x", **identity: str) -> Study:
        study = open_study(self.url, name, self.folder / "locks", 0, create=True)
        bound = {"data set": "d", "search space": space.fingerprint, **identity}
        memory = {"metric": "f1_macro", "space": space.name, "backbones": list(space.backbones), "seed": 3}
        notice = study.bind(bound, {**memory, SPACE: write_space(space)})
        self.notices += [notice] if notice else []
        study.enqueue_recipes(space)
        return study

    def run(self, space: SearchSpace, budget: int, name: str = "x") -> Study:
        def objective(trial: RunningTrial) -> float:
            config = trial.choose()
            trial.note(chosen=config.model_dump(), run_id=f"run {trial.number}")
            trial.report(config.learning_rate, 1, "epoch 1")
            if trial.number == 2:
                raise StudyError("once")
            return config.learning_rate

        study = self.begin(space, name)
        study.set_budget(budget)
        list(study.run(space, objective, lambda: True))
        return study

    def storage(self) -> optuna.storages.BaseStorage:
        return optuna.storages.RDBStorage(self.url)


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def test_predictions_move_along_with_the_trials(house, parts):
    probabilities = np.full(parts[1].targets.shape, 0.25, np.float32)
    house.run(DEFAULT, 3).predictions.save(1, probabilities, parts[1])
    grown = house.begin(WIDER)
    assert np.array_equal(grown.predictions.load(1, parts[1]), probabilities)
    assert grown.predictions.load(2, parts[1]) is None


def facts(study: Study) -> list[tuple]:
    return [
        (t.number, t.state, t.values, t.params, t.user_attrs, t.intermediate_values, t.datetime_start)
        for t in study._study.get_trials(deepcopy=False)
    ]


def test_a_backbone_is_added_and_every_trial_is_taken_over(house):
    before = house.run(DEFAULT, 6)
    grown = house.begin(WIDER)
    assert house.notices == ["The space of study 'x' grew (backbone: + test_resnet): its 7 trials are taken over."]
    assert facts(grown) == facts(before)
    assert grown.name == "x"
    assert grown.memory["backbones"] == [*LITES, "test_resnet"]
    assert (grown.attributes.version_of, grown.attributes.seed) == ("x", 3)
    assert grown.top(3)[0].ended == before.top(3)[0].ended
    house.run(WIDER, 30)
    assert "test_resnet" in {trial.params.get("backbone") for trial in house.begin(WIDER).trials()}
    assert house.begin(WIDER).counts().finished == 30
    assert len(house.notices) == 1


def test_to_everybody_it_is_still_the_one_study(house):
    house.run(DEFAULT, 2)
    house.begin(DEFAULT, "y")
    house.begin(WIDER)
    house.begin(searching(WIDER, input_dropout=Float(type="float", low=0.0, high=0.9)))
    assert house.notices[1].startswith("The space of study 'x' grew (input_dropout: 0 to 0.5 → 0 to 0.9)")
    assert optuna.get_all_study_names(house.storage()) == ["x", "y", "x~2", "x~3"]
    assert study_names(house.url) == ["x", "y"]
    assert latest_study_name(house.url) == "x"
    assert open_study(house.url, "x", house.folder, 0, create=False).counts().complete == 2
    with pytest.raises(StudyError, match=r"there are x, y:"):
        open_study(house.url, "x~9", house.folder, 0, create=False)


def test_queued_trials_stay_queued_with_what_they_were_queued_with(house):
    before = house.begin(DEFAULT)
    waiting = house.begin(WIDER)
    assert waiting.counts().waiting == len(DEFAULT.recipes)
    assert waiting._study.trials[0].system_attrs == before._study.trials[0].system_attrs
    assert house.run(WIDER, 1).trials()[0].recipe == "lite1_narrow"


def test_a_dead_workers_trial_is_queued_again_in_the_new_version(house):
    trial = house.run(DEFAULT, 2)._study.ask()
    config = DEFAULT.sample(trial)  # and killed before it could say who it was
    grown = house.begin(WIDER)
    [lost] = [trial for trial in grown.trials() if trial.state == "failed"]
    [again] = [trial for trial in grown.trials() if trial.retry_of == lost.number]
    assert again.state == "waiting"
    assert DEFAULT.rebuild(grown._study.trials[again.number].system_attrs["fixed_params"]) == config


def test_a_space_does_not_change_under_living_workers(house):
    study = house.run(DEFAULT, 2)
    study.set_budget(9)
    with study._queue.alive():
        study._queue.claim(lambda: 9)
        with pytest.raises(StudyError, match="'x' is being searched with another space"):
            house.begin(WIDER)


def test_whoever_is_left_in_the_old_version_has_nothing_to_do(house):
    old = house.run(DEFAULT, 2)
    old.set_budget(9)
    house.begin(WIDER)
    assert list(old.run(DEFAULT, lambda trial: 0.5, lambda: True)) == []
    assert house.begin(WIDER).budget == 9


def test_who_is_left_in_the_old_version_is_told(house):
    old = house.run(DEFAULT, 2)
    old.check_latest()
    house.begin(WIDER).check_latest()
    with pytest.raises(
        StudyError, match=r"^Study 'x' continues with another search space, .*: to take part in it, type"
    ):
        old.check_latest()


def test_of_two_who_grow_a_study_the_second_finds_it_grown(house):
    house.run(DEFAULT, 2)
    late = open_study(house.url, "x", house.folder / "locks", 0, create=True)
    grown = house.begin(WIDER)
    notice = late.bind({"data set": "d", "search space": WIDER.fingerprint}, {SPACE: write_space(WIDER)})
    assert notice is None
    assert facts(late) == facts(grown)
    assert study_names(house.url) == ["x"]
    assert len(optuna.get_all_study_names(house.storage())) == 2


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_of_four_who_grow_a_study_at_once_one_does(house, database, request):
    if database == "postgres":
        house.url = request.getfixturevalue("postgres").create_database("versions")
    before = facts(house.run(DEFAULT, 4))
    with ThreadPoolExecutor() as pool:
        grown = list(pool.map(house.begin, [WIDER] * 4))
    assert len(house.notices) == 1
    assert [facts(study) for study in grown] == [before] * 4
    assert sorted(optuna.get_all_study_names(house.storage())) == ["x", "x~2"]


def test_one_whose_copying_was_interrupted_is_made_again(house):
    before = facts(house.run(DEFAULT, 2))
    optuna.create_study(storage=house.storage(), study_name="x~2").enqueue_trial({})
    assert latest_version(house.storage(), "x") == "x"
    assert facts(house.begin(DEFAULT)) == before
    assert facts(house.begin(WIDER)) == before
    assert latest_version(house.storage(), "x") == "x~2"


def test_what_was_fixed_may_be_searched_and_the_other_way_round(house):
    study = house.run(DEFAULT, 3)
    fits = Categorical(type="categorical", choices=["crop", "squash"])
    fixed = without("fit")
    grown = house.begin(replace(searching(fit=fits), fixed=fixed))
    assert house.notices[-1].startswith("The space of study 'x' grew (fit: fixed at squash → crop or squash)")
    assert {trial.params["fit"] for trial in grown.top(None)} == {"squash"}
    for trial in grown.top(None):
        assert replace(DEFAULT, fixed=fixed).rebuild(trial.params) == TrialConfig(**trial.configuration)
    assert house.begin(DEFAULT).counts() == study.counts()  # and back, as long as nothing else was tried


def test_a_space_that_lost_what_no_trial_used_has_changed_and_not_grown(house):
    house.begin(WIDER)
    house.begin(DEFAULT)
    assert house.notices[-1].startswith("The space of study 'x' changed (backbone: - test_resnet): its ")
    house.begin(searching(backbone=backbones(*reversed(LITES))))
    assert house.notices[-1].startswith("The space of study 'x' changed (backbone: another order): its ")


def without(name: str) -> dict:
    return {fixed: value for fixed, value in DEFAULT.fixed.items() if fixed != name}


def conditional(name: str, **when: list) -> SearchSpace:
    return searching(**{name: DEFAULT.searched[name].model_copy(update={"when": when})})


REFUSED = {
    "backbone: + test_resnet, - tf_efficientnet_lite0, ": searching(backbone=backbones("test_resnet")),
    "learning_rate: 0.0001 to 0.005, log → 0.4 to 0.5": searching(learning_rate=Float(type="float", low=0.4, high=0.5)),
    "patience: fixed at 5 → fixed at 7": replace(DEFAULT, fixed={**DEFAULT.fixed, "patience": 7}),
    "patience: fixed at 5 → 3": replace(searching(patience=PATIENCE), fixed=without("patience")),
    "weights of tf_efficientnet_lite0; weights of": replace(DEFAULT, weights=dict.fromkeys(LITES, "random")),
    "dropout: other conditions": conditional("dropout", hidden_layers=[9]),
}


@pytest.mark.parametrize("words", REFUSED)
def test_a_space_in_which_old_trials_do_not_lie_is_refused_by_name(house, words):
    before = house.run(DEFAULT, 6)
    with pytest.raises(
        StudyError, match=r"^Study 'x' cannot continue with the changed .* no longer fits in \d of "
    ) as told:
        house.begin(REFUSED[words])
    assert words in str(told.value)
    assert optuna.get_all_study_names(house.storage()) == ["x"]
    assert facts(house.begin(DEFAULT)) == facts(before)


def test_anything_else_that_changed_is_refused_as_ever(house):
    house.run(DEFAULT, 1)
    with pytest.raises(StudyError, match="exists with other data set and search space than"):
        house.begin(WIDER, **{"data set": "e"})


def test_a_study_of_an_older_hpo_learns_its_space_when_it_is_resumed(house):
    study = open_study(house.url, "x", house.folder / "locks", 0, create=True)
    study.bind({"data set": "d", "search space": DEFAULT.fingerprint}, {})
    with pytest.raises(StudyError, match="other search space than"):
        house.begin(WIDER)
    house.begin(DEFAULT)
    assert house.begin(WIDER).name == "x"


def test_names_of_versions_are_taken(house):
    assert [base_name(name) for name in ("x", "x~2", "x~y", "x~2~13")] == ["x", "x", "x~y", "x~2"]
    with pytest.raises(StudyError, match=r"got 'x~2': use --study x\."):
        open_study(house.url, "x~2", house.folder, 0, create=True)


@pytest.mark.parametrize("name", ["auto", "default", "fine_tune", "large", "write_up"])
def test_a_space_is_remembered_whole(name):
    space = load_space(Path(name))
    again = read_space(write_space(space))
    assert again.fingerprint == space.fingerprint
    assert again == space
