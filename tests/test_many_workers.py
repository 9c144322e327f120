"""Several workers of one study, killed again and again while their servers come and go: nothing lost, nothing double.

The same topology as docker-compose.yml, without containers: PostgreSQL with two databases, the MLflow server on one of
them, and three searches that know nothing of each other. And two workers of one search on sqlite.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from mlflow import MlflowClient
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.pool import NullPool

from hpo.study.trial_record import TrialRecord
from hpo.tracking.runs import STATUS_OF_STATE
from tests.postgres import Postgres, free_port
from tests.test_end_to_end import CommandLine

SPACE = """
parameters:
  backbone: {type: categorical, choices: [test_efficientnet, test_resnet]}
  image_size: 64
  features: final
  hidden_layers: 0
  input_dropout: 0.0
  weight_decay: {type: float, low: 1e-4, high: 1e-1, log: true}
  label_smoothing: 0.0
  focal_gamma: {type: float, low: 0.0, high: 2.0}
  focal_alpha: 0.5
  learning_rate: {type: float, low: 1e-3, high: 1e-1, log: true}
  schedule: cosine
  batch_size: 8
  epochs: 12
  patience: 12
weights: {test_efficientnet: random, test_resnet: random}
recipes:
  plain: {backbone: test_efficientnet, learning_rate: 1e-2}
"""
SECONDS = 900  # for all of a study; it takes a minute


@pytest.fixture(scope="module")
def posters(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The options of a search of small posters."""
    from hpo.data.sample.sample import write_sample

    folder = tmp_path_factory.mktemp("posters")
    write_sample(folder / "sample", 200, seed=1)
    (folder / "space.yaml").write_text(SPACE)
    return ["search", "--data", f"{folder / 'sample' / 'anime.csv'}", "--images", f"{folder / 'sample' / 'images'}",
            "--space", f"{folder / 'space.yaml'}", "--study", "s", "--val-size", "30", "--test-size", "30",
            "--labels", "4", "--folds", "1", "--no-confirm"]  # fmt: skip


@pytest.fixture
def mlflow_server(postgres: Postgres, tmp_path: Path) -> Iterator[str]:
    """The MLflow server with its own database in PostgreSQL, as in docker-compose.yml."""
    address = f"http://127.0.0.1:{(port := free_port())}"
    words = [
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--workers",
        "1",
        "--artifacts-destination",
        f"{tmp_path / 'artifacts'}",
    ]
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "1", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    database = {"MLFLOW_BACKEND_STORE_URI": postgres.create_database("mlflow_of_workers")}
    with (tmp_path / "mlflow.log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", *words],
            env={**os.environ, **quiet, **database},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        wait_until_it_answers(address)
        yield address
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def wait_until_it_answers(address: str) -> None:
    deadline = time.monotonic() + 300
    while True:
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=10):
                return
        except OSError:
            assert time.monotonic() < deadline, "the MLflow server did not start"
            time.sleep(0.2)


class Workers:
    """Searches of one study, each with a folder of its own, as on machines of their own; killed ones are replaced."""

    def __init__(self, folder: Path, words: list[str], n_workers: int, environment: dict[str, str]) -> None:
        self.words = words
        self.lines = [CommandLine(folder / f"machine{at}") for at in range(n_workers)]
        for line in self.lines:
            line.env |= {"HPO_CACHE_DIR": str(folder / "cache"), **environment}
        self.processes = [line.start(*words) for line in self.lines]

    def kill(self, at: int) -> None:
        self.processes[at].send_signal(signal.SIGKILL)
        self.processes[at].communicate()
        self.processes[at] = self.lines[at].start(*self.words)

    def end(self) -> None:
        """Wait until all have found nothing left to do."""
        for process in self.processes:
            _, said = process.communicate(timeout=SECONDS)
            assert process.returncode == 0, said


def finished(storage: str) -> int:
    try:
        trials = study_of(storage).get_trials(deepcopy=False)
    except (KeyError, optuna.exceptions.StorageInternalError):
        return 0
    return sum(trial.state in (TrialState.COMPLETE, TrialState.PRUNED) for trial in trials)


def study_of(storage: str) -> optuna.Study:
    """Look by a connection that ends with the question: a server has a hundred of them."""
    engine = {"poolclass": NullPool}
    return optuna.load_study(study_name="s", storage=optuna.storages.RDBStorage(storage, engine_kwargs=engine))


def wait_for(storage: str, n_trials: int) -> None:
    deadline = time.monotonic() + SECONDS
    while finished(storage) < n_trials:
        assert time.monotonic() < deadline, f"{finished(storage)} of {n_trials} trials after {SECONDS} s"
        time.sleep(0.3)


