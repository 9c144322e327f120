from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from hpo.errors import BackboneError
from hpo.model.backbones.architectures import STATISTICS
from hpo.model.backbones.backbone import Backbone, load_backbone
from hpo.model.backbones.freeze_points import UNFROZEN_STAGES, Stem, Tail, find_freeze_point, stage_modules
from hpo.model.config import Unfreeze

SIZES = {"test_efficientnet": 64, "test_resnet": 64, "test_convnext": 64, "test_vit": 160}
PARTLY = tuple(UNFROZEN_STAGES)


@pytest.fixture(scope="module", params=SIZES)
def backbone(request) -> Backbone:
    return lively(request.param)


def lively(name: str) -> Backbone:
    """Return a backbone whose every branch says something: many networks start with branches of nought."""
    backbone = load_backbone(name, SIZES[name], "random")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in backbone.network.parameters():
            if parameter.ndim == 1:
                parameter.uniform_(0.2, 1, generator=generator)
    return backbone


@pytest.fixture(params=[*PARTLY, "everything"])
def unfreeze(request) -> Unfreeze:
    return request.param


def posters_for(backbone: Backbone, n_posters: int = 4) -> Tensor:
    """Noise, uint8 (N, H, W, 3)."""
    shape = n_posters, backbone.image_size, backbone.image_size, 3
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def cut(backbone: Backbone, unfreeze: Unfreeze, posters: Tensor, stochastic_depth: float = 0.0) -> tuple[Tail, Tensor]:
    """The tail in evaluation mode, and what it is called with."""
    point = find_freeze_point(backbone, unfreeze)
    tail = Tail(backbone, point, stochastic_depth=stochastic_depth).eval()
    if point is None:
        return tail, posters
    with torch.no_grad():
        return tail, Stem(backbone, point)(posters)


def train_one_step(tail: Tail, activations: Tensor) -> None:
    """Move every parameter that a step of training would move."""
    optimizer = torch.optim.SGD([p for p in tail.parameters() if p.requires_grad], lr=0.1)
    features, deepest = tail(activations)
    (features[:, tail.decides].square().mean() + deepest.square().mean()).backward()
    optimizer.step()


def assert_close(got: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


def differs(one: Tensor, other: Tensor) -> bool:
    return float((one - other).abs().max()) > 1e-3 * float(other.abs().max())


def weights_of(backbone: Backbone) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in backbone.network.state_dict().items()}


def behind_the_boundary(backbone: Backbone, unfreeze: Unfreeze) -> set[str]:
    """The parameters that lie behind the last frozen stage, in the order in which timm registers them."""
    names = [name for name, _ in backbone.network.named_parameters()]
    if unfreeze == "everything":
        return set(names)
    boundary = stage_modules(backbone)[-UNFROZEN_STAGES[unfreeze] - 1]
    return set(names[max(at for at, name in enumerate(names) if name.startswith(f"{boundary}.")) + 1 :])


def test_stem_then_tail_is_the_whole_network(backbone, unfreeze):
    posters = posters_for(backbone)
    tail, activations = cut(backbone, unfreeze, posters)
    with torch.inference_mode():
        features, deepest = tail(activations)
        expected_features, expected_deepest = backbone.represent(posters)
    assert features.shape == expected_features.shape
    assert_close(features[:, tail.decides], expected_features[:, tail.decides])
    assert_close(deepest, expected_deepest)


def test_activations_have_the_shape_that_the_cache_is_told(backbone):
    point = find_freeze_point(backbone, "last_stage")
    assert Stem(backbone, point)(posters_for(backbone)).shape == (4, *point.activation_shape)


def test_what_a_tail_does_not_decide_are_the_columns_of_frozen_stages(backbone, unfreeze):
    layout = backbone.layout
    n_frozen = len(layout.stages) - UNFROZEN_STAGES.get(unfreeze, len(layout.stages))
    of_stages = [torch.full((len(STATISTICS) * c,), stage >= n_frozen) for stage, c in enumerate(layout.stages)]
    expected = torch.cat([torch.ones(layout.final, dtype=torch.bool), *of_stages])
    assert torch.equal(Tail(backbone, find_freeze_point(backbone, unfreeze)).decides, expected)


