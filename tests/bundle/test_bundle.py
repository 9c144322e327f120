from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from hpo.bundle.bundle import load_classifier, made_of, save_bundle
from hpo.bundle.description import Description, load_description, write_description
from hpo.bundle.predictor import Predictor
from hpo.bundle.trained_on import TRAINED_ON_FILE, read_digests, write_digests
from hpo.data.decoding import Framing, decode
from hpo.errors import BundleError
from hpo.model.classifier import Ensemble
from hpo.trial.objective import Objective
from hpo.trial.trial import TrialInputs, run_trial

WEIGHTS = "model.safetensors"
PARAMS_OF_FORMAT_1 = (
    "backbone", "image_size", "features", "pooling", "hidden_layers", "width", "activation", "norm", "dropout",
    "input_dropout", "weight_decay", "label_smoothing", "focal_gamma", "focal_alpha", "learning_rate", "schedule",
    "batch_size", "epochs", "patience",
)  # fmt: skip


def rewrite(bundle: Path, **changes: object) -> None:
    """Change ``bundle.json`` as a person with an editor would; None takes a key out."""
    file = bundle / "bundle.json"
    content = {**json.loads(file.read_text()), **changes}
    file.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def test_a_bundle_is_json_safetensors_and_a_card(bundle, description):
    assert sorted(file.name for file in bundle.iterdir()) == ["README.md", "bundle.json", "model.safetensors"]
    assert (bundle / "README.md").read_text() == "# A card"
    content = json.loads((bundle / "bundle.json").read_text())
    assert content["format_version"] == 4
    assert content["label_names"] == ["Warm", "Moon", "Bars"]
    assert content["fingerprints"].keys() == {"images", "model"}


def test_every_word_of_the_description_comes_back(bundle, description):
    loaded = load_description(bundle)
    weights = {"model": loaded.fingerprints["model"]}
    assert loaded == description.model_copy(update={"fingerprints": {**description.fingerprints, **weights}})


