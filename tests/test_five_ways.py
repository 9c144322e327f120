"""One model, asked in five ways, gives one answer: trial, registered version, bundle, ONNX graph, served version."""

from __future__ import annotations

import base64
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest

from hpo.bundle.predictor import Predictor
from hpo.selection.context import StudyContext
from hpo.settings import Paths
from hpo.study.study import open_study
from hpo.tracking.runs import open_tracking
from tests.postgres import free_port
from tests.test_end_to_end import CommandLine
from tests.test_many_workers import SPACE
from tests.tracking.test_pyfunc import asked

TOLERANCE = 1e-4
Answers = list[tuple[set[str], dict[str, float]]]  # labels and probabilities of each poster


@pytest.fixture(scope="module")
def hpo(tmp_path_factory: pytest.TempPathFactory, shared_data: Path) -> CommandLine:
    """A search of a few hundred real posters, its champion exported with a graph."""
    hpo = CommandLine(tmp_path_factory.mktemp("five"))
    covers = shared_data / "anime-covers"
    pd.read_csv(next(covers.glob("*.csv")), dtype=str).head(300).to_csv(hpo.folder / "some.csv", index=False)
    (hpo.folder / "space.yaml").write_text(SPACE)
    given = ("--data", "some.csv", "--images", str(covers / "images"), "--space", "space.yaml", "--study", "s")
    hpo.ok("search", *given, "--labels", "5", "--folds", "1", "--trials", "3", "--no-confirm")
    hpo.ok("export-best", "--study", "s", "--out", "best", "--onnx")
    return hpo


@contextmanager
def silent(_: str, __: int) -> Iterator[object]:
    yield lambda _: None


def of_the_trial(hpo: CommandLine) -> tuple[list[Path], np.ndarray]:
    """The validation posters, and what the champion's trial said of them while the search ran."""
    mlruns = hpo.folder / "mlruns"
    paths = Paths(f"sqlite:///{mlruns}/optuna.db", f"sqlite:///{mlruns}/mlflow.db", mlruns, hpo.folder / "cache")
    study = open_study(paths.storage, "s", paths.locks, 0, create=False)
    tracking = open_tracking(paths.tracking_uri, paths.artifacts)
    context = StudyContext.reopen(study, tracking, paths, silent)
    champion = tracking.registry.champion("s")
    assert champion is not None
    said = context.probabilities(champion.trial_number)
    assert said is not None
    return list(context.trainer.judged_on.posters.paths), said


@contextmanager
def served(hpo: CommandLine) -> Iterator[str]:
    """The champion behind `mlflow models serve`: its address."""
    address = f"127.0.0.1:{(port := free_port())}"
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # MLflow starts uvicorn by its name
    told = {**hpo.env, "PATH": path, "MLFLOW_TRACKING_URI": f"sqlite:///{hpo.folder}/mlruns/mlflow.db"}
    words = ["models", "serve", "-m", "models:/s@champion", "--env-manager", "local", "--port", f"{port}"]
    with (hpo.folder / "serve.log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "mlflow", *words], cwd=hpo.folder, env=told, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
    try:
        yield f"http://{address}/invocations"
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def of_rows(rows: list[dict]) -> Answers:
    return [(set(row["labels"]), row["probabilities"]) for row in rows]


def of_predictor(predictor: Predictor, posters: list[Path]) -> Answers:
    return [(set(each.labels), each.probabilities) for each in predictor.answers(predictor.predict(posters))]


def test_five_ways_one_answer(hpo: CommandLine) -> None:
    posters, by_trial = of_the_trial(hpo)
    bundle = hpo.folder / "best"
    graph, network = Predictor.load(bundle), Predictor.load(bundle, graph=False)
    assert isinstance(graph.network, Path)
    mlflow.set_tracking_uri(f"sqlite:///{hpo.folder}/mlruns/mlflow.db")
    registered = mlflow.pyfunc.load_model("models:/s@champion")
    frame = pd.DataFrame({"image": [str(poster) for poster in posters]})
    with served(hpo) as address:
        encoded = [base64.b64encode(poster.read_bytes()).decode() for poster in posters]
        by_server = asked(address, {"inputs": encoded}, hpo.folder / "serve.log")["predictions"]
    names = network.description.label_names
    trial = [
        (set(labels), dict(zip(names, row, strict=True)))
        for labels, row in zip(network.labels(by_trial), by_trial.tolist(), strict=True)
    ]
    ways = {
        "registered": of_rows(registered.predict(frame).to_dict("records")),
        "bundle": of_predictor(network, posters),
        "graph": of_predictor(graph, posters),
        "served": of_rows(by_server),
    }
    for way, answers in ways.items():
        for (expected_labels, expected), (labels, probabilities) in zip(trial, answers, strict=True):
            assert probabilities == pytest.approx(expected, abs=TOLERANCE), way
            assert labels == expected_labels, way
