"""A bundle as an ONNX graph: the same answers, without PyTorch."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hpo.bundle.bundle import load_classifier
from hpo.bundle.description import Description, Graph, file_hash, load_description, write_description
from hpo.bundle.model_card import SNIPPET, model_card
from hpo.bundle.onnx import LARGEST_DIFFERENCE, write_graph
from hpo.bundle.predictor import Predictor
from hpo.errors import BundleError

BLOCKED = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "torchvision", "timm", "optuna", "mlflow", "pandas"):
            raise ImportError(f"{name} is not to be imported")

sys.meta_path.insert(0, Blocked())
from hpo.cli.app import main
main()
"""


def with_graph(bundle: Path, **how: object) -> Description:
    """Export the bundle as a graph and let its description say so."""
    description = load_description(bundle)
    graph = write_graph(bundle, description, how.pop("precision", "fp32"), **how)  # type: ignore[arg-type]
    write_description(bundle, description.model_copy(update={"onnx": graph}))
    return load_description(bundle)


def test_the_graph_answers_as_the_network_does(bundle, drawn):
    paths = drawn.posters.paths[:20]
    described = with_graph(bundle, posters=paths, targets=drawn.targets[:20])
    graph = described.onnx
    assert (graph.precision, graph.n_posters, graph.same_labels) == ("fp32", 20, 1.0)
    assert graph.largest_difference <= LARGEST_DIFFERENCE
    assert graph.cost == 0.0
    by_graph, by_torch = Predictor.load(bundle), Predictor.load(bundle, graph=False)
    assert isinstance(by_graph.network, Path)
    for few in (paths[:1], paths):  # any number at once
        np.testing.assert_allclose(by_graph.probabilities(few), by_torch.probabilities(few), atol=LARGEST_DIFFERENCE)


def test_half_the_file_with_what_it_costs(bundle, drawn):
    with_graph(bundle, posters=drawn.posters.paths[:20])
    whole = (bundle / "model.onnx").stat().st_size
    described = with_graph(bundle, precision="fp16", posters=drawn.posters.paths[:20], targets=drawn.targets[:20])
    assert (bundle / "model.onnx").stat().st_size < 0.7 * whole
    assert described.onnx.cost is not None
    np.testing.assert_allclose(
        Predictor.load(bundle).probabilities(drawn.posters.paths[:3]),
        Predictor.load(bundle, graph=False).probabilities(drawn.posters.paths[:3]),
        atol=0.05,
    )


def test_without_posters_it_is_compared_on_noise(bundle):
    assert with_graph(bundle).onnx.n_posters > 0


def test_a_graph_that_answers_otherwise_is_refused(bundle, drawn, monkeypatch):
    def other(folder, described):
        network = load_classifier(folder, described)
        with torch.no_grad():
            next(iter(network.head.parameters())).add_(1.0)
        return network

    from hpo.bundle import onnx as graph
    from hpo.model.backbones.inference import export

    monkeypatch.setattr(
        graph, "export", lambda _, sizes, file: export(other(bundle, load_description(bundle)), sizes, file)
    )
    with pytest.raises(BundleError, match="Expected an ONNX graph that answers as PyTorch does"):
        write_graph(bundle, load_description(bundle), "fp32", drawn.posters.paths[:5])
    assert not (bundle / "model.onnx").exists()


@pytest.mark.parametrize("damage", [Path.unlink, lambda file: file.write_bytes(b"another")])
def test_a_graph_that_is_not_the_one_exported_is_refused(bundle, damage):
    with_graph(bundle)
    damage(bundle / "model.onnx")
    with pytest.raises(BundleError, match="is not the file that was exported"):
        Predictor.load(bundle)


def test_fused_backbones_are_one_graph(fused_bundle, drawn, tmp_path):
    fused = Path(shutil.copytree(fused_bundle, tmp_path / "fused"))
    paths = drawn.posters.paths[:9]
    assert with_graph(fused, posters=paths).onnx.largest_difference <= LARGEST_DIFFERENCE
    by_graph, by_torch = Predictor.load(fused), Predictor.load(fused, graph=False)
    assert isinstance(by_graph.network, Path)
    np.testing.assert_allclose(by_graph.probabilities(paths), by_torch.probabilities(paths), atol=LARGEST_DIFFERENCE)


def test_the_command_line_answers_without_pytorch(bundle, drawn, tmp_path):
    with_graph(bundle)
    posters = [str(path) for path in drawn.posters.paths[:3]]
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED, "predict", str(bundle), *posters, "--json"],
        capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["predictions"]
    expected = Predictor.load(bundle, graph=False).probabilities(drawn.posters.paths[:3])
    assert [list(each["probabilities"].values()) for each in found] == [
        pytest.approx(row, abs=LARGEST_DIFFERENCE) for row in expected
    ]


