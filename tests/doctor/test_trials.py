from __future__ import annotations

import pytest

from hpo.doctor.trials import check_backbones, check_budget, check_pruner

EPOCHS = "  epochs: {}\n  patience: {}\n"


def test_packaged_weights_can_be_had(plan):
    found = check_backbones(plan(backbone="tf_efficientnet_lite0+tf_efficientnet_lite1"))
    assert (found.state, found.words) == ("ok", "2 of 2 of mine can be had")


def test_weights_that_cannot_be_had(plan, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    found = check_backbones(plan(backbone="tf_efficientnet_lite0+test_vit"))
    assert found.state == "problem"
    assert found.words.startswith("1 of 2 of mine can be had: Expected ")
    assert found.cure.startswith("leave them out with hpo search --skip-unavailable, or go online once")


def test_a_weights_file_that_is_missing(plan, tmp_path):
    weights = f"\nweights: {{tf_efficientnet_lite0: {tmp_path}/none.safetensors}}\n"
    found = check_backbones(plan(more=EPOCHS.format(20, 5) + weights))
    assert found.state == "problem"
    assert found.cure.startswith("correct the path under 'weights:'")


@pytest.mark.parametrize(
    ("trials", "workers", "state", "cure"),
    [
        (50, 1, "ok", ""),
        (11, 1, "ok", ""),
        (10, 1, "warning", "more than 20 --trials"),
        (3, 4, "warning", "use --workers 3"),
    ],
)
def test_budgets(plan, trials, workers, state, cure):
    found = check_budget(plan(trials=trials, workers=workers))
    assert found.state == state
    assert cure in found.cure


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
    assert words in found.words


@pytest.mark.parametrize(("n_posters", "more", "words"), [
    (21_000, "", "5 folds a trial"),
    (23_000, "", "train for 2 at most"),
    (1600, "  unfreeze: last_stage\n", "pruned in phase two alone"),
])  # fmt: skip
def test_all_but_many_posters_are_judged_by_folds_whatever_the_epochs(plan, n_posters, more, words):
    assert words in check_pruner(plan(more=EPOCHS.format(2, 5) + more, n_posters=n_posters)).words


@pytest.mark.parametrize(("folds", "pruner", "state", "words"), [
    (None, "halving", "ok", "halving, as asked for"),
    (5, "none", "ok", "none, as asked for"),
    (5, "halving", "problem", "compares trials by epoch, and those of --folds 5 report folds"),
    (1, "halvign", "problem", "got 'halvign' (did you mean 'halving'?)"),
])  # fmt: skip
def test_a_pruner_that_was_asked_for(plan, folds, pruner, state, words):
    found = check_pruner(plan(folds=folds, pruner=pruner))
    assert found.state == state
    assert words in found.words
    assert bool(found.cure) == (state == "problem")
