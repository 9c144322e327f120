"""The top trials are run again on fresh seeds, as far as there is time; what is skipped is said, with the reason."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import optuna
import pytest
from optuna.trial import create_trial

from hpo.selection.champion import ChampionSelector
from hpo.study.storage import RetryingStorage
from hpo.study.study import Study

NO_TIMEOUT = float("inf")


def run_again(folder: Path, n_trials: int, seconds_each: float, seconds_left: float) -> tuple[list[str], list[int]]:
    """What two searches of one study skip, in words, and the seeds on which a trial was run again."""
    storage = RetryingStorage(optuna.storages.RDBStorage(f"sqlite:///{folder}/optuna.db"))
    made = optuna.create_study(storage=storage, direction="maximize", study_name="s")
    for name, value in {"metric": "f1_macro", "seed": 0, "budget": n_trials}.items():
        made.set_user_attr(name, value)
    for at in range(n_trials):
        made.add_trial(create_trial(value=at / 100, user_attrs={"seconds": {"train": seconds_each, "features": 9e9}}))
    seeds: list[int] = []

    def repeat(_: object, seed: int) -> SimpleNamespace:
        seeds.append(seed)
        return SimpleNamespace(value=0.5)

    data = SimpleNamespace(fingerprints={"labels": ""})
    context = SimpleNamespace(
        study=Study(made, storage, folder), tracking=None, data=data, trainer=None, train_again=repeat
    )
    skipped: list[str] = []
    for search in ("first", "second"):  # the same command, typed twice
        said: list[str] = []
        ChampionSelector(context).confirm(said.append, seconds_left, lambda: None)
        skipped += [f"{search}: {text}" for text in said if "skipped" in text]
    return skipped, seeds


SHARE = "skipped: running the top trials again is limited to 25 % of the search's time, or a minute"
TIMEOUT = "skipped: running the top trials again is limited to what --timeout leaves"
BOTH_SEEDS = [1, 1, 1, 2, 2, 2]


@pytest.mark.parametrize(
    ("n_trials", "seconds_left", "skipped", "seeds"),
    [
        (6, NO_TIMEOUT, {"first": f"Fresh seeds are {SHARE}; a search of more trials has time for it."}, []),
        (12, NO_TIMEOUT, {"first": f"Fresh seed 2 is {SHARE}; the same command may have time for it."}, BOTH_SEEDS),
        (40, 299.0, {"first": f"Fresh seeds are {TIMEOUT}; the same command may have time for it."}, []),
        (40, NO_TIMEOUT, {}, BOTH_SEEDS),
    ],
)
def test_u23_a_seed_that_is_skipped_is_named_with_the_limit(tmp_path, n_trials, seconds_left, skipped, seeds):
    said, ran = run_again(tmp_path, n_trials, 100.0, seconds_left)
    if not seeds:  # and so the second search has no more time than the first
        skipped["second"] = skipped["first"]
    assert said == [f"{search}: {text}" for search, text in skipped.items()]
    assert ran == seeds


def test_u23_short_searches_are_always_confirmed(tmp_path):
    assert run_again(tmp_path, 3, 10.0, NO_TIMEOUT) == ([], BOTH_SEEDS)