@pytest.mark.parametrize("of", ["one backbone", "fused backbones", "at least two labels"])
def test_twenty_lines_of_the_card_do_the_same(bundle, fused_bundle, drawn, tmp_path, of):
    if of == "fused backbones":
        bundle = Path(shutil.copytree(fused_bundle, tmp_path / "fused"))
    described = with_graph(bundle)
    if of == "at least two labels":
        write_description(bundle, described.model_copy(update={"min_labels": 2, "thresholds": (0.99,) * 3}))
    card = model_card(described.model_copy(update={"metrics": {**described.metrics, "val": None} | CARD_METRICS}))
    assert SNIPPET in card
    script = tmp_path / "predict.py"
    script.write_text(SNIPPET)
    for name in ("bundle.json", "model.onnx"):
        shutil.copy(bundle / name, tmp_path)
    poster = drawn.posters.paths[0]
    done = subprocess.run([sys.executable, script, poster], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    [answer] = Predictor.load(bundle).answers(Predictor.load(bundle).predict([poster]))
    assert {label: float(p) for label, p, _ in rows} == pytest.approx(answer.probabilities, abs=2e-4)
    assert tuple(label for label, _, yes in rows if yes == "yes") == answer.labels


SCORES = {"n_posters": 5, "per_label": {}, **dict.fromkeys(("f1_macro", "f1_micro", "f1_samples", "mean_ap"), 0.5)}
CARD_METRICS = {
    "val": {**SCORES, "ci95": dict.fromkeys(("f1_macro", "f1_micro", "f1_samples", "mean_ap"), (0.4, 0.6)),
            "per_label": {"Warm": {"f1": 0.5}}},
    "baselines": {},
}  # fmt: skip


def plant(bundle: Path, nodes, weights=(), output=1, functions=()) -> None:
    """Put a foreign graph into the bundle, with a description that fits it."""
    from onnx import helper

    images = helper.make_tensor_value_info("images_0", 2, ["b", None, None, 3])
    rows = helper.make_tensor_value_info("rows", output, None)
    graph = helper.make_graph(nodes, "g", [images], [rows], list(weights))
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8, functions=list(functions)
    )
    (bundle / "model.onnx").write_bytes(model.SerializeToString())
    told = Graph(precision="fp32", sha256=file_hash(bundle / "model.onnx"), n_posters=1,
                 largest_difference=0.0, same_labels=1.0)  # fmt: skip
    write_description(bundle, load_description(bundle).model_copy(update={"onnx": told}))


def endless_loop():
    from onnx import helper

    body = helper.make_graph(
        [helper.make_node("Identity", ["yes"], ["again"])],
        "body",
        [helper.make_tensor_value_info("i", 7, []), helper.make_tensor_value_info("yes", 9, [])],
        [helper.make_tensor_value_info("again", 9, [])],
    )
    return [helper.make_node("Loop", ["", "true"], [], body=body)]


def test_a5_a_graph_that_would_never_end_is_refused(bundle):
    plant(bundle, endless_loop())
    with pytest.raises(BundleError, match=r"holds the operator 'Loop', which no export writes"):
        Predictor.load(bundle)


@pytest.mark.parametrize("operator", ["If", "Scan", "SequenceMap", "StringNormalizer", "com.microsoft.Attention"])
def test_a5_operators_that_no_export_writes_are_refused(bundle, operator):
    from onnx import helper

    domain, _, name = operator.rpartition(".")
    plant(bundle, [helper.make_node(name, ["images_0"], ["rows"], domain=domain)])
    with pytest.raises(BundleError, match="which no export writes"):
        Predictor.load(bundle)


def test_a5_functions_and_graphs_within_are_refused(bundle):
    from onnx import helper

    loop = helper.make_function("mine", "F", ["x"], ["y"], endless_loop(), [helper.make_opsetid("", 13)])
    plant(bundle, [helper.make_node("Identity", ["images_0"], ["rows"])], functions=[loop])
    with pytest.raises(BundleError, match="functions"):
        Predictor.load(bundle)
    node = helper.make_node("Identity", ["images_0"], ["rows"], body=helper.make_graph(endless_loop(), "g", [], []))
    plant(bundle, [node])
    with pytest.raises(BundleError, match="a graph within"):
        Predictor.load(bundle)


