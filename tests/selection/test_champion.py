"""Two processes that register at once: the alias ends on the true best, and no version is lost."""

from __future__ import annotations

import multiprocessing
import random
from pathlib import Path

from mlflow import MlflowClient

from hpo.selection.champion import take_lead
from hpo.study.study import open_study
from hpo.tracking.runs import open_tracking

EACH = 50  # registrations of a process: a hundred together
Lead = tuple[float, str]  # value, run


def values_of(worker: int) -> list[float]:
    """Values that mostly rise, so that almost every one leads for a moment."""
    rng = random.Random(worker)
    return [at + rng.random() for at in range(EACH)]


def lead(worker: int, folder: Path) -> list[Lead]:
    """Offer every value; return those that took the lead."""
    study = open_study(f"sqlite:///{folder}/optuna.db", "s", folder / "locks", 0, create=False)
    tracking = open_tracking(f"sqlite:///{folder}/mlflow.db", folder / "artifacts")
    parent = tracking.find_study_run("s")
    assert parent is not None
    led = []
    for at, value in enumerate(values_of(worker)):
        number = 2 * at + worker
        run_id = tracking.start_trial(parent, number, f"#{number}", {}, {})

        def promote(_: object, number: int = number, run_id: str = run_id, value: float = value) -> int:
            tags = {"hpo.value": repr(value), "hpo.data": "d"}
            return tracking.registry.register("s", run_id, {number: 1.0}, folder / "bundle", tags, "", "it leads")

        if take_lead(study, tracking, value, "d", promote):
            led.append((value, run_id))
    return led


def test_a_hundred_registrations_of_two_processes(tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "bundle.json").write_text('{"label_names": ["Drama"]}')
    open_study(f"sqlite:///{tmp_path}/optuna.db", "s", tmp_path / "locks", 0, create=True)
    open_tracking(f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "artifacts").study_run("s", {}, {}, {}, {})
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        led = [pair for pairs in pool.starmap(lead, [(0, tmp_path), (1, tmp_path)]) for pair in pairs]

    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db", f"sqlite:///{tmp_path}/mlflow.db")
    best = max(values_of(0) + values_of(1))
    champion = client.get_model_version_by_alias("s", "champion")
    assert float(champion.tags["hpo.value"]) == best == max(led)[0]
    versions = client.search_model_versions("name = 's'")
    assert {version.run_id for version in versions} == {run_id for _, run_id in led}
    assert len(versions) == len(led) > EACH / 2
    second = sorted(led)[-2][0]
    assert float(client.get_model_version_by_alias("s", "challenger").tags["hpo.value"]) == second
