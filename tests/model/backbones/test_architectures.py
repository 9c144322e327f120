from __future__ import annotations

import pytest
import torch

from hpo.errors import BackboneError
from hpo.model.backbones.architectures import (
    check_image_size,
    check_known,
    default_image_size,
    find_architecture,
    fused_names,
)


def test_the_native_image_size_is_timms():
    assert default_image_size("test_resnet") == 160
    assert default_image_size("legacy_xception") == 299


@pytest.mark.parametrize(
    "name", ["test_resnet", "resnet50.a1_in1k", "test_resnet+test_vit", "hf-hub:timm/x.y_z", "hf-hub:a/b@main+test_vit"]
)
def test_names_that_may_be_backbones(name):
    check_known(name)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("test_efficientnt", r"got 'test_efficientnt' \(did you mean 'test_efficientnet'\?\)"),
        ("tf_eficientnet_lite0", r"did you mean 'tf_efficientnet_lite0'"),
        ("resnet50.a2_in1k_", r"did you mean 'resnet50.a2_in1k'"),
        ("vgg", "got 'vgg'"),
        ("", "got ''"),
        ("test_resnet+", "got ''"),
        ("test_resnet+nothing", "got 'nothing'"),
        ("hf-hub:no_owner", "got 'hf-hub:no_owner'"),
        ("tf_efficientnet_b0_ns", r"did you mean 'tf_efficientnet_b0'"),  # timm's name of long ago
        ("test_resnet+test_resnet", "which names one twice"),
    ],
)
def test_names_that_are_none(name, said):
    with pytest.raises(BackboneError, match=said):
        check_known(name)


def test_a_fused_name_is_its_parts():
    assert fused_names("test_resnet") == ("test_resnet",)
    assert fused_names("test_resnet+test_vit") == ("test_resnet", "test_vit")
    with pytest.raises(BackboneError, match=r"got 'test_resnet\+test_vit'"):
        find_architecture("test_resnet+test_vit")  # is not one network


@pytest.mark.parametrize(
    "name", ["test_efficientnet", "test_resnet", "test_convnext", "test_vit", "maxvit_tiny_tf_384"]
)
def test_sizes_that_suit_a_network(name):
    check_image_size(name, default_image_size(name))


@pytest.mark.parametrize(
    ("name", "size", "reason"),
    [
        ("test_vit", 100, r"should be divisible by patch size \(16\)"),
        ("maxvit_tiny_tf_384", 100, "must be divisible by window"),
    ],
)
def test_a_size_that_does_not_is_refused_before_there_are_weights(name, size, reason):
    with pytest.raises(BackboneError, match=rf"image_size that {name} can take, got {size} px \(.*{reason}.*native"):
        check_image_size(name, size)


def test_a_skeleton_has_names_and_shapes_and_no_memory():
    skeleton = find_architecture("test_vit").skeleton(64)
    assert {tensor.device.type for tensor in skeleton.state_dict().values()} == {"meta"}
    assert skeleton.pos_embed.shape == (1, 4 * 4 + 1, 64)
    assert torch.zeros(1).device.type == "cpu"


def test_what_a_bundle_recorded_counts_more_than_what_timm_says_today():
    recorded = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "architecture": "test_resnet"}
    assert find_architecture("test_resnet", recorded).config["mean"] == (0.1, 0.2, 0.3)
    from_hub = find_architecture("hf-hub:somebody/renamed", {**recorded, "arguments": {"stem_width": 8}})
    assert (from_hub.registered, from_hub.config["std"]) == ("test_resnet", (0.4, 0.5, 0.6))
    assert from_hub.arguments == {"stem_width": 8}