def test_the_loaded_classifier_answers_exactly_as_the_saved_one(bundle, result):
    loaded = load_classifier(bundle, load_description(bundle))
    images = torch.randint(0, 256, (4, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(loaded(images), result.network(images))


def test_saving_again_replaces_the_bundle_and_keeps_other_files(bundle, result, description):
    (bundle / "notes.txt").touch()  # fault A22
    save_bundle(bundle, description, result.network, card="# Another")
    assert (bundle / "README.md").read_text() == "# Another"
    assert (bundle / "notes.txt").exists()
    assert [path.name for path in bundle.parent.iterdir()] == ["bundle"]


def test_metrics_can_be_added_without_touching_the_weights(bundle, description):
    write_description(bundle, description.model_copy(update={"metrics": {"test": {"f1_macro": 0.5}}}))
    assert load_description(bundle).metrics == {"test": {"f1_macro": 0.5}}
    load_classifier(bundle, load_description(bundle))


@pytest.mark.parametrize("damage", ["altered", "cut short", "missing"])
def test_weights_that_are_not_those_exported_are_refused(bundle, damage):
    weights = bundle / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content[:-8] if damage == "cut short" else content)
    if damage == "missing":
        weights.unlink()
    with pytest.raises(BundleError, match=r"model\.safetensors is missing or is not the file that was exported"):
        Predictor.load(bundle)


def test_weights_of_another_shape_are_refused(bundle):
    rewrite(bundle, params={**load_description(bundle).params.model_dump(), "width": 16})
    with pytest.raises(BundleError, match=r"do not fit timm's 'test_efficientnet' \(.*\): install timm \d"):
        Predictor.load(bundle)


@pytest.mark.parametrize("missing", ["bundle.json", "."])
def test_a_folder_that_is_no_bundle(bundle, missing):
    if missing == ".":
        bundle = bundle / "nowhere"
    else:
        (bundle / missing).unlink()
    with pytest.raises(BundleError, match=r"got .* without a bundle\.json: name a folder that hpo export-best wrote"):
        Predictor.load(bundle)


@pytest.mark.parametrize("version", [5, "one", [1]])
def test_another_format_asks_for_another_hpo(bundle, version):
    rewrite(bundle, format_version=version)
    with pytest.raises(BundleError, match=r"format 4 or older, got .* in .*bundle\.json: upgrade hpo"):
        load_description(bundle)


@pytest.mark.parametrize("text", ["", "{", "\udcff"], ids=["empty", "half", "not UTF-8"])
def test_what_is_not_json_is_refused(bundle, text):
    (bundle / "bundle.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(BundleError, match=r"Expected JSON in .*bundle\.json.*: export the bundle again"):
        load_description(bundle)


@pytest.mark.parametrize("content", ["[]", "null", "{}"])
def test_json_without_a_format_is_refused(bundle, content):
    (bundle / "bundle.json").write_text(content)
    with pytest.raises(BundleError, match="got None"):
        load_description(bundle)


def write_in_format_1(bundle: Path, params: dict[str, object]) -> None:
    """Write ``bundle`` again as hpo did when there was one backbone, and no choice of how posters become squares."""
    weights = {key.replace("backbones.0.", "backbone."): tensor for key, tensor in load_file(bundle / WEIGHTS).items()}
    save_file(weights, bundle / WEIGHTS)
    content = json.loads((bundle / "bundle.json").read_text())
    known = ("image_size", "mean", "std")
    rewrite(
        bundle,
        format_version=1,
        backbone_weights=content["backbone_weights"][0],
        preprocessing={key: content["preprocessing"][0][key] for key in known},
        params=params,
        fingerprints={"model": hashlib.sha256((bundle / WEIGHTS).read_bytes()).hexdigest()},
    )


def test_a_bundle_of_format_1_answers_as_it_did(bundle, description, drawn):
    expected = Predictor.load(bundle).probabilities(drawn.posters.paths[:4])
    write_in_format_1(bundle, {key: getattr(description.params, key) for key in PARAMS_OF_FORMAT_1})
    predictor = Predictor.load(bundle)
    assert np.array_equal(predictor.probabilities(drawn.posters.paths[:4]), expected)
    assert predictor.framings == (Framing(64, "squash", "bicubic"),)
    assert predictor.description.backbone_weights == ("random weights, seed 0",)


def test_a_bundle_of_format_1_that_is_saved_again_is_of_todays(bundle, description, tmp_path):
    write_in_format_1(bundle, {key: getattr(description.params, key) for key in PARAMS_OF_FORMAT_1})
    old = Predictor.load(bundle)
    save_bundle(tmp_path / "again", old.description, old.network, card="")
    assert json.loads((tmp_path / "again" / "bundle.json").read_text())["format_version"] == 4
    Predictor.load(tmp_path / "again")


MISTAKES = {
    "label_names": None,
    "thresholds": [0.5, 0.5],  # for three labels
    "thresholds.1": [0.5, "high", 0.5],
    "preprocessing": [],
    "preprocessing.0.image_size": [{"mean": [0, 0, 0], "std": [1, 1, 1]}],
    "preprocessing.0.fit": [{"image_size": 64, "fit": "stretch", "mean": [0, 0, 0], "std": [1, 1, 1]}],
    "backbone_weights": ["of one", "of another"],
    "params.width": {"width": -3},
    "surprise": 1,
}


@pytest.mark.parametrize("where", MISTAKES)
def test_a_mistake_in_the_json_is_named_where_it_is(bundle, description, where):
    mistake = MISTAKES[where]
    if where == "params.width":
        mistake = {**description.params.model_dump(), **mistake}
    rewrite(bundle, **{where.partition(".")[0]: mistake})
    with pytest.raises(BundleError, match=rf"bundle\.json is not as expected at {where} \(.*\): exp"):
        Predictor.load(bundle)


def test_a_backbone_that_the_installed_timm_does_not_know(bundle):
    rewrite(bundle, backbone="efficientnet_of_2031")
    with pytest.raises(BundleError, match=r"'efficientnet_of_2031'.*install timm \d"):
        Predictor.load(bundle)


DISK_IS_FULL = """
import resource, sys
from pathlib import Path
from hpo.bundle.bundle import load_classifier, save_bundle
from hpo.bundle.description import load_description
from hpo.errors import BundleError

source, target = Path(sys.argv[1]), Path(sys.argv[2])
description = load_description(source)
classifier = load_classifier(source, description)
print(sorted({name.partition(".")[0] for name in sys.modules} & {"optuna", "mlflow", "pandas", "sqlalchemy"}))
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    save_bundle(target, description, classifier, "# A card")
except BundleError as error:
    print(error)
"""


@pytest.fixture(scope="module")
def in_another_process(tmp_path_factory, result, description):
    """The imports of a process that loads a bundle, its words when the disk is full, and what it leaves there."""
    folder = tmp_path_factory.mktemp("bundles")
    save_bundle(folder / "bundle", description, result.network, card="")
    command = [sys.executable, "-c", DISK_IS_FULL, str(folder / "bundle"), str(folder / "copies" / "copy")]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    imports, _, message = finished.stdout.partition("\n")
    return imports, message, folder / "copies"


def test_a_bundle_needs_neither_optuna_nor_mlflow(in_another_process):
    assert in_another_process[0] == "[]"


def test_a_full_disk_is_one_sentence_and_leaves_nothing_behind(in_another_process):
    _, message, folder = in_another_process
    assert message.startswith(f"The bundle could not be written to {folder / 'copy'} (")
    assert message.endswith("--out.\n")
    assert list(folder.iterdir()) == []


def test_members_that_have_tuned_one_backbone_each_travel_together(tmp_path, config, parts, source, description):
    """Two of one name, with other weights: no fusion, which would see the same features twice."""
    update = {"epochs": 1, "unfreeze": "last_stage", "finetune_epochs": 1, "finetune_batch_size": 8}
    tuned = [
        run_trial(config.model_copy(update={**update, "finetune_learning_rate": rate}), TrialInputs(*parts, source,
                  Objective("mean_ap"), 0, epochs={"frozen": 1, "finetune": 1})).classifiers[0]
        for rate in (1e-3, 1e-2)
    ]  # fmt: skip
    network = Ensemble.of([(classifier, 1.0) for classifier in tuned])
    described = Description.model_validate({**description.model_dump(), **made_of(network)})
    assert described.backbones == ("test_efficientnet", "test_efficientnet")
    save_bundle(tmp_path / "both", described, network, "# A card")
    loaded = Predictor.load(tmp_path / "both")
    posters = parts[1].posters.paths[:5]
    seen = [torch.from_numpy(np.stack([decode(path, framing) for path in posters])) for framing in loaded.framings]
    with torch.inference_mode():
        expected = torch.sigmoid(network(*seen)).numpy()
    np.testing.assert_allclose(loaded.probabilities(posters), expected, atol=1e-6)


ATTACKS = {
    "thresholds.0": {"thresholds": [float("nan"), 0.5, 0.5]},
    "thresholds.1": {"thresholds": [0.5, 1.5, 0.5]},
    "label_names": {"label_names": ["A", "A", "B"]},
    "label_names.0": {"label_names": ["", "A", "B"]},
    "min_labels": {"min_labels": 10**9},
    "preprocessing.0.image_size": {"image_size": 10**6},
    "preprocessing.0.std.0": {"std": [0, 0, 0]},
    "preprocessing.0.mean.0": {"mean": [float("inf")] * 3},
    "params.width": {"width": 10**12},
}


@pytest.mark.parametrize("where", ATTACKS)
def test_values_that_make_no_sense_are_refused(bundle, where):
    content = json.loads((bundle / "bundle.json").read_text())
    changes = ATTACKS[where]
    if where.startswith("preprocessing"):
        changes = {"preprocessing": [{**content["preprocessing"][0], **changes}]}
    if where.startswith("params"):
        changes = {"params": {**content["params"], **changes}}
    rewrite(bundle, **changes)
    with pytest.raises(BundleError, match=rf"not as expected at {where} ") as told:
        Predictor.load(bundle)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("architecture", "arguments"),
    [
        (None, {}),
        ("local-dir:/etc", {}),
        ("hf-hub:evil/x", {}),
        ("test_efficientnet", {"checkpoint_path": "/etc/passwd"}),
        ("test_efficientnet", {"pretrained_cfg_overlay": {"file": "/etc/passwd"}}),
        ("test_efficientnet", {"pretrained": True}),
        ("test_vit", {"depth": 10**9}),
    ],
)
def test_nothing_is_fetched_or_read_elsewhere_for_a_network_of_the_hub(bundle, monkeypatch, architecture, arguments):
    monkeypatch.setattr("hpo.model.backbones.architectures.load_hub_config", lambda name: pytest.fail("was asked for"))
    preprocessing = json.loads((bundle / "bundle.json").read_text())["preprocessing"][0]
    told = {**preprocessing, "architecture": architecture, "arguments": arguments}
    rewrite(bundle, backbone="hf-hub:evil/x", preprocessing=[told])
    with pytest.raises(BundleError, match=r"Expected (one of timm's own networks|arguments of a network)"):
        Predictor.load(bundle)


@pytest.mark.parametrize("content", [b"", b"no tensors", (2 * 10**9).to_bytes(8, "little") + b"{}"])
def test_weights_that_are_no_safetensors(bundle, content):
    (bundle / WEIGHTS).write_bytes(content)
    rewrite(bundle, fingerprints={"model": hashlib.sha256(content).hexdigest()})
    with pytest.raises(BundleError, match="do not fit"):
        Predictor.load(bundle)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"format_version": 4, "metrics": ' + "[" * 5000 + "]" * 5000 + "}"])
def test_json_that_is_too_deep(bundle, text):
    (bundle / "bundle.json").write_text(text)
    with pytest.raises(BundleError, match="Expected JSON in"):
        load_description(bundle)


def fits(bundle: Path) -> dict[str, object]:
    return json.loads((bundle / "bundle.json").read_text())


def test_a5_json_of_many_levels_is_refused(bundle):
    rewrite(bundle, metrics={"a": json.loads("[" * 100 + "]" * 100)})
    with pytest.raises(BundleError, match="in one another more than 64 times"):
        load_description(bundle)


HUGE = {
    "one backbone many times": lambda told: {
        "backbone": "+".join(["test_efficientnet"] * 100),
        "backbone_weights": ["random"] * 100,
        "preprocessing": told["preprocessing"] * 100,
    },
    "a giant": lambda told: {"backbone": "vit_giant_patch14_224", "preprocessing": [
        {**told["preprocessing"][0], "image_size": 224}]},
    "a wide head": lambda told: {"params": {**told["params"], "hidden_layers": 3, "width": 8192}},
    "a thousand members": lambda told: {"members": [
        {"weight": 0.001, "inputs": [0], "averages_flips": False,
         "params": {**told["params"], "hidden_layers": 3, "width": 8192}}] * 1000},
    "a network of arguments": lambda told: {"backbone": "hf-hub:a/b", "preprocessing": [
        {**told["preprocessing"][0], "architecture": "test_vit", "arguments": {"depth": 20_000}}]},
    "wide arguments": lambda told: {"backbone": "hf-hub:a/b", "preprocessing": [
        {**told["preprocessing"][0], "architecture": "vit_base_patch16_224", "arguments": {"embed_dim": 19_992}}]},
    "an unknown argument": lambda told: {"backbone": "hf-hub:a/b", "preprocessing": [
        {**told["preprocessing"][0], "architecture": "test_vit", "arguments": {"surprise": 1}}]},
    "an argument of another type": lambda told: {"backbone": "hf-hub:a/b", "preprocessing": [
        {**told["preprocessing"][0], "architecture": "test_vit", "arguments": {"depth": "many", "embed_dim": None}}]},
}  # fmt: skip

IN_LITTLE_MEMORY = """
import resource, sys
from pathlib import Path
from hpo.bundle import bundle as module
from hpo.bundle.description import load_description
from hpo.errors import BundleError

folder = Path(sys.argv[1])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    module.load_classifier(folder, load_description(folder))
except BundleError as error:
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
    print(error)
"""


@pytest.mark.parametrize("what", HUGE)
def test_a5_a_description_of_more_than_the_weights_file_holds_is_refused_before_it_is_built(bundle, what):
    rewrite(bundle, **HUGE[what](fits(bundle)))
    command = [sys.executable, "-c", IN_LITTLE_MEMORY, str(bundle)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    megabytes, _, message = done.stdout.partition("\n")
    assert done.returncode == 0, done.stderr
    assert int(megabytes) < 300
    assert "do not fit timm's" in message
    assert message.count("\n") == 1


@pytest.mark.parametrize("arguments", [{"img_size": 4096}, {"layers": [1] * 2000}, {"a": [[[[[[[[[1]]]]]]]]]}])
def test_a5_arguments_of_an_unusual_size_are_refused(bundle, arguments):
    told = {**fits(bundle)["preprocessing"][0], "architecture": "test_vit", "arguments": arguments}
    rewrite(bundle, backbone="hf-hub:a/b", preprocessing=[told])
    with pytest.raises(BundleError, match=r"not as expected at preprocessing\.0\.arguments"):
        load_description(bundle)


def test_a5_weights_of_a_long_header_are_refused(bundle):
    header = b" " * (2**24 + 8)
    content = len(header).to_bytes(8, "little") + header
    (bundle / WEIGHTS).write_bytes(content)
    rewrite(bundle, fingerprints={"model": hashlib.sha256(content).hexdigest()})
    with pytest.raises(BundleError, match="a header of 16,777,224 bytes"):
        Predictor.load(bundle)


def test_a5_weights_larger_than_memory_are_not_read(bundle):
    with (bundle / WEIGHTS).open("r+b") as file:
        file.truncate(2**43)  # sparse: it takes nothing on disk
    with pytest.raises(BundleError, match="half of this machine's memory, got 8796"):
        Predictor.load(bundle)


@pytest.mark.parametrize("version", [True, 0, -1])
def test_a_format_that_never_was(bundle, version):
    rewrite(bundle, format_version=version)
    with pytest.raises(BundleError, match="format 4 or older"):
        load_description(bundle)


def test_a_description_that_never_ends_is_not_read(bundle):
    (bundle / "bundle.json").unlink()
    (bundle / "bundle.json").symlink_to("/dev/zero")
    with pytest.raises(BundleError, match=r"without a bundle\.json"):
        load_description(bundle)


def test_a_bundle_that_cannot_be_replaced_is_still_there(bundle, result, description, monkeypatch):
    before = (bundle / WEIGHTS).read_bytes()
    rename = Path.rename

    def refuse(path, target):
        if path.name == "bundle" and Path(target) == bundle and path.parent.name.startswith(".bundle-"):
            raise OSError(28, "No space left on device")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(BundleError, match="No space left on device"):
        save_bundle(bundle, description, result.network, "# Another")
    assert (bundle / WEIGHTS).read_bytes() == before
    assert [path.name for path in bundle.parent.iterdir()] == ["bundle"]


@pytest.mark.parametrize("header", ["{'descr': '<u8', (", "{'descr': '<u8'\n  'x'", "((((", "\x00" * 9, "'''", "\\"])
def test_a_header_of_digests_that_is_no_python_is_one_sentence(tmp_path, header):
    """Found by fuzzing: NumPy reads the header as Python, and errors of its tokenizer escaped."""
    write_digests(tmp_path, np.arange(5, dtype=np.uint64))
    text = header.encode()
    (tmp_path / TRAINED_ON_FILE).write_bytes(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text)
    with pytest.raises(BundleError, match="Expected digests of the training posters"):
        read_digests(tmp_path)
