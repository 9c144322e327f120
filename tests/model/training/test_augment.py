from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest
from torch import Tensor

from hpo.model.training.augment import ImageAugmentation, add_noise, mix

SIZE_PX = 32
EVERYTHING = {"random_crop": 0.4, "flip": "train", "augment": "rand", "erasing": 0.5}


def augmentation(config, seed: int = 0, **update: object) -> ImageAugmentation:
    return ImageAugmentation.of(config.model_copy(update=update), SIZE_PX, seed)


def same_posters(n_posters: int = 16) -> Tensor:
    """One poster many times: what differs afterwards was drawn for each poster."""
    poster = torch.randint(0, 256, (1, SIZE_PX, SIZE_PX, 3), dtype=torch.uint8, generator=generator())
    return poster.expand(n_posters, -1, -1, -1).contiguous()


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def n_different(images: Tensor) -> int:
    return len(torch.unique(images.flatten(1), dim=0))


def test_nothing_chosen_returns_the_same_object(config):
    images = same_posters()
    assert augmentation(config)(images, step=0) is images


@pytest.mark.parametrize(
    ("update", "at_least"),
    [
        ({"random_crop": 0.4}, 14),
        ({"flip": "train"}, 2),
        ({"augment": "trivial"}, 6),
        ({"augment": "rand"}, 8),
        ({"erasing": 0.9}, 10),
        (EVERYTHING, 15),
    ],
)
def test_each_poster_is_augmented_on_its_own(config, update, at_least):
    images = same_posters()
    augmented = augmentation(config, **update)(images, step=0)
    assert (augmented.shape, augmented.dtype) == (images.shape, torch.uint8)
    assert n_different(augmented) >= at_least
    assert torch.equal(images, same_posters())  # the cache's own rows stay as they were


def test_a_flip_mirrors_about_half_of_the_posters(config):
    images = same_posters(200)
    augmented = augmentation(config, flip="train")(images, step=0)
    mirrored = (augmented == images.flip(2)).flatten(1).all(1)
    untouched = (augmented == images).flatten(1).all(1)
    assert (mirrored | untouched).all()
    assert 70 < mirrored.sum() < 130


@pytest.mark.parametrize("augment", ["trivial", "rand"])
def test_strength_moves_posters_further(config, augment):
    images = same_posters(64)

    def distance(strength: int) -> float:
        augmented = augmentation(config, augment=augment, augment_strength=strength)(images, step=0)
        return float((augmented.float() - images.float()).abs().median())

    assert distance(1) < distance(30)


def test_erasing_paints_a_grey_rectangle_on_a_share_of_the_posters(config):
    images = torch.zeros(200, SIZE_PX, SIZE_PX, 3, dtype=torch.uint8)
    augmented = augmentation(config, erasing=0.3)(images, step=0)
    assert set(augmented.unique().tolist()) == {0, 128}
    assert 35 < augmented.flatten(1).any(1).sum() < 85


def test_the_draws_depend_on_the_seed_and_the_step_alone(config):
    images, first = same_posters(), augmentation(config, **EVERYTHING)
    expected = [first(images, step) for step in range(6)]
    assert n_different(torch.stack(expected)) == 6
    assert not torch.equal(augmentation(config, seed=1, **EVERYTHING)(images, 0), expected[0])
    with ThreadPoolExecutor(3) as pool:
        again = list(pool.map(lambda step: augmentation(config, **EVERYTHING)(images, step), reversed(range(6))))
    assert all(torch.equal(a, b) for a, b in zip(reversed(again), expected, strict=True))


@pytest.mark.parametrize("augment", ["trivial", "rand"])
def test_the_global_generators_are_left_alone(config, augment):
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    augmentation(config, **{**EVERYTHING, "augment": augment})(same_posters(), step=3)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert (np.random.get_state()[1] == numpy_state).all()  # noqa: NPY002


@given(st.floats(0.05, 2), st.integers(0, 1000))
def test_mixup_mixes_inputs_and_targets_by_one_share(alpha, seed):
    identity = torch.eye(6)
    activations = identity[:, :, None, None].expand(-1, -1, 2, 2)
    (features, maps), targets = mix([identity, activations], identity, alpha, generator(seed))
    torch.testing.assert_close(features, targets)
    torch.testing.assert_close(maps, targets[:, :, None, None].expand_as(maps))
    torch.testing.assert_close(targets.sum(1), torch.ones(6))
    torch.testing.assert_close(targets.sum(0), torch.ones(6))  # partners are a permutation
    assert len(targets.round(decimals=4).unique()) <= 4  # 0, λ, 1 - λ, and 1 for who met himself


def test_mixup_draws_from_beta():
    shares, pair = [], torch.eye(2)
    for seed in range(400):
        _, targets = mix([], pair, 0.4, generator(seed))
        shares.append(float(targets[0, 0]))
    mixed = [share for share in shares if share < 1 - 1e-6]  # the others met themselves
    assert kstest(mixed, "beta", args=(0.4, 0.4)).pvalue > 0.001


def test_no_mixup_returns_the_same_objects():
    features, targets = torch.randn(3, 2), torch.eye(3)
    mixed, same_targets = mix([features], targets, 0.0, generator())
    assert mixed[0] is features
    assert same_targets is targets


def test_half_precision_activations_stay_half_when_mixed():
    (mixed,), _ = mix([torch.ones(4, 2, 3, 3, dtype=torch.float16)], torch.eye(4), 0.5, generator())
    torch.testing.assert_close(mixed, torch.ones(4, 2, 3, 3, dtype=torch.float16))


def test_noise_has_the_deviation_asked_for_and_follows_its_generator():
    features = torch.zeros(400, 50)
    noisy = add_noise(features, 0.3, generator())
    assert noisy.std() == pytest.approx(0.3, rel=0.02)
    assert torch.equal(noisy, add_noise(features, 0.3, generator()))
    assert not torch.equal(noisy, add_noise(features, 0.3, generator(1)))
    assert add_noise(features, 0.0, generator()) is features
