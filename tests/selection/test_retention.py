"""What goes and what stays, from facts alone: rules one by one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hpo.selection.garbage_collection import DeletionPlan, Facts, Rules, Spooled, plan
from hpo.tracking.artifacts import BUNDLE, StoredModel, StoredRun, StoredVersion

HOUR_MS = 3_600_000
NOW_MS = 100 * HOUR_MS
PROVISIONAL = "trial 3 is ahead of trial 1, the champion before; to be confirmed"
RUN = {"uri": "file:///artifacts", "deleted": False, "ended_ms": 0}
MODEL_FILES = {"model/MLmodel": 10, "model/artifacts/bundle/bundle.json": 20}
BUNDLE_FILES = {"network/bundle.json": 20}


def version(number: int = 1, trial: int = 1, **changed: object) -> StoredVersion:
    tags = {"hpo.trial": f"{trial}", "hpo.study": "s", "hpo.reason": PROVISIONAL, "hpo.value": "0.4"}
    made = StoredVersion("s", number, f"run{trial}", f"file:///artifacts/run{trial}/model", None, 0, tags)
    return replace(made, **changed)


def facts(*versions: StoredVersion, **changed: object) -> Facts:
    """Five complete trials, of which the first has a version and the second a bundle."""
    return replace(
        Facts(
            "s",
            NOW_MS,
            tuple(StoredRun(f"run{n}", trial=n, **RUN) for n in range(5)),
            versions,
            {"run1": MODEL_FILES, "run2": BUNDLE_FILES},
            {n: f"run{n}" for n in range(5)},
            frozenset(range(5)),
            frozenset(range(5)),
        ),
        **changed,
    )


NONE_KEPT = Rules(frozenset())


def kinds(planned: DeletionPlan) -> list[tuple[str, str]]:
    return [(item.kind, item.name) for item in planned.items]


def test_an_overtaken_version_goes_with_its_files():
    planned = plan(facts(version()), NONE_KEPT)
    assert kinds(planned) == [("version", "version 1"), ("bundle", "trial 2")]
    assert planned.n_bytes == 50
    assert planned.notes == ()


@pytest.mark.parametrize(
    "changed",
    [
        {"aliases": ("mine",)},
        {"by_hand": True},
        {"tags": {"hpo.trial": "1", "hpo.study": "another", "hpo.reason": PROVISIONAL}},
        {"tags": {"hpo.trial": "1", "hpo.study": "s", "hpo.reason": "trial 1 has the best mean f1_macro"}},
        {"tags": {}},
        {"run_id": "of nobody", "source": "file:///artifacts/run1/model"},
    ],
)
def test_a_version_that_somebody_needs_or_made_stays(changed):
    assert "version" not in dict(kinds(plan(facts(version(**changed)), NONE_KEPT)))
    assert "version files" not in dict(kinds(plan(facts(version(**changed)), NONE_KEPT)))


@pytest.mark.parametrize(
    "other",
    [
        version(7, model="a copy"),
        version(7, model="by source", run_id="", source="file:///artifacts/run1/model", tags={}),
        version(7, model="by name", run_id="", source="models:/s/1", tags={}),
    ],
)
def test_a_version_that_another_one_refers_to_stays(other):
    planned = plan(facts(version(), other), NONE_KEPT)
    assert kinds(planned) == [("bundle", "trial 2")]


def test_weights_of_kept_trials_stay_and_all_of_them_where_nobody_knows_the_ensemble():
    assert kinds(plan(facts(version()), Rules(frozenset({1, 2})))) == []
    assert kinds(plan(facts(version()), Rules(None))) == []
    assert kinds(plan(facts(version()), Rules(frozenset({1})))) == [("bundle", "trial 2")]


def test_versions_are_left_alone_while_trials_run():
    planned = plan(facts(version(), n_running=2), NONE_KEPT)
    assert kinds(planned) == [("bundle", "trial 2")]
    assert "while trials run, and 2 do" in planned.notes[0]
    assert kinds(plan(facts(n_running=2), NONE_KEPT)) == [("bundle", "trial 2")]  # one may be being registered


def test_what_is_younger_than_an_hour_has_to_wait_unless_nobody_knows_of_it():
    young = [replace(run, ended_ms=NOW_MS - HOUR_MS // 2) for run in facts().runs]
    overtaken = version(1), version(2, trial=4, created_ms=NOW_MS - HOUR_MS // 2, aliases=("champion",))
    late = facts(*overtaken, runs=tuple(young))  # version 1 is old, and had the alias until half an hour ago
    assert kinds(plan(late, NONE_KEPT)) == []
    assert "2 more are left alone" in plan(late, NONE_KEPT).notes[0]
    assert kinds(plan(late, replace(NONE_KEPT, at_once=frozenset({1})))) == [("version", "version 1")]
    assert len(plan(late, replace(NONE_KEPT, grace_seconds=0)).items) == 2


def test_of_two_copies_of_a_network_one_goes():
    both = {"run1": MODEL_FILES | BUNDLE_FILES}
    for kept in (frozenset({1}), None):
        [item] = plan(facts(version(aliases=("champion",)), sizes=both), Rules(kept)).items
        assert (item.kind, item.why, item.paths) == ("bundle", "version 1 holds the same network", (BUNDLE,))
    hollow = {"run1": {"model/MLmodel": 10} | BUNDLE_FILES}
    assert plan(facts(version(aliases=("champion",)), sizes=hollow), Rules(frozenset({1}))).items == ()


def test_files_of_a_version_that_is_gone_go():
    assert kinds(plan(facts(), NONE_KEPT)) == [("version files", "trial 1"), ("bundle", "trial 2")]
    running = tuple(replace(run, ended_ms=None) for run in facts().runs)
    assert kinds(plan(facts(runs=running), NONE_KEPT)) == []


def test_a_deleted_run_goes_unless_its_trial_or_a_version_needs_it():
    gone = StoredRun("run9", "file:///artifacts/run9", 1, True, 0)
    sizes = {"run9": {"pool/probabilities.safetensors": 5, "model/MLmodel": 10, "note.txt": 1}}
    [item] = plan(facts(runs=(gone,), sizes=sizes), NONE_KEPT).items
    assert (item.kind, item.n_bytes, item.paths) == ("deleted run", 16, ("pool", "model", "note.txt"))
    assert plan(facts(runs=(gone,), sizes=sizes, run_of_trial={1: "run9"}), NONE_KEPT).items == ()
    of_it = version(trial=1, run_id="run9")
    assert plan(facts(replace(of_it, aliases=("mine",)), runs=(gone,), sizes=sizes), NONE_KEPT).items == ()
    together = plan(facts(of_it, runs=(gone,), sizes=sizes), NONE_KEPT)
    assert [(item.kind, item.n_bytes) for item in together.items] == [("version", 10), ("deleted run", 6)]


def test_a_logged_model_goes_unless_a_version_needs_it():
    logged = ((StoredModel("m-1", "file:///models/m-1", 0), {"MLmodel": 3}),)
    [item] = plan(facts(sizes={}, logged_models=logged), NONE_KEPT).items
    assert (item.kind, item.model_id, item.n_bytes) == ("logged model", "m-1", 3)
    for needing in (version(model="x", model_id="m-1"), version(model="x", source="models:/m-1")):
        assert plan(facts(needing, sizes={}, logged_models=logged), NONE_KEPT).items == ()


def test_what_waited_for_mlflow_goes_once_it_is_there_whole(tmp_path):
    waiting = Spooled(0, tmp_path, {"pool/probabilities.safetensors": 5})

    def planned(n_bytes: int, **changed: object) -> list[tuple[str, str]]:
        there = {"run0": {"pool/probabilities.safetensors": n_bytes}}
        return kinds(plan(facts(sizes=there, spooled=(waiting,), **changed), NONE_KEPT))

    assert planned(5) == [("spool", "trial 0")]
    assert planned(4) == planned(5, ended=frozenset()) == planned(5, run_of_trial={}) == []


def averaged(number: int, **changed: object) -> StoredVersion:
    """An average of trials 1 and 2, on the study's run."""
    tags = {"hpo.average": '{"1": 0.5, "2": 0.5}', "hpo.study": "s", "hpo.value": "0.5"}
    made = StoredVersion("s", number, "study", f"file:///artifacts/study/average-{number}", None, 0, tags)
    return replace(made, **changed)


@pytest.mark.parametrize(
    ("changed", "goes"),
    [
        ({}, True),
        ({"aliases": ("champion",)}, False),
        ({"aliases": ("challenger",)}, False),
        ({"by_hand": True}, False),
    ],
)
def test_an_average_that_has_no_alias_goes(changed, goes):
    known = facts(averaged(7, **changed))
    runs = (*known.runs, StoredRun("study", trial=None, **RUN))
    sizes = {"study": {"average-7/MLmodel": 5, "average-8/MLmodel": 6, "split/split.json": 9}}
    planned = plan(replace(known, runs=runs, sizes=sizes), NONE_KEPT)
    assert kinds(planned) == ([("version", "version 7")] if goes else [])
    assert planned.n_bytes == (5 if goes else 0)