def test_only_what_lies_behind_the_freeze_point_is_trained(backbone, unfreeze):
    tail, activations = cut(backbone, unfreeze, posters_for(backbone))
    before = weights_of(tail.backbone)
    train_one_step(tail, activations)
    unfrozen = {name for name, parameter in tail.backbone.network.named_parameters() if parameter.requires_grad}
    moved = {
        name for name, tensor in tail.backbone.network.state_dict().items() if not torch.equal(tensor, before[name])
    }
    assert unfrozen == behind_the_boundary(backbone, unfreeze)
    assert moved <= unfrozen
    assert unfrozen == {name for stage in tail.stages for name, _ in stage}
    assert len(tail.stages) == UNFROZEN_STAGES.get(unfreeze, len(backbone.layout.stages))
    for stage in tail.stages:
        assert not moved.isdisjoint(name for name, _ in stage)


@pytest.mark.parametrize("name", ["test_efficientnet", "test_resnet"])
def test_statistics_of_batch_norm_stay_or_move(name):
    backbone = load_backbone(name, 64, "random")
    tail, activations = cut(backbone, "last_two_stages", posters_for(backbone))
    before = weights_of(backbone)

    def moved() -> set[str]:
        now = tail.backbone.network.state_dict()
        return {name for name in now if "running" in name and not torch.equal(now[name], before[name])}

    tail.train()
    tail.freeze_batch_norm()
    tail(activations)
    assert not moved()
    tail.train()
    tail(activations)
    behind = tuple(f"{module}." for stage in tail.point.trained for module in stage)
    assert moved() == {name for name in before if "running" in name and name.startswith(behind)}


def test_tuned_is_the_whole_network_with_the_trained_weights(backbone, unfreeze):
    posters, fingerprint = posters_for(backbone), backbone.fingerprint()
    tail, activations = cut(backbone, unfreeze, posters)
    train_one_step(tail, activations)
    tuned = tail.tuned(backbone)
    with torch.inference_mode():
        features, before, whole = tail(activations)[0], backbone(posters), tuned(posters)
    assert_close(whole[:, tail.decides], features[:, tail.decides])
    assert torch.equal(whole[:, ~tail.decides], before[:, ~tail.decides])
    assert differs(whole[:, tail.decides], before[:, tail.decides])
    assert backbone.fingerprint() == fingerprint != tuned.fingerprint()
    assert not any(parameter.requires_grad for parameter in backbone.parameters())


@pytest.mark.parametrize("name", ["test_resnet", "test_convnext", "test_vit"])  # test_efficientnet has no branches
def test_stochastic_depth_is_for_training_alone(name):
    backbone = lively(name)
    plain, activations = cut(backbone, "last_three_stages", posters_for(backbone))
    dropping, _ = cut(backbone, "last_three_stages", posters_for(backbone), stochastic_depth=0.9)
    torch.manual_seed(0)
    with torch.no_grad():
        expected = plain(activations)[0]
        assert torch.equal(dropping(activations)[0], expected)
        for tail in (plain, dropping):
            tail.train()
            tail.freeze_batch_norm()
        assert torch.equal(plain(activations)[0], expected)
        assert differs(dropping(activations)[0][:, plain.decides], expected[:, plain.decides])


def test_a_copy_has_its_own_activations_and_weights(backbone):
    posters = posters_for(backbone)
    tail, activations = cut(backbone, "last_stage", posters)
    copied = copy.deepcopy(tail)
    with torch.inference_mode():
        expected = tail(activations)[0]
        assert torch.equal(copied(activations)[0], expected)
    train_one_step(copied, activations)
    with torch.inference_mode():
        assert torch.equal(tail(activations)[0], expected)
        assert differs(copied(activations)[0], expected)


def test_a_tail_that_is_given_nothing_refuses_to_answer_with_zeros(backbone):
    tail, _ = cut(backbone, "last_stage", posters_for(backbone))
    with pytest.raises(RuntimeError, match="activations only"):
        tail.backbone(posters_for(backbone))


def test_more_stages_than_there_are_is_refused_with_the_cure():
    backbone = load_backbone("levit_128s", 224, "random")
    with pytest.raises(BackboneError, match="levit_128s with 3: write unfreeze: everything"):
        find_freeze_point(backbone, "last_three_stages")


def test_branches_that_run_past_every_cut_are_refused():
    """HRNet keeps four resolutions side by side: no module is the only way through."""
    backbone = load_backbone("hrnet_w18_small", 64, "random")
    with pytest.raises(BackboneError, match="cut in front of its last two stages, got hrnet_w18_small"):
        find_freeze_point(backbone, "last_two_stages")
