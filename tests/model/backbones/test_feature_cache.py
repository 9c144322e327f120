from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest
import torch

from hpo.data.decoding import decode
from hpo.data.images import Posters
from hpo.errors import DataError
from hpo.model.backbones.backbone import load_backbone
from hpo.model.backbones.feature_cache import NetworkCache, activation_cache, feature_cache, map_cache
from hpo.model.backbones.freeze_points import Stem, find_freeze_point
from hpo.model.backbones.inference import precision
from hpo.model.backbones.views import FLIP

ALL = slice(None)


@pytest.fixture(scope="module")
def backbone():
    return load_backbone("test_resnet", 64, "random")


def ensured(cache: NetworkCache, posters) -> int:
    """How many posters went through the backbone now."""
    finished: list[int] = []
    cache.ensure(posters, finished.append)
    return sum(finished)


@pytest.mark.parametrize("fit", ["squash", "crop", "pad", "native"])
def test_features_are_those_of_the_backbone_on_each_decoded_poster(tmp_path, drawn, backbone, fit):
    cache = feature_cache(tmp_path, backbone, fit)
    few = drawn.posters.take([5, 0, 3])
    assert cache.missing(few) == 3
    assert ensured(cache, few) == 3
    images = np.stack([decode(path, backbone.framing(fit)) for path in few.paths])
    with torch.inference_mode():
        expected = backbone(torch.from_numpy(images)).numpy()
    tolerance = 1e-4 if precision() == "fp32" else 2e-2
    rows = cache.load(few, ALL)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows, expected, atol=tolerance * np.abs(expected).max())
    assert np.array_equal(cache.load(few, np.array([7, 2])), rows[:, [7, 2]])


def test_each_poster_goes_through_the_backbone_once_ever(tmp_path, drawn, backbone):
    assert ensured(feature_cache(tmp_path, backbone), drawn.posters.take(range(20))) == 20
    reopened = feature_cache(tmp_path, backbone)
    assert reopened.missing(drawn.posters) == 40
    assert ensured(reopened, drawn.posters) == 40
    assert ensured(reopened, drawn.posters) == 0


@pytest.mark.parametrize("changed", ["weights", "size", "architecture", "fit", "decoding"])
def test_other_features_are_kept_apart(tmp_path, drawn, backbone, changed, monkeypatch):
    posters = drawn.posters.take(range(4))
    ensured(feature_cache(tmp_path, backbone), posters)
    other = load_backbone(
        "test_efficientnet" if changed == "architecture" else "test_resnet",
        96 if changed == "size" else 64,
        "random",
    )
    if changed == "weights":
        with torch.no_grad():
            next(other.network.parameters())[0] += 0.001
    if changed == "decoding":
        monkeypatch.setattr("hpo.model.backbones.feature_cache.DECODING_VERSION", -1)
    assert feature_cache(tmp_path, other, "crop" if changed == "fit" else "squash").missing(posters) == 4


def test_two_searches_that_want_the_same_features_compute_them_once(tmp_path, drawn, backbone):
    caches = [feature_cache(tmp_path, backbone) for _ in "12"]
    both_saw_nothing = Barrier(2)

    def ensure(cache: NetworkCache) -> int:
        assert cache.missing(drawn.posters) == 60
        both_saw_nothing.wait()
        return ensured(cache, drawn.posters)

    with ThreadPoolExecutor(2) as pool:
        computed = list(pool.map(ensure, caches))
    assert sorted(computed) == [0, 60]
    assert np.array_equal(caches[0].load(drawn.posters, ALL), caches[1].load(drawn.posters, ALL))


def test_posters_are_decoded_block_by_block_so_that_progress_is_seen_at_once(tmp_path, drawn, backbone, monkeypatch):
    monkeypatch.setattr("hpo.model.backbones.feature_cache._SHARD_POSTERS", 10)
    cache = feature_cache(tmp_path, backbone)
    decoded_by_then: list[int] = []
    cache.ensure(drawn.posters, lambda _: decoded_by_then.append(60 - cache.images.missing(drawn.posters)))
    assert decoded_by_then[0] <= 20  # the block in hand, and the one under way
    assert decoded_by_then[-1] == 60


def test_a_poster_that_has_gone_since_is_named(tmp_path, drawn, backbone):
    gone = Posters((*drawn.posters.paths, tmp_path / "gone.jpg"), (*drawn.posters.digests, bytes(16)))
    with pytest.raises(DataError, match=r"got .*gone\.jpg, which cannot be decoded any more \(no such file"):
        feature_cache(tmp_path, backbone).ensure(gone)


def test_a_cache_folder_that_cannot_be_written_is_a_data_error(tmp_path, backbone):
    (tmp_path / "features").write_text("in the way")
    with pytest.raises(DataError, match="could not be written"):
        feature_cache(tmp_path, backbone)


# Maps, activations and views


def test_maps_and_activations_are_those_of_the_network_in_half_precision(tmp_path, drawn, backbone):
    few = drawn.posters.take([5, 0])
    images = torch.from_numpy(np.stack([decode(path, backbone.framing()) for path in few.paths]))
    point = find_freeze_point(backbone, "last_two_stages")
    with torch.inference_mode():
        expected = backbone.represent(images)[1].numpy(), Stem(backbone, point)(images).numpy()
    caches = map_cache(tmp_path, backbone), activation_cache(tmp_path, backbone, point)
    for cache, rows in zip(caches, expected, strict=True):
        assert ensured(cache, few) == 2
        assert cache.load(few).dtype == np.float16
        np.testing.assert_allclose(cache.load(few), rows, atol=2e-3 * np.abs(rows).max())


def test_each_view_is_kept_apart_and_is_the_backbone_on_that_view(tmp_path, drawn, backbone):
    few = drawn.posters.take(range(4))
    plain, flipped = feature_cache(tmp_path, backbone), feature_cache(tmp_path, backbone, view=FLIP)
    ensured(plain, few)
    assert flipped.missing(few) == 4
    ensured(flipped, few)
    images = np.stack([decode(path, backbone.framing())[:, ::-1] for path in few.paths])
    with torch.inference_mode():
        expected = backbone(torch.from_numpy(images)).numpy()
    tolerance = 1e-4 if precision() == "fp32" else 2e-2
    np.testing.assert_allclose(flipped.load(few), expected, atol=tolerance * np.abs(expected).max())
    assert not np.allclose(flipped.load(few), plain.load(few), atol=1e-3)
