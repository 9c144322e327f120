from __future__ import annotations

import optuna
import pytest

from hpo.doctor.trials import check_backbones, check_budget, check_pruner
from hpo.study.samplers import build_sampler

EPOCHS = "  epochs: {}\n  patience: {}\n"


def test_packaged_weights_can_be_had(plan):
    found = check_backbones(plan(backbone="tf_efficientnet_lite0+tf_efficientnet_lite1"))
    assert (found.state, found.message) == ("ok", "2 of 2 of mine can be had")


def test_weights_that_cannot_be_had(plan, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    found = check_backbones(plan(backbone="tf_efficientnet_lite0+test_vit"))
    assert found.state == "problem"
    assert found.message.startswith("1 of 2 of mine can be had: Expected ")
    assert found.fix.startswith("leave them out with hpo search --skip-unavailable, or go online once")


def test_a_weights_file_that_is_missing(plan, tmp_path):
    weights = f"\nweights: {{tf_efficientnet_lite0: {tmp_path}/none.safetensors}}\n"
    found = check_backbones(plan(more=EPOCHS.format(20, 5) + weights))
    assert found.state == "problem"
    assert found.fix.startswith("correct the path under 'weights:'")


@pytest.mark.parametrize(
    ("trials", "workers", "state", "fix"),
    [
        (50, 1, "ok", ""),
        (11, 1, "ok", ""),
        (10, 1, "warning", "more than 20 --trials"),
        (3, 4, "warning", "use --workers 3"),
    ],
)
def test_budgets(plan, trials, workers, state, fix):
    found = check_budget(plan(trials=trials, workers=workers))
    assert found.state == state
    assert fix in found.fix


def recipes_of(n: int) -> str:
    """So many recipes of a searched dropout."""
    rows = "".join(f"  r{at}: {{dropout: 0.{at:02}}}\n" for at in range(n))
    return f"{EPOCHS.format(20, 5)}  dropout: {{type: float, low: 0.0, high: 0.5}}\nrecipes:\n{rows}"


@pytest.mark.parametrize(("n_recipes", "trials", "state", "words"), [
    (7, 50, "ok", "50 trials, the first 7 are the space's recipes and the next 3 are drawn at random; "
                  "the sampler learns from trial 10 on"),
    (7, 8, "warning", "8 trials, the first 7 are the space's recipes and the next is drawn at random, and "
                      "the sampler learns from trial 10 on"),
    (7, 5, "warning", "5 trials, the first 5 are the space's recipes, and the sampler learns from trial 10 on"),
    (1, 11, "ok", "11 trials, the first is the space's recipe and the next 9 are drawn at random; "
                  "the sampler learns from trial 10 on"),
    (12, 12, "warning", "12 trials, the first 12 are the space's recipes, and the sampler learns from trial 12 on"),
])  # fmt: skip
def test_u10_the_budget_line_says_where_the_first_trials_come_from(plan, n_recipes, trials, state, words):
    found = check_budget(plan(trials=trials, more=recipes_of(n_recipes)))
    assert (found.state, found.message) == (state, words)


@pytest.mark.parametrize(("n_recipes", "first"), [(7, 10), (12, 12)])
def test_u10_the_sampler_does_learn_from_the_trial_that_is_named(n_recipes, first):
    study = optuna.create_study(sampler=build_sampler("tpe", seed=0))
    for at in range(n_recipes):
        study.enqueue_trial({"dropout": at / 100})
    study.optimize(lambda trial: trial.suggest_float("dropout", 0.0, 0.5), n_trials=15)
    modelled = [t.number for t in study.trials if any("relative_params" in key for key in t.system_attrs)]
    assert modelled[0] <= first  # what a recipe fixes is proposed too, and not used
    assert [number for number in modelled if number >= n_recipes] == list(range(first, 15))


@pytest.mark.parametrize(
    ("epochs", "patience", "more", "state", "words"),
    [
        (50, 5, "", "ok", "looks from epoch 3 on, of 50 at most"),
        ("{type: int, low: 2, high: 9}", 5, "", "ok", "of 9 at most"),
        (3, 5, "", "warning", "trials are never pruned"),
        (2, 5, "  unfreeze: last_stage\n", "ok", "pruned in phase two alone"),
        (
            2,
            5,
            "  unfreeze: {type: categorical, choices: [none, last_stage]}\n",
            "warning",
            "those that do not fine-tune",
        ),
        (50, 1, "", "warning", "with patience 1 most trials end before"),
    ],
)
def test_a_pruner_that_never_gets_to_look(plan, epochs, patience, more, state, words):
    found = check_pruner(plan(more=EPOCHS.format(epochs, patience) + more, folds=1))
    assert found.state == state
    assert words in found.message


@pytest.mark.parametrize(("n_posters", "more", "words"), [
    (21_000, "", "5 folds a trial"),
    (23_000, "", "train for 2 at most"),
    (1600, "  unfreeze: last_stage\n", "pruned in phase two alone"),
])  # fmt: skip
def test_all_but_many_posters_are_judged_by_folds_whatever_the_epochs(plan, n_posters, more, words):
    assert words in check_pruner(plan(more=EPOCHS.format(2, 5) + more, n_posters=n_posters)).message


@pytest.mark.parametrize(("folds", "pruner", "state", "words"), [
    (None, "halving", "ok", "halving, as asked for"),
    (5, "none", "ok", "none, as asked for"),
    (5, "halving", "problem", "compares trials by epoch, and those of --folds 5 report folds"),
    (1, "halvign", "problem", "got 'halvign' (did you mean 'halving'?)"),
])  # fmt: skip
def test_a_pruner_that_was_asked_for(plan, folds, pruner, state, words):
    found = check_pruner(plan(folds=folds, pruner=pruner))
    assert found.state == state
    assert words in found.message
    assert bool(found.fix) == (state == "problem")
