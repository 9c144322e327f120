from __future__ import annotations

import json
import math
import time
from pathlib import Path

import pytest

from hpo.errors import TrackingError
from hpo.tracking.client import StudyPosters
from hpo.tracking.runs import STATUS_OF_STATE, Tracking, open_tracking
from hpo.tracking.trial_run import TrialRun
from tests.mlflow_folder import sqlite

LABELS = ["Sci-Fi", "R&B", "Slice of Life", "動作", "a//b", "../up", "", "x" * 400]


def start_study(tracking: Tracking, name: str = "posters", **params: object) -> str:
    table = [{"label": "Drama", "train": 7}, {"label": "Comedy", "train": math.nan}]
    return tracking.study_run(name, params, {"hpo.metric": "f1_macro"}, {"splits": table}, {})


def test_two_searches_may_make_the_database_at_once(made_at_once):
    first, second = made_at_once[1]
    assert first.experiment_id == second.experiment_id
    assert start_study(first) == start_study(second)


@pytest.mark.parametrize("name", ["posters", 'it\'s "mine" `and` 100 %'])
def test_a_resumed_study_goes_on_with_its_run(tracking, client, name):
    assert tracking.find_study_run(name) is None
    first = start_study(tracking, name, budget=50, rules={"top_labels": 10})
    tracking.finish_study(first, "KILLED", {"best/f1_macro": 0.4})
    assert client.get_run(first).info.status == "KILLED"

    start_study(tracking, "another study")
    assert start_study(tracking, name, budget=100, seed=0) == first == tracking.find_study_run(name)
    run = client.get_run(first)
    assert run.info.status == "RUNNING"
    assert run.data.params == {"budget": "50", "rules.top_labels": "10", "seed": "0"}
    tracking.note(first, "# A note" + 10_000 * " and more")
    note = client.get_run(first).data.tags["mlflow.note.content"]
    assert note.startswith("# A note")
    assert len(note) <= 8000
    assert json.loads(run.data.tags["mlflow.loggedArtifacts"]) == [{"path": "splits.json", "type": "table"}]
    table = json.loads(Path(client.download_artifacts(first, "splits.json")).read_text())
    assert table == {"columns": ["label", "train"], "data": [["Drama", 7], ["Comedy", None]]}


def test_every_run_names_its_posters_once(tracking, client):
    posters = StudyPosters("here/movies.csv", "here", {"labels": "ab12", "images": "cd34"})
    parent = tracking.study_run("posters", {}, {}, {}, {}, posters)
    assert parent == tracking.study_run("posters", {}, {}, {}, {}, posters)
    for run_id in (parent, tracking.start_trial(parent, 0, "#0", {}, {}, posters)):
        [found] = client.get_run(run_id).inputs.dataset_inputs
        assert (found.dataset.name, found.dataset.digest) == ("movies", "ab12")
        assert json.loads(found.dataset.source) == {"uri": "here/movies.csv"}
        assert json.loads(found.dataset.profile)["images"] == "cd34"


def test_the_machine_is_watched_on_request(tracking, client, monkeypatch):
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.2")
    run_id = tracking.start_trial(start_study(tracking), 0, "#0", {}, {})
    waited_until = time.monotonic() + 120
    with tracking.watching(run_id):
        while "system/cpu_utilization_percentage" not in client.get_run(run_id).data.metrics:
            assert time.monotonic() < waited_until, "no metric of the machine in two minutes"
            time.sleep(0.1)


def test_files_of_a_study_are_among_its_artifacts_as_they_are_now(tracking, client, tmp_path):
    file = tmp_path / "split.json"
    for content in ("{}", '{"train": []}'):
        file.write_text(content)
        run_id = tracking.study_run("posters", {}, {}, {}, {"split": [file]})
        assert Path(client.download_artifacts(run_id, "split/split.json")).read_text() == content


def record(number: int = 0, state: str = "complete", **fields: object) -> TrialRun:
    blank = {"params": {}, "metrics": {}, "curve": {}, "tags": {}, "name": f"#{number}", "ended_ms": 1_700_000_000_000}
    return TrialRun(number=number, state=state, **{**blank, **fields})


def start_trial(tracking: Tracking, parent: str, number: int, **params: object) -> str:
    return tracking.start_trial(parent, number, f"#{number}", params, {})