def assert_nothing_lost_and_nothing_double(storage: str, tracking: str, n_trials: int) -> None:
    trials = study_of(storage).get_trials(deepcopy=False)
    assert Counter(trial.state for trial in trials)[TrialState.RUNNING] == 0
    assert sum(trial.state in (TrialState.COMPLETE, TrialState.PRUNED) for trial in trials) == n_trials
    retries = [trial.user_attrs["retry_of"] for trial in trials if "retry_of" in trial.user_attrs]
    assert len(retries) == len(set(retries))  # no trial was taken over twice
    lost = [trial for trial in trials if trial.state == TrialState.FAIL and had_parameters(trial)]
    assert {trial.number for trial in lost} == set(retries)  # and each that had parameters was
    for trial in trials:
        if "retry_of" in trial.user_attrs and trial.state.is_finished():
            assert trials[trial.user_attrs["retry_of"]].params.items() <= trial.params.items()
    rows_agree(trials, tracking)


def had_parameters(trial: FrozenTrial) -> bool:
    """Whether it had chosen any, or was queued with some, as the retry of a lost one is, and killed before it chose."""
    return bool(trial.params or trial.system_attrs.get("fixed_params"))


def rows_agree(trials: list[FrozenTrial], tracking: str) -> None:
    """Every trial that has ended has one run in MLflow, of its state and with its value."""
    client = MlflowClient(tracking, tracking)
    experiment = client.get_experiment_by_name("hpo")
    runs = client.search_runs([experiment.experiment_id], "tags.`hpo.kind` = 'trial'")
    numbers = Counter(int(run.data.tags["hpo.trial"]) for run in runs)
    assert numbers == {trial.number: 1 for trial in trials if trial.state.is_finished()}
    for run in runs:
        trial = trials[int(run.data.tags["hpo.trial"])]
        state = TrialRecord.of(trial).state
        assert (run.data.tags["hpo.state"], run.info.status) == (state, STATUS_OF_STATE[state])
        if trial.state == TrialState.COMPLETE:
            assert run.data.metrics["val/f1_macro"] == pytest.approx(trial.value, rel=1e-4)
    best = max((trial for trial in trials if trial.state == TrialState.COMPLETE), key=lambda t: (t.value, -t.number))
    assert int(client.get_model_version_by_alias("s", "champion").tags["hpo.trial"]) == best.number


def test_three_workers_on_postgresql_survive_kills_and_a_restart_of_the_database(
    tmp_path: Path, posters: list[str], postgres: Postgres, mlflow_server: str
) -> None:
    storage, chance = postgres.create_database("optuna_of_workers"), random.Random(0)
    environment = {"HPO_STORAGE": storage, "MLFLOW_TRACKING_URI": mlflow_server}
    workers = Workers(tmp_path, [*posters, "--trials", "40"], 3, environment)
    for at, n_trials in enumerate((3, 10, 17, 24, 31)):
        wait_for(storage, n_trials)
        workers.kill(chance.randrange(3))
        if at == 2:
            postgres.restart()
    workers.end()
    assert_nothing_lost_and_nothing_double(storage, mlflow_server, 40)
    status = workers.lines[0].status("s")
    assert (status["budget"], status["trials"]["running"]) == (40, 0)
    assert "nothing to do" in workers.lines[1].ok("sync")


def test_two_workers_of_one_search_on_sqlite_survive_kills(tmp_path: Path, posters: list[str]) -> None:
    hpo = CommandLine(tmp_path)
    storage = f"sqlite:///{tmp_path}/mlruns/optuna.db"
    (tmp_path / "mlruns").mkdir()
    search = hpo.start_anew(*posters, "--trials", "16", "--workers", "2", "--profile", "time.json")
    killed = set()
    for n_trials in (3, 8):
        wait_for(storage, n_trials)
        killed.add(random.Random(n_trials).choice(at_work(search.pid, tmp_path / "time.json")))
        for pid in killed & set(children(search.pid)):
            os.kill(pid, signal.SIGKILL)
    _, said = search.communicate(timeout=SECONDS)
    assert search.returncode == 0, said
    assert_nothing_lost_and_nothing_double(storage, f"sqlite:///{tmp_path}/mlruns/mlflow.db", 16)
    events = json.loads((tmp_path / "time.json").read_text().rstrip().rstrip(",") + "]")
    assert {search.pid, *killed} < {event["pid"] for event in events}  # and at least one in place of the killed
    assert {"starting", "posters", "features", "training", "Optuna", "MLflow"} <= {event["name"] for event in events}
    assert re.search(r"Time: [^.]*\d+ % training", " ".join(said.split())), said
    hpo.ok(*posters, "--trials", "+4")
    assert hpo.status("s")["budget"] == 20
    assert finished(storage) == 20


def at_work(pid: int, timeline: Path) -> list[int]:
    """The worker processes of a search that have written to its timeline, once there is one."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        written = {int(found) for found in re.findall(r'"pid": ?(\d+)', timeline.read_text())}
        if working := [child for child in children(pid) if child in written]:
            return working
        time.sleep(0.05)
    raise TimeoutError("no worker of the search has written to its timeline")


def children(pid: int) -> list[int]:
    """The worker processes of a search; a spawned one has a helper of Python's beside it, which is none."""
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in listed if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]
