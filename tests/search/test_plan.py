from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from hpo.model.config import TrialConfig
from hpo.search.plan import Plan, progress, stage_of
from hpo.space.load import load_space
from hpo.space.schema import Scalar
from hpo.study.trial_record import TrialRecord

SPACE = load_space(Path("auto"))
BEGAN = datetime(2026, 1, 1)


def trial(number: int, recipe: str, value: float | None, **more: object) -> TrialRecord:
    """A trial of a recipe that took ten seconds; without a value it was pruned."""
    params = {**SPACE.recipe(recipe), **more}
    return TrialRecord(
        number,
        "pruned" if value is None else "complete",
        value,
        params,
        started=BEGAN,
        ended=BEGAN + timedelta(seconds=10),
        config={**SPACE.fixed, **params},
        recipe=recipe,
    )


def heads(*values: float | None) -> list[TrialRecord]:
    """The recipes of the first stage, and how good they were."""
    return [trial(number, SPACE.first_recipes()[number], value) for number, value in enumerate(values)]


def seconds(configuration: Mapping[str, Scalar]) -> float:
    """A fine-tuned trial takes ten minutes, one of fused backbones twenty seconds, any other ten."""
    if configuration["unfreeze"] != "none":
        return 600.0
    return 20.0 if "+" in str(configuration["backbone"]) else 10.0


def plan() -> Plan:
    return Plan(SPACE, 0, seconds)


def test_every_trial_belongs_to_the_first_stage_that_contains_it():
    assert [stage_of(SPACE, one.configuration) for one in heads(0.4, 0.5)] == ["heads", "heads"]
    fused = trial(0, "lite1_deep", 0.5, backbone="tf_efficientnet_lite1+tf_efficientnet_lite2")
    assert stage_of(SPACE, fused.configuration) == "inputs"
    assert stage_of(SPACE, trial(0, "tuned_lite0", 0.5).configuration) == "fine_tune"


def test_a_stage_that_has_stopped_gaining_is_expected_to_gain_less():
    first, *_ = progress(SPACE, heads(0.4, 0.5, 0.45, None))
    assert (first.n_finished, first.n_since_gain, first.best, first.seconds) == (4, 2, 0.5, 40.0)
    assert first.expected_gain == pytest.approx(0.002 / 3)


def test_a_stage_whose_trials_fail_is_expected_to_gain_less():
    """Else a stage whose backbone cannot be used would be proposed for ever."""
    failed = trial(2, "tuned_lite0", None)
    trials = [*heads(0.4, 0.5), replace(failed, state="failed")]
    *_, last = progress(SPACE, trials)
    assert (last.name, last.n_since_gain, last.best) == ("fine_tune", 1, None)
    assert last.expected_gain == pytest.approx(0.012 / 2)


def test_the_next_trial_is_of_the_stage_with_the_most_gain_per_second():
    found = plan().next(heads(0.4, 0.5))
    assert found is not None
    assert found.stage == "inputs"  # 0.006 in 20 s, where heads have 0.002 in 10 s
    assert found.params["backbone"] == "tf_efficientnet_lite1+tf_efficientnet_lite2"
    assert found.params["hidden_layers"] == SPACE.recipe("lite1_deep")["hidden_layers"]  # of the best trial
    assert found.why.startswith("inputs: +0.0060 expected in 20 s; heads: +0.0020 in 10 s")


def test_a_search_begins_with_the_first_recipe_of_the_first_stage():
    found = plan().next([])
    assert found is not None
    assert (found.stage, found.recipe) == ("heads", "lite1_narrow")


@pytest.mark.parametrize("trials", [[], heads(0.4), heads(*[0.4] * 7)])
def test_what_is_forecast_is_a_whole_configuration(trials):
    asked: list[TrialConfig] = []

    def forecast(configuration: Mapping[str, Scalar]) -> float:
        asked.append(TrialConfig.model_validate(configuration))
        return seconds(configuration)

    Plan(SPACE, 0, forecast).next(trials)
    Plan(replace(SPACE, recipes={}), 0, forecast).next(trials)
    assert asked


def test_no_variation_is_proposed_twice_even_while_it_runs():
    trials, seen = heads(0.4, 0.5), []
    for _ in range(6):
        found = plan().next(trials)
        assert found is not None
        if found.stage != "inputs":
            break
        assert found.params not in seen
        seen.append(found.params)
        proposal = {"stage": found.stage, "params": dict(found.params), "why": found.why}
        trials = [*trials, TrialRecord(len(trials), "running", proposal=proposal)]
    assert len(seen) == 6  # two leaders, three variations of each


def test_where_all_variations_were_tried_the_sampler_continues_with_fused_backbones():
    trials = heads(0.5, *[None] * 6)
    for number in range(7, 10):
        found = plan().next(trials)
        assert found is not None
        proposal = {"stage": found.stage, "params": dict(found.params), "why": ""}
        trials.append(TrialRecord(number, "running", proposal=proposal))
    found = plan().next(trials)
    assert found is not None
    assert found.stage == "inputs"
    assert found.params.keys() == SPACE.stages["inputs"].hold.keys()
    assert "+" in str(found.params["backbone"])


def test_fine_tuning_comes_when_the_others_have_stopped_gaining():
    trials = heads(0.5, *[None] * 6)
    tried: list[str] = []
    while (found := plan().next(trials)) is not None and found.stage != "fine_tune":
        tried.append(found.stage)
        params = {**SPACE.recipe("lite1_deep"), **found.params}
        config = {**SPACE.fixed, **params}
        trials.append(TrialRecord(len(trials), "pruned", None, params, config=config, started=BEGAN, ended=BEGAN))
    assert found is not None
    assert found.recipe == "tuned_lite0"
    assert set(tried) == {"heads", "inputs"}


def test_a_stage_without_a_trial_that_fits_is_skipped():
    found = plan().next(heads(0.4, 0.5), seconds_left=15.0)
    assert found is not None
    assert found.stage == "heads"
    assert found.why.endswith("no other stage has a trial that fits")
    assert plan().next(heads(0.4, 0.5), seconds_left=5.0) is None


def test_heads_leave_to_the_sampler_what_they_do_not_hold():
    found = plan().next(heads(*[0.5] * 7), seconds_left=15.0)
    assert found is not None
    assert found.params.keys() == SPACE.stages["heads"].hold.keys()


def test_the_same_record_gives_the_same_plan():
    assert plan().next(heads(0.4, 0.5, 0.3)) == plan().next(heads(0.4, 0.5, 0.3))
