"""What a program imports: ``load``, and ``hpo.evaluation`` on its own."""

from __future__ import annotations

import subprocess
import sys

import pytest
from PIL import Image

from hpo import load
from hpo.errors import BundleError


def test_a_bundle_answers_for_paths_bytes_and_images(bundle, drawn):
    path = drawn.posters.paths[0]
    model = load(str(bundle))
    found = model.predict([str(path), path, path.read_bytes(), Image.open(path), "absent.jpg"])
    assert found.rows == (0, 1, 2, 3)
    assert found.probabilities.shape == (4, 3)
    assert set(found.broken) == {4}
    answers = model.answers(found)
    assert answers[4] is None  # an answer for each that was asked for
    assert {answer.labels for answer in answers[:4]} == {answers[0].labels}
    for answer in answers[:4]:
        assert list(answer.probabilities.values()) == pytest.approx(found.probabilities[0].tolist(), abs=1e-5)


def test_a_folder_that_is_no_bundle(tmp_path):
    with pytest.raises(BundleError, match="Expected a bundle"):
        load(tmp_path)


def test_decisions_need_numpy_alone(tmp_path):
    script = """
import sys

class NumPyAlone:
    def find_spec(self, name, path=None, target=None):
        first, _, rest = name.partition(".")
        ours = first == "hpo" and rest.partition(".")[0] in ("", "errors", "escaping", "evaluation")
        if not ours and first not in {"numpy", *sys.stdlib_module_names}:
            raise ImportError(f"{name} is not to be imported")

sys.meta_path.insert(0, NumPyAlone())
import numpy as np
import importlib, pkgutil
import hpo.evaluation
for module in pkgutil.iter_modules(hpo.evaluation.__path__):
    importlib.import_module(f"hpo.evaluation.{module.name}")
from hpo.evaluation.metrics import score
from hpo.evaluation.thresholds import fit

rng = np.random.default_rng(0)
targets = rng.random((200, 4)) < 0.3
probabilities = np.clip(0.3 + 0.3 * targets + rng.normal(0, 0.2, targets.shape), 0, 1)
thresholds = fit("per_label", probabilities, targets, "f1_macro")
print(score(probabilities, targets, thresholds.values).value("f1_macro"))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert 0 < float(done.stdout) < 1