def test_the_three_ends_of_a_trial_are_told_apart(tracking, client):
    parent = start_study(tracking)
    runs = {state: start_trial(tracking, parent, n, backbone="lite0") for n, state in enumerate(STATUS_OF_STATE)}
    assert client.get_run(runs["complete"]).data.tags["hpo.state"] == "running"
    curve = {"val/f1_macro": [(1, 0.1), (2, 0.2), (3, 0.3)]}
    more = {"pruned": {"tags": {"hpo.pruned_after": "epoch 3"}}, "failed": {"tags": {"hpo.reason": "no memory"}}}
    for number, (state, run_id) in enumerate(runs.items()):
        metrics = {"val/f1_macro": 0.25} if state == "complete" else {}
        ended = record(number, state, curve=curve, metrics=metrics, name=f"#{number} lite0", **more.get(state, {}))
        for _ in range(2):  # the second time changes nothing
            tracking.log_trial(run_id, ended)

    logged = {state: client.get_run(run_id) for state, run_id in runs.items()}
    assert {state: run.info.status for state, run in logged.items()} == STATUS_OF_STATE
    assert {state: run.data.tags["hpo.state"] for state, run in logged.items()} == {s: s for s in runs}
    assert {run.data.tags["mlflow.parentRunId"] for run in logged.values()} == {parent}
    assert {run.data.tags["hpo.study"] for run in logged.values()} == {"posters"}
    assert logged["pruned"].data.tags["hpo.pruned_after"] == "epoch 3"
    assert logged["failed"].data.tags["hpo.reason"] == "no memory"
    assert logged["complete"].info.run_name == "#0 lite0"
    assert logged["complete"].data.params == {"backbone": "lite0"}
    assert logged["complete"].data.metrics == {"val/f1_macro": 0.25}  # the trial's, not the last epoch's
    history = client.get_metric_history(runs["pruned"], "val/f1_macro")
    assert [(entry.step, entry.value) for entry in history] == [(1, 0.1), (2, 0.2), (3, 0.3)]
    states = {
        number: [(run.state, run.has_ended) for run in found] for number, found in tracking.trial_runs(parent).items()
    }
    assert states == {number: [(state, True)] for number, state in enumerate(STATUS_OF_STATE)}


def test_whatever_is_logged_fits(tracking, client):
    params, tags = {f"p{n}": "x" * 9000 for n in range(150)}, {f"t{n}": "y\n" * 9000 for n in range(150)}
    run_id = tracking.start_trial(start_study(tracking), 0, "#0", params, tags)
    curve = {f"m{n}": [(epoch, float(epoch)) for epoch in range(1, 121)] for n in range(20)}
    metrics = {"train/loss": math.nan, "worst": -math.inf, **{f"val/f1/{name}": 0.5 for name in LABELS}}
    tracking.log_trial(run_id, record(curve=curve, metrics=metrics))

    data = client.get_run(run_id).data
    assert len(data.params) == 150
    assert all(value.endswith("x…") for value in data.params.values())
    assert data.tags["t149"].endswith("y\n…")
    assert [data.metrics[f"m{n}"] for n in range(20)] == [120] * 20
    assert math.isnan(data.metrics["train/loss"])
    assert math.isnan(data.metrics["worst"])
    assert data.metrics["val/f1/R_B"] == 0.5
    assert len([key for key in data.metrics if key.startswith("val/f1")]) == len(LABELS) - 1  # ../up is not below f1
    assert len(client.get_metric_history(run_id, "m0")) == 120


@pytest.mark.parametrize(
    ("uri", "fix"),
    [
        ("./mlruns", "sqlite:///mlruns/mlflow.db"),
        ("file:///somewhere/mlruns", "sqlite:///mlruns/mlflow.db"),
        ("sqlite:///{folder}/text.db", "name another file"),
        ("sqlite:///{folder}/text.db/mlflow.db", "make it writable"),
        ("nosuch://place", "choose another place"),
        ("http://127.0.0.1:9", "start that server"),
    ],
)
def test_a_place_that_cannot_be_used_is_named_with_a_cure(tmp_path, uri, fix):
    (tmp_path / "text.db").write_text("no database\n" * 1000)
    with pytest.raises(TrackingError, match=fix) as told:
        open_tracking(uri.format(folder=tmp_path), tmp_path)
    assert "\n" not in str(told.value)


def test_a_deleted_experiment_is_not_brought_back_silently(folder, tracking, client):
    assert tracking.notices() == []
    client.delete_experiment(tracking.experiment_id)
    second = open_tracking(sqlite(folder), folder)
    assert client.get_experiment(tracking.experiment_id).lifecycle_stage == "deleted"
    assert client.get_experiment(second.experiment_id).name == "hpo 2"
    (notice,) = second.notices()
    assert f"restore --experiment-id {tracking.experiment_id}" in notice
    assert open_tracking(sqlite(folder), folder).experiment_id == second.experiment_id
    client.restore_experiment(tracking.experiment_id)
    assert open_tracking(sqlite(folder), folder).experiment_id == tracking.experiment_id
