from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from hpo.errors import BackboneError
from hpo.model.backbones import hub
from hpo.model.backbones.backbone import check_image_size, check_weights, default_image_size, load_backbone
from tests.model.hub_server import (
    GATED,
    GATED_WITH_TOKEN,
    MISSING,
    MISSING_WITH_TOKEN,
    NO_FILE,
    NO_REVISION,
    Hub,
    running_hub,
)

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
    """A hub at an address where no server listens."""
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


def forbid_connections(monkeypatch: pytest.MonkeyPatch, but: int = 0) -> None:
    """Fail at any connection after the first few: what is said at once is said without one."""
    connect, left = socket.create_connection, [None] * but

    def connecting(*args: Any) -> socket.socket:
        if not left:
            pytest.fail(f"a connection to {args[0]}")
        left.pop()
        return connect(*args)

    monkeypatch.setattr(socket, "create_connection", connecting)


@pytest.mark.parametrize("source", ["auto", "hub"])
@pytest.mark.parametrize(("name", "host"), [("test_resnet", "huggingface.co"), ("legacy_xception", "github.com")])
def test_offline_is_said_at_once_with_the_right_host_and_the_cure(monkeypatch, offline, name, host, source):
    forbid_connections(monkeypatch)
    with pytest.raises(BackboneError, match=rf"weights of {name} from {host}, which HF_HUB_OFFLINE.*go online.*lite0"):
        check_weights(name, {name: source})
    with pytest.raises(BackboneError, match=f"from {host}"):
        load_backbone(name, 96, source)


def test_a_host_that_does_not_answer_is_named_without_a_request(nobody_there, monkeypatch):
    forbid_connections(monkeypatch, but=1)  # for both backbones: the answer is remembered
    with pytest.raises(BackboneError, match=r"weights of test_resnet from 127\.0\.0\.1, which does not answer"):
        check_weights("test_resnet", {})
    with pytest.raises(BackboneError, match=r"hf-hub:somebody/posters from 127\.0\.0\.1, which does not answer"):
        default_image_size(REPOSITORY)


def test_an_answer_that_is_no_download_is_told(monkeypatch, nobody_there):
    with socket.socket() as listening:  # takes connections, and never says a word
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        assert hub.answers(address)
    with pytest.raises(BackboneError, match=r"which failed \(refused\)"), hub.Download("x", address, True).running():
        raise OSError("refused")


def test_a_silent_network_has_a_deadline(monkeypatch):
    answered = threading.Event()  # never, as long as the question is open
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(hub, "_DEADLINE_SECONDS", 0.2)
    monkeypatch.setattr(socket, "create_connection", lambda *_: answered.wait() and socket.socket())
    assert not hub.answers("https://silent.invalid")
    answered.set()


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


# A hub that answers


@pytest.fixture
def there(monkeypatch) -> Iterator[Hub]:
    with running_hub() as running:
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        monkeypatch.setenv("HF_ENDPOINT", running.address)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        monkeypatch.setattr(constants, "ENDPOINT", running.address)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", running.address + "/{repo_id}/resolve/{revision}/{filename}"
        )
        yield running


def push(hub: Hub, folder: Path, name: str = "somebody/posters", **arguments: Any) -> torch.nn.Module:
    """Upload a network as timm's own push_to_hf_hub does."""
    network = timm.create_model("test_vit", **{"num_classes": 5, "img_size": 96, **arguments})
    timm.models.save_for_hf(network, folder / name, safe_serialization=True)
    hub.repositories[name] = folder / name
    return network


@pytest.mark.parametrize(
    "arguments", [{}, {"init_values": 0.1, "drop_path_rate": 0.1}, {"num_classes": 0}, {"depth": 8}, {"img_size": 160}]
)
def test_g4_what_timm_pushes_today_is_checked_and_loaded(tmp_path, there, arguments):
    network = push(there, tmp_path, **arguments)
    config = json.loads((tmp_path / "somebody/posters/config.json").read_text())
    assert "num_classes" in config["model_args"]
    check_weights(REPOSITORY, {})
    check_image_size(REPOSITORY, 64)
    for image_size in (default_image_size(REPOSITORY), 64):
        backbone = load_backbone(REPOSITORY, image_size)
        assert torch.equal(backbone.network.blocks[0].attn.qkv.weight, network.blocks[0].attn.qkv.weight)
        assert backbone(torch.zeros(1, image_size, image_size, 3, dtype=torch.uint8)).shape == (
            1,
            backbone.layout.width,
        )


