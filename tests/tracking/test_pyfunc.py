from __future__ import annotations

import ast
import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from importlib import metadata
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from PIL import Image

from hpo.bundle.bundle import save_bundle
from hpo.bundle.description import Description, Preprocessing
from hpo.bundle.predictor import Predictor
from hpo.data.table.rules import CatalogueRules
from hpo.model.backbones.backbone import load_backbone
from hpo.model.classifier import Classifier
from hpo.model.config import TrialConfig
from hpo.tracking.pyfunc import requirements, save
from hpo.tracking.runs import open_tracking
from tests.postgres import free_port

LABELS = ("Action", "Drama", "Sci-Fi")
ELSEWHERE = """
import json, sys
import mlflow, pandas
from mlflow.pyfunc.scoring_server import invocations

uri, posters = sys.argv[1], json.loads(sys.argv[2])
assert "hpo" not in sys.modules
mlflow.set_tracking_uri(uri)
model = mlflow.pyfunc.load_model("models:/posters@champion", suppress_warnings=True)
asked = json.dumps({"inputs": posters})
schema = model.metadata.get_input_schema()
print(json.dumps({
    "predicted": model.predict(pandas.DataFrame({"image": posters})).to_dict("records"),
    "served": json.loads(invocations(asked, "application/json", model, schema).response)["predictions"],
    "modules": [m.__file__ for name, m in sys.modules.items() if name.partition(".")[0] == "hpo"],
}))
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    config = TrialConfig(
        backbone="test_efficientnet", image_size=64, features="final", hidden_layers=0, dropout=0, input_dropout=0,
        weight_decay=0, label_smoothing=0, focal_gamma=0, focal_alpha=0.5, learning_rate=0.01, schedule="constant",
        batch_size=8, epochs=1, patience=1,
    )  # fmt: skip
    backbone = load_backbone("test_efficientnet", 64, "random")
    torch.manual_seed(0)
    classifier = Classifier.untrained([backbone], len(LABELS), config)
    described = Description(
        label_names=LABELS, thresholds=(0.1, 0.9, 0.9), threshold_strategy="fixed", backbone="test_efficientnet",
        backbone_weights=("random",), preprocessing=(Preprocessing.of(backbone, "squash"),), params=config, metrics={},
        data=CatalogueRules(), fingerprints={}, versions={},
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("bundles") / "trial 7 #1"
    save_bundle(folder, described, classifier, "# A card")
    return folder


@pytest.fixture(scope="module")
def poster(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("posters") / "1.png"
    pixels = np.random.default_rng(0).integers(0, 256, (90, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file)
    return file


@pytest.fixture(scope="module")
def expected(bundle, poster):
    predictor = Predictor.load(bundle)
    return dict(zip(LABELS, predictor.probabilities([poster])[0].tolist(), strict=True))


@pytest.fixture(scope="module")
def saved(bundle, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "model"
    save(bundle, folder)
    return folder


@pytest.fixture(scope="module")
def loaded(saved, tmp_path_factory):
    copy = shutil.copytree(saved, tmp_path_factory.mktemp("loaded") / "model")  # loading leaves bytecode beside it
    return mlflow.pyfunc.load_model(str(copy))


def as_base64(poster: Path) -> str:
    return base64.b64encode(poster.read_bytes()).decode()


@pytest.fixture(scope="module")
def registry(bundle, tmp_path_factory) -> str:
    """The address of an MLflow where the bundle is champion of ``posters``."""
    folder = tmp_path_factory.mktemp("registry")
    tracking = open_tracking(f"sqlite:///{folder}/mlflow.db", folder / "artifacts")
    run_id = tracking.start_trial(tracking.study_run("posters", {}, {}, {}, {}), 7, "#7", {}, {})
    tracking.registry.register("posters", run_id, {7: 1.0}, bundle, {"hpo.value": "0.5"}, "# A card", "the first")
    return tracking.uri


def test_mlflow_serves_the_champion(registry, poster, expected, tmp_path):
    address = f"127.0.0.1:{(port := free_port())}"
    words = ["models", "serve", "-m", "models:/posters@champion", "--env-manager", "local", "--port", f"{port}"]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # MLflow starts uvicorn by its name
    told = {**os.environ, "PATH": path, "MLFLOW_TRACKING_URI": registry, "MLFLOW_DISABLE_TELEMETRY": "1"}
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "mlflow", *words], cwd=tmp_path, env=told, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
    try:
        answer = asked(f"http://{address}/invocations", {"inputs": [as_base64(poster)]}, tmp_path / "log")
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
    assert answer == {"predictions": [{"labels": ["Action"], "probabilities": pytest.approx(expected, abs=1e-6)}]}


def asked(address: str, question: dict, log: Path) -> dict:
    """Ask until the server has started."""
    request = urllib.request.Request(address, json.dumps(question).encode(), {"Content-Type": "application/json"})
    deadline = time.monotonic() + 600
    while True:
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return json.load(response)
        except (urllib.error.URLError, ConnectionError):
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.3)


def test_the_champion_answers_where_hpo_is_not_installed(registry, poster, expected, tmp_path):
    posters = [str(poster), as_base64(poster), f"data:image/png;base64,{as_base64(poster)}"]
    answer = elsewhere(tmp_path, registry, json.dumps(posters))
    assert answer["predicted"] == answer["served"]
    assert [row["labels"] for row in answer["served"]] == [["Action"]] * 3
    assert [row["probabilities"] for row in answer["served"]] == [pytest.approx(expected, abs=1e-6)] * 3
    assert answer["modules"]
    [run_id] = [version.run_id for version in MlflowClient(registry, registry).search_model_versions()]
    shipped = Path(registry[len("sqlite:///") :]).parent / "artifacts" / run_id / "artifacts/model/code/hpo"
    assert all(Path(file).is_relative_to(shipped) for file in answer["modules"])
    assert third_party(answer["modules"]) <= {requirement.partition("==")[0] for requirement in requirements()}


def elsewhere(folder: Path, *arguments: str) -> dict:
    """Run ELSEWHERE in a process that finds installed packages only, and allows no pickle."""
    script = folder / "elsewhere.py"
    script.write_text(ELSEWHERE)
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "MLFLOW"))}
    told = {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false", "MLFLOW_DISABLE_TELEMETRY": "1"}
    done = subprocess.run(
        [sys.executable, "-P", script, *arguments], cwd=folder, env=kept | told, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def third_party(files: list[str]) -> set[str]:
    """Return the distributions that these modules import, wherever in the file."""
    imported = set()
    for node in (node for file in files for node in ast.walk(ast.parse(Path(file).read_text()))):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(str(node.module).partition(".")[0])
    of_timm = {"huggingface_hub"}  # which cannot do without it
    packages = metadata.packages_distributions()
    return {packages[name][0] for name in imported - sys.stdlib_module_names - {"hpo"} - of_timm}


def test_paths_and_bytes_and_text_are_the_same_poster(loaded, poster, expected):
    content, text = poster.read_bytes(), as_base64(poster)
    wrapped = "\n".join(text[start : start + 76] for start in range(0, len(text), 76))
    forms = [str(poster), poster, content, bytearray(content), text, wrapped, f"data:image/png;base64,{text}"]
    asked = [
        forms,
        pd.DataFrame({"image": forms}),
        pd.Series(forms),
        [content, content],
        content,
        {"image": [text, text]},
    ]
    for posters in asked:
        probabilities = loaded.predict(posters)["probabilities"].tolist()
        assert probabilities == [pytest.approx(expected, abs=1e-6)] * len(probabilities)
    assert len(loaded.predict(forms)) == len(forms)
    assert len(loaded.predict({"image": [text, text]})) == 2


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        ("/no/such/poster.png", r"expected the path of a file or base64 text, got '/no/such/poster.png'"),
        ("x" * 9999, r"expected the path of a file or base64 text, got 'x{80}…'"),
        (b"not an image", r"expected an image that can be decoded, got a broken one \(not an image\)"),
        (as_base64, r"expected an image that can be decoded, got a broken one"),
        (3, r"expected a file path, bytes or base64 text, got int"),
        (None, r"expected a file path, bytes or base64 text, got NoneType"),
    ],
)
def test_a_broken_poster_is_named_by_its_row(loaded, poster, bad, told):
    half = as_base64(poster)[:4000]
    with pytest.raises(MlflowException, match=rf"^Row 1: {told}") as error:
        loaded.predict([poster.read_bytes(), half if callable(bad) else bad])
    assert "\n" not in str(error.value)


def test_another_column_is_not_taken_for_the_poster(loaded, poster):
    with pytest.raises(MlflowException, match="first column is 'image', got the column 'title'"):
        loaded.predict(pd.DataFrame({"title": ["Akira"], "image": [str(poster)]}))


def test_a_version_holds_no_pickle_and_pins_what_can_be_installed(saved):
    files = {str(file.relative_to(saved)) for file in saved.rglob("*") if file.is_file()}
    assert not [file for file in files if file.endswith((".pkl", ".pickle", ".pyc", ".pth"))]
    assert {"artifacts/bundle/model.safetensors", "code/hpo/bundle/predictor.py", "input_example.json"} <= files
    assert not [file for file in files if file.startswith(("code/hpo/search", "code/hpo/cli"))]
    pinned = (saved / "requirements.txt").read_text().splitlines()
    assert pinned == requirements()
    assert all("==" in line and "+" not in line for line in pinned)
