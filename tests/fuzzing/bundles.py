"""Bundles of a stranger: a small one whose files were changed, with their hashes made to fit."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import onnx
from PIL import Image

from hpo.bundle.bundle import made_of, save_bundle
from hpo.bundle.description import (
    DESCRIPTION_FILE,
    GRAPH_FILE,
    WEIGHTS_FILE,
    Description,
    installed_versions,
    load_description,
    write_description,
)
from hpo.bundle.foreign_graph import OPERATORS
from hpo.bundle.onnx import write_graph
from hpo.bundle.predictor import Predictor
from hpo.bundle.trained_on import TRAINED_ON_FILE, read_digests
from hpo.data.table.rules import CatalogueRules
from hpo.model.backbones.backbone import build_backbone
from hpo.model.classifier import Classifier
from hpo.model.config import TrialConfig
from tests.fuzzing import mutate

_SIZE_PX = 32


def _write(folder: Path) -> None:
    config = TrialConfig(
        **{"backbone": "test_efficientnet", "image_size": _SIZE_PX, "features": "all_stages", "pooling": "avg"},
        **{"hidden_layers": 1, "width": 8, "activation": "relu", "norm": "batch", "dropout": 0.1, "input_dropout": 0.0},
        **{"weight_decay": 0.01, "label_smoothing": 0.0, "focal_gamma": 1.0, "focal_alpha": 0.5, "batch_size": 16},
        **{"learning_rate": 0.005, "schedule": "constant", "epochs": 10, "patience": 5},
    )
    network = Classifier.untrained([build_backbone(config.backbone, _SIZE_PX)], 3, config)
    description = Description(
        label_names=("Warm", "Moon", "Bars"),
        thresholds=(0.5, 0.4, 0.3),
        threshold_strategy="calibrated",
        metrics={"metric": "f1_macro"},
        data=CatalogueRules(),
        fingerprints={},
        versions=installed_versions(),
        **made_of(network),
    )
    save_bundle(folder, description, network, "", np.arange(9, dtype=np.uint64))
    described = load_description(folder)
    write_description(folder, described.model_copy(update={"onnx": write_graph(folder, described, "fp32")}))


def _weights(rng: Random, content: bytes) -> bytes:
    """Change the header of names and shapes, or any byte."""
    if rng.random() < 0.4:
        return mutate.bytes_of(rng, content, header=2000)
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    entry = header[rng.choice(list(header))]
    if rng.random() < 0.5 and "shape" in entry:
        key = rng.choice(("dtype", "shape", "data_offsets"))
        known = {"dtype": ("F16", "I64", "BF16", "F8_E4M3", "BOOL", "X"), "shape": ([2**40], [-1], [0], [])}
        entry[key] = rng.choice((*known.get(key, ()), [0, 2**63], mutate.value(rng)))
    else:
        header = mutate.document(rng, header)
    written = json.dumps(header).encode()
    return len(written).to_bytes(8, "little") + written + content[8 + length :]


def _graph(rng: Random, content: bytes) -> bytes:
    """Change a node or a constant, or any byte."""
    if rng.random() < 0.4:
        return mutate.bytes_of(rng, content)
    model = onnx.load_model_from_string(content)
    graph = model.graph
    for _ in range(rng.randint(1, 2)):
        node, tensor = rng.choice(graph.node), rng.choice(graph.initializer)
        match rng.randrange(7):
            case 0:
                node.op_type = rng.choice(sorted(OPERATORS))
            case 1 if node.input:
                node.input[rng.randrange(len(node.input))] = rng.choice(graph.node).output[0]
            case 2 if node.attribute:
                attribute = rng.choice(node.attribute)
                attribute.i = rng.choice([i for i in mutate.INTEGERS if abs(i) < 2**63])
                attribute.ints[:] = [rng.choice((0, -1, 2, 3, 10**9)) for _ in attribute.ints]
            case 3 if tensor.dims:
                tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice((0, -1, 1, 2**31, 2**62))
            case 4:
                tensor.data_type = rng.randrange(24)
            case 5:
                graph.node.remove(node)
            case _:
                array = onnx.numpy_helper.to_array(tensor)
                replaced = onnx.numpy_helper.from_array(np.full_like(array, rng.choice((0, 1, 100))), tensor.name)
                tensor.CopyFrom(replaced)
    return model.SerializeToString()


def prepare(folder: Path) -> Callable[[Random], object]:
    """Load a bundle whose files were changed, and let it look at a poster."""
    whole, bundle = folder / "whole", folder / "bundle"
    _write(whole)
    shutil.copytree(whole, bundle)
    written: dict[str, Any] = json.loads((whole / DESCRIPTION_FILE).read_text())
    files = {file.name: file.read_bytes() for file in whole.iterdir()}
    poster = Image.new("RGB", (40, 60), "navy")

    def attempt(rng: Random) -> None:
        for name, content in files.items():
            (bundle / name).write_bytes(content)
        changed, use_graph = rng.choice((DESCRIPTION_FILE, DESCRIPTION_FILE, *files)), rng.random() < 0.5
        description = json.loads(json.dumps(written))
        if changed == WEIGHTS_FILE:
            (bundle / changed).write_bytes(content := _weights(rng, files[changed]))
            description["fingerprints"]["model"], use_graph = hashlib.sha256(content).hexdigest(), False
        elif changed == GRAPH_FILE:
            (bundle / changed).write_bytes(content := _graph(rng, files[changed]))
            description["onnx"]["sha256"], use_graph = hashlib.sha256(content).hexdigest(), True
        elif changed == TRAINED_ON_FILE:
            (bundle / changed).write_bytes(mutate.bytes_of(rng, files[changed], header=128))
        elif rng.random() < 0.8:
            description = mutate.document(rng, description)
        text = json.dumps(description).encode()
        if changed == DESCRIPTION_FILE and rng.random() < 0.2:
            text = mutate.bytes_of(rng, text)
        (bundle / DESCRIPTION_FILE).write_bytes(text)
        read_digests(bundle)
        predictor = Predictor.load(bundle, graph=use_graph)
        predicted = predictor.predict([poster])
        cuts = dict(zip(predictor.description.label_names, predictor.description.thresholds, strict=True))
        told = [
            answer and (answer.labels, answer.probabilities, answer.sure(cuts))
            for answer in predictor.answers(predicted)
        ]
        json.dumps(told, allow_nan=False)
        repr(predictor)

    return attempt