def test_a5_a_graph_that_answers_with_text_is_refused(bundle):
    from onnx import helper

    texts = helper.make_tensor("texts", 8, [1, 3], [b"a", b"b", b"c"])
    plant(bundle, [helper.make_node("Identity", ["texts"], ["rows"])], [texts], output=8)
    with pytest.raises(BundleError, match="it holds text"):
        Predictor.load(bundle)
    plant(bundle, [helper.make_node("Cast", ["images_0"], ["rows"], to=8)], output=8)
    with pytest.raises(BundleError, match="is not a graph of this bundle that can be run"):
        Predictor.load(bundle).predict(Image.new("RGB", (64, 64)))


def test_a5_a_graph_that_asks_for_a_terabyte_is_refused(bundle):
    from onnx import helper

    shape = helper.make_tensor("shape", 7, [2], [2**20, 2**20])
    plant(bundle, [helper.make_node("ConstantOfShape", ["shape"], ["rows"])], [shape])
    with pytest.raises(BundleError, match="asks for more than"):
        Predictor.load(bundle)


def test_a5_a_graph_of_other_answers_for_many_posters_is_one_sentence(bundle, drawn):
    from onnx import helper

    row = helper.make_tensor("row", 1, [1, 3], [0.0] * 3)
    plant(bundle, [helper.make_node("Identity", ["row"], ["rows"])], [row])
    with pytest.raises(BundleError, match=r"Expected \(4, 3\) numbers of this bundle's network, got"):
        Predictor.load(bundle).predict(drawn.posters.paths[:4])


@pytest.mark.parametrize("within", ["initializer", "constant"])
def test_a18_weights_under_the_current_folder_are_not_read(bundle, tmp_path, monkeypatch, within):
    from onnx import TensorProto, helper

    (tmp_path / "secret.bin").write_bytes(np.arange(3, dtype=np.float32).tobytes())
    monkeypatch.chdir(tmp_path)
    weight = TensorProto(name="w", data_type=1, dims=[1, 3], data_location=TensorProto.EXTERNAL)
    weight.external_data.add(key="location", value="secret.bin")
    if within == "initializer":
        plant(bundle, [helper.make_node("Identity", ["w"], ["rows"])], [weight])
    else:
        plant(bundle, [helper.make_node("Constant", [], ["rows"], value=weight)])
    with pytest.raises(BundleError, match="it keeps weights in another file"):
        Predictor.load(bundle)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("name", ["model.onnx", "model.safetensors", "bundle.json"])
def test_a9_a_file_without_permission_is_one_sentence(bundle, name):
    with_graph(bundle)
    (bundle / name).chmod(0)
    with pytest.raises(BundleError, match="Permission denied"):
        Predictor.load(bundle, graph=name != "model.safetensors")


def test_a_graph_of_something_else_is_refused_and_no_file_beside_it_is_read(bundle):
    from onnx import TensorProto, helper

    def claim(n_labels: int, location: str | None = None) -> None:
        weight = TensorProto(name="w", data_type=1, dims=[1, n_labels])
        if location is None:
            weight.float_data.extend([0.0] * n_labels)
        else:
            weight.data_location = TensorProto.EXTERNAL
            weight.external_data.add(key="location", value=location)
        nodes = [
            helper.make_node("Cast", ["images_0"], ["pixels"], to=1),
            helper.make_node("ReduceMean", ["pixels"], ["mean"], axes=[1, 2, 3], keepdims=0),
            helper.make_node("Reshape", ["mean", "shape"], ["column"]),
            helper.make_node("Add", ["column", "w"], ["rows"]),
        ]
        shape = helper.make_tensor("shape", TensorProto.INT64, [2], [-1, 1])
        images = helper.make_tensor_value_info("images_0", TensorProto.UINT8, ["b", None, None, 3])
        rows = helper.make_tensor_value_info("rows", TensorProto.FLOAT, None)
        graph = helper.make_graph(nodes, "g", [images], [rows], [weight, shape])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        (bundle / "model.onnx").write_bytes(model.SerializeToString())
        described = {"precision": "fp32", "sha256": file_hash(bundle / "model.onnx"), "n_posters": 1}
        told = Graph.model_validate({**described, "largest_difference": 0.0, "same_labels": 1.0})
        write_description(bundle, load_description(bundle).model_copy(update={"onnx": told}))

    poster = Image.new("RGB", (64, 64))
    (bundle / "w.bin").write_bytes(np.zeros(3, np.float32).tobytes())
    claim(3)
    assert Predictor.load(bundle).probabilities([poster]).shape == (1, 3)
    for wrong in ((4,), (3, "w.bin"), (3, "../../../../etc/passwd")):
        claim(*wrong)
        with pytest.raises(BundleError, match="is not a graph of this bundle that can be run"):
            Predictor.load(bundle).probabilities([poster])
