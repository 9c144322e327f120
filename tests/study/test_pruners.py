from __future__ import annotations

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from hpo.errors import StudyError
from hpo.study.pruners import ETA, MIN_EPOCHS, PRUNERS, LikeWithLikePruner, PhaseHalving, build_pruner
from hpo.trial.objective import FINETUNE_STEP


def study_of(*reported: dict[int, float], states: tuple[TrialState, ...] = ()) -> optuna.Study:
    """A study whose trials have reported these values, by step."""
    study = optuna.create_study(direction="maximize")
    for at, values in enumerate(reported):
        state = states[at] if states else TrialState.COMPLETE
        value = None if state == TrialState.FAIL else 0.5
        study.add_trial(create_trial(state=state, value=value, intermediate_values=values))
    return study


def stops(pruner: PhaseHalving, study: optuna.Study, step: int, value: float) -> bool:
    trial = study.ask()
    trial.report(value, step)
    return pruner.prune(study, study.trials[trial.number])


@pytest.mark.parametrize(("value", "stopped"), [(0.6, False), (0.5, False), (0.45, True), (0.1, True)])
def test_the_best_third_at_a_rung_goes_on_ties_included(value, stopped):
    study = study_of({2: 0.5}, {2: 0.4})
    assert stops(PhaseHalving(), study, 2, value) == stopped


def test_two_of_six_go_on():
    study = study_of(*({2: value} for value in (0.1, 0.2, 0.3, 0.4, 0.5)))
    assert not stops(PhaseHalving(), study, 2, 0.45)
    assert stops(PhaseHalving(), study, 2, 0.35)


def test_with_too_few_others_a_trial_goes_on():
    assert not stops(PhaseHalving(), study_of({2: 0.9}), 2, 0.1)


@pytest.mark.parametrize("offset", [0, FINETUNE_STEP])
def test_only_rungs_of_a_phase_are_looked_at(offset):
    good = {step + offset: 0.9 for step in range(1, 20)}
    study = study_of(good, good, good)
    halted = [step for step in range(1, 20) if stops(PhaseHalving(), study, step + offset, 0.1)]
    assert halted == [MIN_EPOCHS, MIN_EPOCHS * ETA, MIN_EPOCHS * ETA**2]


def test_phases_are_never_compared():
    study = study_of(*[{2 + FINETUNE_STEP: 0.9}] * 5)
    assert not stops(PhaseHalving(), study, 2, 0.1)
    study = study_of(*[{2: 0.9}] * 5)
    assert not stops(PhaseHalving(), study, 2 + FINETUNE_STEP, 0.1)


def test_all_that_reported_count_whatever_became_of_them():
    states = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
    study = study_of({2: 0.5}, {2: 0.6}, {2: 0.7}, states=states)
    assert stops(PhaseHalving(), study, 2, 0.65)


def test_a_trial_that_has_reported_nothing_goes_on():
    study = study_of({2: 0.5})
    trial = study.ask()
    assert not PhaseHalving().prune(study, study.trials[trial.number])


def test_brackets_are_chosen_by_number_and_meet_their_own():
    pruner = PhaseHalving(n_brackets=2)
    good = dict.fromkeys(range(1, 20), 0.9)
    even = study_of(*[good] * 8)  # the next trial is number 8, of bracket 0
    assert stops(pruner, even, 2, 0.1)
    odd = study_of(*[good] * 9)
    assert not stops(pruner, odd, 2, 0.1)  # bracket 1 begins after 6 epochs
    odd = study_of(*[good] * 9)
    assert stops(pruner, odd, 6, 0.1)
    alone = study_of({6: 0.9}, {}, {6: 0.9}, {}, {6: 0.9})
    assert not stops(pruner, alone, 6, 0.1)


def test_what_is_behind_the_median_of_its_own_phase_is_stopped():
    pruner = build_pruner("median", 1)
    study = study_of(*[{5: 0.9}] * 12)
    assert stops(pruner, study, 5, 0.1)
    assert not stops(pruner, study, 5 + FINETUNE_STEP, 0.1)


@pytest.mark.parametrize("name", PRUNERS)
def test_every_pruner_lets_the_best_go_on(name):
    study = study_of(*[{2: 0.5, 6: 0.5}] * 12)
    assert not stops(build_pruner(name, 1), study, 6, 0.9)


def test_the_one_that_suits():
    assert isinstance(build_pruner(None, 1), optuna.pruners.MedianPruner)
    assert isinstance(build_pruner(None, 5), LikeWithLikePruner)
    assert isinstance(build_pruner("none", 5), optuna.pruners.NopPruner)


def test_what_does_not_go_is_told():
    with pytest.raises(StudyError, match=r"--pruner expects one of halving, .* got 'halfing' \(did you mean 'halving"):
        build_pruner("halfing", 1)
    with pytest.raises(StudyError, match="--pruner halving compares trials by epoch, and those of --folds 5"):
        build_pruner("halving", 5)


UNFREEZE = optuna.distributions.CategoricalDistribution(["none", "last_stage"])


def fold_values(unfreeze: str, *folds: float) -> optuna.trial.FrozenTrial:
    return create_trial(
        state=TrialState.COMPLETE,
        value=sum(folds) / len(folds),
        params={"unfreeze": unfreeze},
        distributions={"unfreeze": UNFREEZE},
        intermediate_values=dict(enumerate(folds)),
    )


@pytest.mark.parametrize(
    ("folds", "stopped"), [([0.5], False), ([0.48], False), ([0.47], True), ([0.52, 0.44], False), ([0.51, 0.40], True)]
)
def test_a_fine_tuned_trial_is_compared_with_the_best_frozen_one_fold_by_fold(folds, stopped):
    study = optuna.create_study(direction="maximize")
    study.add_trials(
        [fold_values("none", 0.49, 0.48), fold_values("none", 0.3, 0.3), fold_values("last_stage", 0.9, 0.9)]
    )
    tuned = fold_values("last_stage", *folds)
    assert LikeWithLikePruner(optuna.pruners.NopPruner()).prune(study, tuned) is stopped


FOLDS = [0.5, 0.52, 0.48, 0.51]


@pytest.mark.parametrize(("backbone", "stopped"), [("a", False), ("a+b", True)])
def test_a_frozen_trial_is_compared_with_those_of_equally_many_backbones(backbone, stopped):
    study = optuna.create_study(direction="maximize")
    study.add_trials([of_backbone("a", 0.4), of_backbone("b+c", 0.9)])
    assert build_pruner(None, 5).prune(study, of_backbone(backbone, 0.5)) is stopped


def of_backbone(name: str, value: float) -> optuna.trial.FrozenTrial:
    return create_trial(
        state=TrialState.COMPLETE,
        value=value,
        params={"backbone": name},
        distributions={"backbone": optuna.distributions.CategoricalDistribution(["a", "a+b", "b+c"])},
        intermediate_values={fold: value + wobble for fold, wobble in enumerate(FOLDS)},
    )


def test_a_frozen_trial_is_left_to_the_other_pruner():
    study = optuna.create_study(direction="maximize")
    study.add_trials([fold_values("none", 0.9), fold_values("none", 0.1)])
    assert not LikeWithLikePruner(optuna.pruners.NopPruner()).prune(study, fold_values("none", 0.1))
