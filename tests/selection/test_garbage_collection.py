"""What goes and what stays, in a real study with a real MLflow: rules that meet, and whole searches."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient
from typer.testing import CliRunner

from hpo.cli.app import app
from hpo.errors import DataError, TrackingError
from hpo.selection import garbage_collection as freeing
from hpo.selection.context import StudyContext
from hpo.selection.ensemble import _trained, member_trials
from hpo.selection.garbage_collection import DeletionPlan, collect_garbage, free, free_after_search
from hpo.settings import Paths
from hpo.space.load import load_space
from hpo.study.running_trial import RunningTrial
from hpo.study.study import Study, open_study
from hpo.tracking.artifacts import BUNDLE, ArtifactFiles
from hpo.tracking.registry import Registry
from hpo.tracking.runs import Tracking, open_tracking
from hpo.tracking.trial_run import TrialRun
from hpo.trial.objective import Objective
from hpo.trial.trainer import Trainer
from tests.postgres import free_port
from tests.test_many_workers import wait_until_it_answers

FIGURES = "figures"  # of a trial's run, which are kept


@dataclass
class House:
    """A study with its MLflow, in which every trial that leads is registered."""

    folder: Path
    study: Study
    tracking: Tracking
    runs: list[str] = field(default_factory=list)
    config: dict[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.parent = self.tracking.study_run("s", {}, {}, {}, {})
        self.client = MlflowClient(self.tracking.uri, self.tracking.uri)

    @property
    def spool(self) -> Path:
        return self.folder / "spool"

    def search(self, *values: float, bundles: bool = True) -> None:
        """Run trials of these values, each with its probabilities and its network."""
        left = iter(values)

        def objective(trial: RunningTrial) -> float:
            config = trial.choose().model_dump() | self.config
            run_id = self.tracking.start_trial(self.parent, trial.number, f"#{trial.number}", {}, {})
            trial.note(chosen=config, run_id=run_id, phase="frozen")
            self.runs.append(run_id)
            value = next(left)
            self.keep(run_id, f"{FIGURES}/curve.json", 300)
            if bundles:
                self.keep(run_id, f"{BUNDLE}/bundle.json", 2000)
            best = self.study.best()
            if best is None or value > (best.value or 0):
                self.register(trial.number, run_id, value)
            return value

        self.study.set_budget(len(values), more=True)
        for trial in self.study.run(load_space(Path("default")), objective, lambda: True):
            self.tracking.log_trial(self.study.run_id(trial), TrialRun.of(trial))

    def keep(self, run_id: str, path: str, n_bytes: int) -> None:
        made = self.folder / "made"
        (made / path).parent.mkdir(parents=True)
        (made / path).write_bytes(bytes(n_bytes))
        self.tracking.keep(run_id, made)
        shutil.rmtree(made)

    def register(self, number: int, run_id: str, value: float, bundle: Path | None = None) -> int:
        """As a search does: what was champion becomes the challenger."""
        made = self.folder / "a bundle"
        made.mkdir(exist_ok=True)
        (made / "bundle.json").write_bytes(bytes(2000))
        tags = {"hpo.study": "s", "hpo.value": f"{value}"}
        return self.tracking.registry.register(
            "s", run_id, {number: 1.0}, bundle or made, tags, "# Card", f"{value}; to be confirmed"
        )

    def free(self, *members: int, keep: int = 1, grace_seconds: float = 0, **more: object) -> DeletionPlan:
        return free(
            self.study, self.tracking, self.spool, lambda: members, keep=keep, grace_seconds=grace_seconds, **more
        )

    def versions(self) -> set[int]:
        """The versions that there are, each of which can be loaded."""
        found = {int(each.version): each.run_id for each in self.client.search_model_versions("name = 's'")}
        out = self.folder / "copied"
        out.mkdir(exist_ok=True)
        for number in found:
            copied = self.tracking.registry.download_version("s", "", f"{number}", out)
            assert (copied / "bundle.json").stat().st_size == 2000
        return set(found)

    def files(self) -> list[str]:
        root = self.folder / "artifacts"
        return sorted(f"{path.relative_to(root)}" for path in root.rglob("*") if path.is_file())

    def has(self, number: int, path: str) -> bool:
        return any(f"{self.runs[number]}/artifacts/{path}/" in f"{file}/" for file in self.files())


@pytest.fixture(scope="module")
def empty_mlflow(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("empty")
    open_tracking(f"sqlite:///{folder}/mlflow.db", None)
    return folder / "mlflow.db"


@pytest.fixture
def house(tmp_path, empty_mlflow) -> House:
    shutil.copy(empty_mlflow, tmp_path)
    study = open_study(f"sqlite:///{tmp_path}/optuna.db", "s", tmp_path / "locks", 0, create=True)
    study.bind({}, {"metric": "f1_macro"})
    return House(tmp_path, study, open_tracking(f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "artifacts"))


@pytest.fixture
def far_house(tmp_path, empty_mlflow) -> Iterator[House]:
    """The same with an MLflow server, which alone can reach the artifacts."""
    shutil.copy(empty_mlflow, tmp_path)
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection, connection:
        connection.execute("UPDATE experiments SET artifact_location = 'mlflow-artifacts:/'")
    address, database = f"http://127.0.0.1:{(port := free_port())}", f"sqlite:///{tmp_path}/mlflow.db"
    words = ["server", "--host", "127.0.0.1", "--port", f"{port}", "--workers", "1", "--backend-store-uri", database]
    words += ["--artifacts-destination", f"{tmp_path / 'artifacts'}"]
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "1", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (tmp_path / "mlflow.log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "mlflow", *words],
            env={**os.environ, **quiet},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        wait_until_it_answers(address)
        study = open_study(f"sqlite:///{tmp_path}/optuna.db", "s", tmp_path / "locks", 0, create=True)
        yield House(tmp_path, study, open_tracking(address, None))
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


@pytest.fixture(autouse=True)
def quick_versions(monkeypatch):
    """Versions of two files: to write a whole pyfunc takes seconds, and what is in it is no matter here."""

    def upload(registry: Registry, run_id: str, bundle: Path, folder: str) -> None:
        for part in ("artifacts/bundle", "code"):
            registry._client.log_artifacts(run_id, str(bundle), f"{folder}/{part}")

    monkeypatch.setattr(Registry, "_upload_model", upload)


def test_champion_challenger_best_and_ensemble_keep_their_weights_and_twice_frees_nothing_more(house):
    house.search(0.1, 0.2, 0.3, 0.4, 0.5, 0.2)  # versions 1 to 5, the last two with aliases
    house.client.set_registered_model_alias("s", "mine", "1")
    before = house.files()
    would = house.free(2, 5, dry_run=True)
    assert house.files() == before
    assert house.versions() == {1, 2, 3, 4, 5}
    assert house.free(2, 5) == would
    assert {item.name for item in would.items if item.kind == "version"} == {"version 2"}
    assert house.versions() == {1, 3, 4, 5}
    assert house.tracking.registry.champion("s").version == 5
    assert not house.has(1, "model")
    assert all(house.has(number, f"{FIGURES}/curve.json") for number in range(6))
    assert [house.has(number, BUNDLE) for number in range(6)] == [False] * 5 + [True]  # others have it in a version
    assert len(before) - len(house.files()) == 2 + 5  # of a version, and bundles
    assert house.free(2, 5).items == ()


def test_the_grace_is_kept_and_the_search_itself_has_none(house, monkeypatch):
    house.search(0.1, 0.2, 0.3)
    [note] = house.free(grace_seconds=3600).notes
    assert "4 more are left alone" in note
    assert house.versions() == {1, 2, 3}
    before = frozenset(range(3))
    house.search(0.4, 0.5, 0.6)
    monkeypatch.setattr(freeing, "member_trials", lambda *_: ())
    freed = free_after_search(StudyContext(house.study, house.tracking, None, None), house.spool, before, keep=1)
    assert house.versions() == {1, 2, 3, 5, 6}
    assert {item.name for item in freed.items} == {"version 4", "trial 3", "trial 4", "trial 5"}


def test_by_hand_is_a_tag_or_a_text_of_somebody_else(house):
    house.search(0.1, 0.2, 0.3, 0.4, 0.5, bundles=False)
    house.client.set_model_version_tag("s", "1", "owner", "me")
    house.client.update_model_version("s", "2", "The one in production.")
    house.client.copy_model_version("models:/s/3", "theirs")
    assert house.free().items == ()
    assert house.versions() == {1, 2, 3, 4, 5}


def test_an_alias_that_is_given_in_this_moment_saves_a_version(house, monkeypatch):
    house.search(0.1, 0.2, 0.3, bundles=False)
    delete_version = ArtifactFiles.delete_version

    def slowly(files: ArtifactFiles, model: str, number: int) -> bool:
        house.client.set_registered_model_alias("s", "mine", "1")
        return delete_version(files, model, number)

    monkeypatch.setattr(ArtifactFiles, "delete_version", slowly)
    assert house.free().items == ()
    assert house.versions() == {1, 2, 3}


def test_a_kill_between_a_version_and_its_files_is_mended(house, monkeypatch):
    house.search(0.1, 0.2, 0.3, bundles=False)

    def killed(*_: object) -> None:
        raise TrackingError("gone")

    with monkeypatch.context() as patched:
        patched.setattr(ArtifactFiles, "delete", killed)
        with pytest.raises(TrackingError):
            house.free()
    assert house.versions() == {2, 3}
    assert house.has(0, "model")
    assert [item.kind for item in house.free().items] == ["version files"]
    assert not house.has(0, "model")


def test_a_server_deletes_files_as_well(far_house):
    far_house.search(0.1, 0.2, 0.3, 0.2)
    second = far_house.tracking.start_trial(far_house.parent, 1, "#1", {}, {})
    far_house.keep(second, f"{FIGURES}/curve.json", 300)
    far_house.client.delete_run(second)
    freed = far_house.free()
    assert (freed.n_bytes, len(freed.items)) == (4000 + 4 * 2000 + 300, 6)
    assert far_house.versions() == {2, 3}
    assert not far_house.has(0, "model")
    assert not far_house.has(3, BUNDLE)
    assert all(far_house.has(number, FIGURES) for number in range(4))
    assert far_house.free().items == ()


def test_second_runs_logged_models_and_the_spool_are_freed(house):
    house.search(0.2, 0.1, bundles=False)
    second = house.tracking.start_trial(house.parent, 1, "#1", {}, {})
    house.keep(second, f"{FIGURES}/curve.json", 300)
    house.client.delete_run(second)
    logged = house.client.create_logged_model(house.tracking.experiment_id, "by MLflow", source_run_id=house.runs[0])
    file = house.folder / "artifacts" / "models" / logged.model_id / "artifacts" / "MLmodel"
    file.parent.mkdir(parents=True)
    file.write_bytes(bytes(70))
    for number, n_bytes in ((0, 300), (1, 200)):  # that of trial 1 is not what its run has
        waiting = house.spool / f"{number}" / FIGURES / "curve.json"
        waiting.parent.mkdir(parents=True)
        waiting.write_bytes(bytes(n_bytes))
    freed = house.free()
    found = {(item.kind, item.n_bytes) for item in freed.items}
    assert found == {("deleted run", 300), ("logged model", 70), ("spool", 300)}
    assert not file.exists()
    assert not [name for name in house.files() if second in name]
    assert [folder.name for folder in house.spool.iterdir()] == ["1"]
    assert all(house.has(number, FIGURES) for number in (0, 1))
    assert house.free().items == ()


def test_where_the_ensemble_cannot_be_chosen_weights_stay(house, monkeypatch):
    house.search(0.1, 0.2, 0.3)

    def moved(*_: object) -> None:
        raise DataError("The posters are not there.")

    monkeypatch.setattr(StudyContext, "reopen", moved)
    paths = Paths("", "", house.folder, house.folder / "cache")
    phase = lambda *_: nullcontext(lambda _: None)  # noqa: E731
    freed = collect_garbage(house.study, house.tracking, paths, phase, keep=0, now=True)
    assert "The posters are not there. So it is unknown which" in freed.notes[-1]
    assert house.versions() == {1, 2, 3}
    assert {item.why.partition(" ")[2].partition(" ")[2] for item in freed.items} == {"holds the same network"}


def test_the_command_says_what_and_how_much(house, monkeypatch):
    house.search(0.1, 0.2, 0.3)
    monkeypatch.setattr(StudyContext, "reopen", lambda *_: None)
    monkeypatch.setattr(freeing, "member_trials", lambda *_: ())
    words = ["gc", "--study", "s", "--storage", f"sqlite:///{house.folder}/optuna.db", "--keep", "1",
             "--tracking-uri", house.tracking.uri]  # fmt: skip
    monkeypatch.chdir(house.folder)

    def say(*more: str) -> str:
        done = CliRunner().invoke(app, [*words, *more])
        assert done.exit_code == 0, done.output
        return done.stdout

    account = json.loads(say("--dry-run", "--now", "--json"))
    assert (account["study"], account["dry_run"], account["bytes"]) == ("s", True, 10_000)
    assert [item["kind"] for item in account["items"]] == ["version", "bundle", "bundle", "bundle"]
    assert "4 more are left alone" in " ".join(say().split())
    assert "would free 10 kB" in " ".join(say("--dry-run", "--now").split())
    assert house.versions() == {1, 2, 3}
    assert "freed 10 kB" in " ".join(say("--now").split())
    assert house.versions() == {2, 3}
    assert "nothing to free" in say("--now")


@pytest.fixture
def real(house, parts, source, result, config) -> tuple[House, StudyContext]:
    """Six trials that kept probabilities: the fourth and the fifth are best together."""
    trainer = Trainer(*parts, source, Objective("f1_macro"))
    house.config = config.model_dump()
    house.search(*(0.1 * (n + 1) for n in range(6)), bundles=False)
    rng = np.random.default_rng(0)
    actual = trainer.judged_on.targets
    for number in range(len(house.runs)):
        noise = rng.random(actual.shape) * (0.6 if number in (3, 4) else 1.0)
        table = np.where(actual, 1 - noise, noise).astype(np.float32)
        house.study.predictions.save(number, table, trainer.judged_on)
    return house, StudyContext(house.study, house.tracking, None, trainer)


def test_what_the_ensemble_would_choose_stays_and_is_not_trained_again(real, bundle, monkeypatch):
    house, context = real
    members = {trial.number for trial in member_trials(context)}
    assert members & {3, 4}
    free_after_search(context, house.spool, (), keep=1)
    assert house.versions() == {5, 6} | {number + 1 for number in members}
    assert member_trials(context)[0].number in members

    monkeypatch.setattr(Trainer, "repeat", lambda *_: pytest.fail("it was trained again"))
    run_id = house.runs[5]
    house.tracking._client.log_artifacts(run_id, str(bundle), "model/artifacts/bundle")
    network, probabilities = _trained(house.study.trials()[5], context)
    assert probabilities.shape == context.trainer.judged_on.targets.shape
    assert network.backbones