@pytest.mark.parametrize(
    "arguments",
    [{"no_such_argument": 1}, {"embed_dim": "wide"}, {"num_heads": 0}, {"depth": None, "mlp_ratio": []}],
    ids=str,
)
def test_g4_a_configuration_that_timm_cannot_build_is_no_matter_of_the_image_size(tmp_path, there, arguments):
    push(there, tmp_path)
    file = tmp_path / "somebody/posters/config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps({**config, "model_args": arguments}))
    with pytest.raises(BackboneError, match=r"^Expected a configuration of hf-hub:somebody/posters that timm .* build"):
        check_weights(REPOSITORY, {})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"architecture": "BertModel"}, "one of timm's own networks for hf-hub:somebody/posters, got 'BertModel'"),
        ({"model_args": {"checkpoint_path": "/etc/passwd"}}, "Expected arguments of a network"),
        ({"model_args": {"depth": 10**9}}, "Expected arguments of a network"),
        ({"model_args": {"in_chans": 1}}, "takes images of 3 channels, got hf-hub:somebody/posters, which takes 1"),
        (None, "whose config.json is of something else"),
    ],
)
def test_g4_a_repository_of_something_else_is_one_sentence(tmp_path, there, change, said):
    push(there, tmp_path)
    file = tmp_path / "somebody/posters/config.json"
    others = {"architectures": ["CLIPModel"], "hidden_size": 512}  # as transformers writes it
    file.write_text(json.dumps(others if change is None else {**json.loads(file.read_text()), **change}))
    with pytest.raises(BackboneError, match=said):
        check_weights(REPOSITORY, {})


TIMMS_OWN = "timm/test_resnet.r160_in1k"


@pytest.mark.parametrize(
    ("answer", "token", "said"),
    [
        (MISSING, "", f"which shows no repository {TIMMS_OWN} to a reader without a token.*set HF_TOKEN"),
        (MISSING_WITH_TOKEN, "hf_mine", f"which shows no repository {TIMMS_OWN} to this token.*correct its name"),
        (GATED, "", rf"{TIMMS_OWN} is gated.*accept its licence at http://127.0.0.1:\d+/{TIMMS_OWN} and set HF_TOKEN"),
        (GATED_WITH_TOKEN, "hf_mine", f"{TIMMS_OWN} is gated.*accept its licence at"),
        (NO_FILE, "", "holds no model.safetensors or pytorch_model.bin"),
        (NO_REVISION, "", "has no such revision"),
        ((500, {}), "", "which failed"),
        ((403, {}), "", "which shows no repository"),
    ],
)
def test_g8_what_a_trial_could_not_download_is_refused_by_the_check(monkeypatch, there, answer, token, said):
    monkeypatch.setenv("HF_TOKEN", token)
    there.refusals[TIMMS_OWN] = answer
    with pytest.raises(BackboneError, match=said) as refused:
        check_weights("test_resnet", {})
    assert "\n" not in str(refused.value)
    assert {asked[2] for asked in there.asked} == {token}
    assert {method for method, *_ in there.asked} == {"HEAD"}
    with pytest.raises(BackboneError, match=said):
        load_backbone("test_resnet", 64)


def test_g8_the_check_asks_once_and_downloads_nothing(tmp_path, there):
    repository = tmp_path / "there"
    repository.mkdir()
    (repository / "model.safetensors").write_bytes(b"0" * 1_000_000)
    there.repositories[TIMMS_OWN] = repository
    check_weights("test_resnet", {})
    assert there.asked == [("HEAD", f"/{TIMMS_OWN}/resolve/main/model.safetensors", "")]


@pytest.mark.parametrize(("answer", "said"), [(MISSING, "shows no repository somebody/posters"), (GATED, "is gated")])
def test_g8_a_repository_is_refused_by_its_configuration(there, answer, said):
    there.refusals["somebody/posters"] = answer
    with pytest.raises(BackboneError, match=said):
        check_weights(REPOSITORY, {})


def test_g8_weights_of_another_network_are_no_matter_of_the_image_size(tmp_path, there):
    push(there, tmp_path, "somebody/larger", embed_dim=128, num_heads=4)
    push(there, tmp_path)
    (tmp_path / "somebody/larger/model.safetensors").rename(tmp_path / "somebody/posters/model.safetensors")
    with pytest.raises(BackboneError, match=r"^Expected weights of hf-hub:somebody/posters .* that fit its network"):
        load_backbone(REPOSITORY, 96)
