from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from timm.data import create_transform

from hpo.data.decoding import Framing, decode
from hpo.errors import BackboneError
from hpo.model.backbones.backbone import Backbone, build_backbone, load_backbone

TEST_MODELS = ("test_efficientnet", "test_resnet", "test_convnext", "test_vit")


def posters(image_size: int, n_posters: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (n_posters, image_size, image_size, 3), dtype=torch.uint8, generator=generator)


def configured(image_size: int = 64, **config: object) -> Backbone:
    """A backbone whose configuration in timm says something else."""
    backbone = load_backbone("test_resnet", image_size, "random")
    architecture = backbone.architecture
    changed = type(architecture)(architecture.name, architecture.registered, {**architecture.config, **config})
    return Backbone(changed, backbone.network, image_size, "test")


# What a backbone computes


@pytest.mark.parametrize("name", TEST_MODELS)
def test_pooled_features_are_those_computed_by_hand(name):
    backbone = load_backbone(name, 64, "random")
    images = posters(64)
    with torch.inference_mode():
        rows, deepest = backbone.represent(images)
        config = timm.get_pretrained_cfg(name)
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (config.mean, config.std))
        pixels = (images.permute(0, 3, 1, 2) / 255 - mean) / std
        last, stages = backbone.network.forward_intermediates(pixels, output_fmt="NCHW")
        by_hand = [backbone.network.forward_head(last, pre_logits=True)]
        for stage in (stage.flatten(2) for stage in stages[-4:]):
            by_hand += [stage.mean(2), stage.max(2).values, (stage.clamp_min(1e-6) ** 3).mean(2) ** (1 / 3)]
        assert torch.equal(backbone(images), rows)
    assert rows.shape == (2, backbone.layout.width)
    assert rows.dtype == torch.float32
    torch.testing.assert_close(rows, torch.cat(by_hand, dim=1), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(deepest, stages[-1], atol=1e-4, rtol=1e-4)
    assert deepest.shape[1] == backbone.layout.map_channels


def test_a_backbone_is_frozen():
    backbone = load_backbone("test_efficientnet", 64, "random")
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    assert not backbone.network.training


def test_the_fingerprint_tells_weights_sizes_and_normalisation_apart():
    torch.manual_seed(1)  # or the network without weights may be drawn as the random ones are
    prints = [
        load_backbone("test_efficientnet", 64, "random").fingerprint(),
        load_backbone("test_efficientnet", 96, "random").fingerprint(),
        build_backbone("test_efficientnet", 64).fingerprint(),
        load_backbone("test_resnet", 64, "random").fingerprint(),
        configured(mean=(0.1, 0.2, 0.3)).fingerprint(),
    ]
    assert len(set(prints)) == 5
    assert configured(crop_pct=0.5).fingerprint() == prints[3]  # which is in the framing's key


@pytest.mark.parametrize("name", ["test_vit"])
def test_a_size_that_a_network_cannot_take_is_one_sentence(name):
    for make in (lambda: load_backbone(name, 100, "random"), lambda: build_backbone(name, 100)):
        with pytest.raises(
            BackboneError, match=r"Expected an image_size that test_vit can take, got 100 px \(.*native"
        ):
            make()


# How a poster becomes its input


@pytest.mark.parametrize("fit", ["squash", "crop", "pad", "native"])
def test_preprocessing_says_how_a_poster_becomes_the_input(fit):
    assert load_backbone("test_resnet", 64, "random").preprocessing(fit) == {
        "image_size": 64,
        "fit": fit,
        "interpolation": "bilinear",
        "crop_share": 0.95 if fit == "native" else 1.0,
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
        "channel_order": "RGB",
        "architecture": "test_resnet",
        "arguments": {},
    }


def test_native_is_what_timm_says_it_is():
    assert configured(crop_pct=0.9).framing("native") == Framing(64, "native", "bilinear", 0.9)
    assert configured(crop_pct=1.0).framing("native") == Framing(64, "crop", "bilinear")
    assert configured(crop_mode="squash").framing("native") == Framing(64, "squash", "bilinear")
    assert configured(crop_mode="border").framing("native") == Framing(64, "pad", "bilinear")


def drawn(width: int, height: int) -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 256, (9, 6, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(300, 450), (451, 299), (200, 200)])
@pytest.mark.parametrize(("image_size", "crop_share"), [(56, 0.875), (72, 0.9), (64, 1.0)])  # with an even margin
def test_native_posters_are_those_of_timms_own_transform(interpolation, size, image_size, crop_share):
    backbone = configured(image_size, interpolation=interpolation, crop_pct=crop_share)
    poster = drawn(*size)
    transform = create_transform(image_size, interpolation=interpolation, crop_pct=crop_share, normalize=False)
    expected = transform(poster).permute(1, 2, 0).numpy().astype(int)
    ours = decode(poster, backbone.framing("native")).astype(int)
    assert np.abs(ours - expected).mean() < 1  # grey levels; timm rounds to whole pixels in between
    assert np.abs(ours - expected).max() < 12


@pytest.mark.parametrize("name", TEST_MODELS)
def test_normalised_pixels_are_those_of_timms_own_transform(name):
    backbone = load_backbone(name, 64, "random")
    config = timm.get_pretrained_cfg(name)
    transform = create_transform(64, mean=config.mean, std=config.std, crop_pct=1.0)
    images = posters(64, 1)
    torch.testing.assert_close(backbone.normalise(images)[0], transform(Image.fromarray(images[0].numpy())))


def test_the_wd_taggers_see_blue_first():
    recorded = {"architecture": "test_vit", "mean": [0.5] * 3, "std": [0.5] * 3}
    tagger = build_backbone("hf-hub:SmilingWolf/wd-vit-tagger-v3", 64, recorded)
    other = build_backbone("hf-hub:somebody/else", 64, recorded)
    images = posters(64)
    assert torch.equal(tagger.normalise(images), other.normalise(images.flip(3)))
    assert tagger.preprocessing()["channel_order"] == "BGR"
