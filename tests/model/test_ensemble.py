from __future__ import annotations

import pytest
import torch

from hpo.model.backbones.inference import onnx_forward
from hpo.model.classifier import Classifier, Ensemble, inputs_of
from hpo.trial.objective import Objective
from hpo.trial.trial import TrialInputs, run_trial


@pytest.fixture(scope="module")
def classifiers(config, parts, source) -> list[Classifier]:
    """Two heads on one frozen backbone, one on another, and one for both sides of posters that are cut differently."""
    changes = (
        {"epochs": 1},
        {"epochs": 1, "features": "final", "hidden_layers": 0},
        {"epochs": 1, "backbone": "test_resnet"},
        {"epochs": 1, "flip": "average", "fit": "crop"},
    )
    trials = [config.model_copy(update=change) for change in changes]
    return [run_trial(trial, TrialInputs(*parts, source, Objective("mean_ap"), 0)).classifiers[0] for trial in trials]


def posters(n: int, n_backbones: int) -> list[torch.Tensor]:
    drawn = torch.Generator().manual_seed(0)
    return [torch.randint(0, 256, (n, 64, 64, 3), dtype=torch.uint8, generator=drawn) for _ in range(n_backbones)]


def test_an_ensemble_is_the_weighted_mean_of_its_members_probabilities(classifiers):
    weights = [3.0, 1.0, 2.0, 2.0]
    ensemble = Ensemble.of(list(zip(classifiers, weights, strict=True)))
    assert [(backbone.name, fit) for backbone, fit in inputs_of(ensemble)] == [
        ("test_efficientnet", "squash"),
        ("test_resnet", "squash"),
        ("test_efficientnet", "crop"),
    ]
    squashed, other, cropped = images = posters(5, 3)
    seen = [squashed, squashed, other, cropped]
    with torch.inference_mode():
        alone = [torch.sigmoid(model(image)) for model, image in zip(classifiers, seen, strict=True)]
        expected = sum(weight / 8 * one for weight, one in zip(weights, alone, strict=True))
        assert torch.allclose(torch.sigmoid(ensemble(*images)), expected, atol=1e-6)
        apart = [torch.sigmoid(model(image)) for (model, _), image in zip(ensemble.members(), seen, strict=True)]
    assert all(torch.equal(one, other) for one, other in zip(apart, alone, strict=True))


def test_flip_averaging_makes_every_member_look_at_both_sides(classifiers):
    members = [(classifiers[0], 1.0), (classifiers[1], 1.0)]
    [image] = posters(4, 1)
    with torch.inference_mode():
        assert not torch.equal(Ensemble.of(members)(image), Ensemble.of(members)(image.flip(2)))
        both = Ensemble.of(members, flip_average=True)
        assert torch.allclose(both(image), both(image.flip(2)), atol=1e-5)


def test_certain_members_have_finite_logits(classifiers):
    with torch.no_grad():
        classifiers[1].head.output.bias.fill_(200.0)
    ensemble = Ensemble.of([(classifiers[1], 1.0)])
    with torch.inference_mode():
        assert torch.isfinite(ensemble(*posters(2, 1))).all()


def test_an_ensemble_runs_in_onnx_runtime_as_in_pytorch(classifiers):
    ensemble = Ensemble.of([(classifiers[0], 1.0), (classifiers[2], 1.0)])
    forward = onnx_forward(ensemble, 64, 64)
    assert forward is not None
    images = posters(3, 2)
    with torch.inference_mode():
        expected = ensemble(*images)
    assert torch.allclose(torch.from_numpy(forward.over([image.numpy() for image in images])), expected, atol=1e-3)
