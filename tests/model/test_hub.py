from __future__ import annotations

import json
import socket
import time
from pathlib import Path

import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from hpo.errors import BackboneError
from hpo.model import hub
from hpo.model.backbones import check_weights, default_image_size, load_backbone

REPOSITORY = "hf-hub:somebody/posters"


@pytest.fixture(autouse=True)
def empty_cache(monkeypatch, tmp_path) -> Path:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)  # as read before; put back afterwards
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    hub.load_hub_config.cache_clear()
    return tmp_path


@pytest.fixture
def offline(monkeypatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture
def nobody_there(monkeypatch) -> int:
    """A hub at an address where nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return port


def cache_repository(folder: Path) -> torch.nn.Module:
    """Lay out what an earlier download of REPOSITORY left behind."""
    snapshot = folder / "hub" / "models--somebody--posters" / "snapshots" / "0123abc"
    snapshot.mkdir(parents=True)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text(snapshot.name)
    network = timm.create_model("test_vit", num_classes=5, init_values=0.1, img_size=96)
    save_file(network.state_dict(), snapshot / "model.safetensors")
    config = {
        "architecture": "test_vit",
        "num_classes": 5,
        "model_args": {"init_values": 0.1},
        "pretrained_cfg": {
            "input_size": [3, 96, 96], "mean": [0.1, 0.2, 0.3], "std": [0.5, 0.5, 0.5], "interpolation": "bilinear",
            "crop_pct": 1.0, "crop_mode": "squash", "fixed_input_size": True, "num_classes": 5, "classifier": "head",
        },
    }  # fmt: skip
    (snapshot / "config.json").write_text(json.dumps(config))
    return network


@pytest.mark.parametrize("source", ["auto", "hub"])
@pytest.mark.parametrize(("name", "host"), [("test_resnet", "huggingface.co"), ("legacy_xception", "github.com")])
def test_offline_is_said_at_once_with_the_right_host_and_the_cure(offline, name, host, source):
    started = time.perf_counter()
    with pytest.raises(BackboneError, match=rf"weights of {name} from {host}, which HF_HUB_OFFLINE.*go online.*lite0"):
        check_weights(name, {name: source})
    with pytest.raises(BackboneError, match=f"from {host}"):
        load_backbone(name, 96, source)
    assert time.perf_counter() - started < 2


def test_a_host_that_does_not_answer_is_named_at_once(nobody_there):
    started = time.perf_counter()
    with pytest.raises(BackboneError, match=r"weights of test_resnet from 127\.0\.0\.1, which does not answer"):
        check_weights("test_resnet", {})
    with pytest.raises(BackboneError, match=r"hf-hub:somebody/posters from 127\.0\.0\.1, which does not answer"):
        default_image_size(REPOSITORY)
    assert time.perf_counter() - started < 2


def test_an_answer_that_is_no_download_is_told(monkeypatch, nobody_there):
    with socket.socket() as listening:  # takes connections, and never says a word
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        assert hub.answers(address)
    with pytest.raises(BackboneError, match=r"which failed \(refused\)"), hub.Download("x", address, True).running():
        raise OSError("refused")


def test_a_silent_network_has_a_deadline(monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(hub, "_DEADLINE_SECONDS", 0.2)
    monkeypatch.setattr(socket, "create_connection", lambda *_: time.sleep(2) or socket.socket())
    started = time.perf_counter()
    assert not hub.answers("https://silent.invalid")
    assert time.perf_counter() - started < 1


def test_a_model_without_pretrained_weights_says_so(offline):
    with pytest.raises(BackboneError, match=r"got coatnet_0_224, for which timm knows none: name a weights file"):
        check_weights("coatnet_0_224", {})


@pytest.mark.parametrize("cut_off", ["offline", "nobody_there"])
def test_what_was_downloaded_before_needs_no_network(empty_cache, request, cut_off):
    request.getfixturevalue(cut_off)
    network = cache_repository(empty_cache)
    check_weights(REPOSITORY, {})
    assert default_image_size(REPOSITORY) == 96
    backbone = load_backbone(REPOSITORY, 96)
    assert torch.equal(backbone.network.pos_embed, network.pos_embed)
    assert torch.equal(backbone.network.blocks[0].ls1.gamma, torch.full((64,), 0.1))  # as the configuration's arguments
    described = backbone.preprocessing("native")
    assert (described["architecture"], described["arguments"]) == ("test_vit", {"init_values": 0.1})
    assert (described["fit"], described["interpolation"], described["mean"]) == ("squash", "bilinear", [0.1, 0.2, 0.3])
    assert constants.HF_HUB_OFFLINE is False


def test_weights_from_a_plain_address_are_looked_for_where_torch_keeps_them(empty_cache, offline):
    file = empty_cache / "torch" / "hub" / "checkpoints" / "xception-43020ad28.pth"
    file.parent.mkdir(parents=True)
    file.touch()
    check_weights("legacy_xception", {})
