from __future__ import annotations

import pytest

from hpo.bundle.card import model_card
from hpo.decision.baselines import constant_baselines
from hpo.search.describe import measure


@pytest.fixture
def judged(description, result, parts):
    """The description of a bundle with its scores, as a search registers it."""
    train, val = (part.targets for part in parts)
    scores = measure(result.val_probabilities, val, result.judged.thresholds.values, description.label_names)
    metrics = {**description.metrics, "val": scores, "baselines": {"val": constant_baselines(train, val)}}
    return description.model_copy(update={"metrics": metrics})


@pytest.mark.parametrize(
    ("fit", "said"),
    [
        ("squash", "A poster is squashed to 64 × 64 px."),
        ("crop", "A poster is cut to its central square and scaled to 64 × 64 px."),
        ("pad", "A poster is scaled and padded with grey to 64 × 64 px."),
        ("native", "A poster is scaled until its central square, less a margin, is 64 × 64 px."),
    ],
)
def test_the_card_says_how_a_poster_becomes_a_square(judged, fit, said):
    preprocessing = judged.preprocessing[0].model_copy(update={"fit": fit})
    card = model_card(judged.model_copy(update={"preprocessing": (preprocessing,)}))
    assert said in card
    assert "A frozen `test_efficientnet` (random weights, seed 0) under a head" in card
    assert "| fit | squash |" in model_card(judged)  # among the hyperparameters


def test_the_card_names_every_backbone_and_what_of_it_was_trained(judged):
    first = judged.preprocessing[0]
    fused = judged.model_copy(
        update={
            "backbone": "test_efficientnet+test_resnet",
            "backbone_weights": ("hub", "file resnet.pth"),
            "preprocessing": (first, first.model_copy(update={"image_size": 96, "interpolation": "bilinear"})),
            "params": judged.params.model_copy(update={"unfreeze": "last_two_stages"}),
            "metrics": {**judged.metrics, "phase": "finetune"},
        }
    )
    card = model_card(fused)
    assert (
        "A `test_efficientnet` (hub) and a `test_resnet` (file resnet.pth), fine-tuned (last two stages), under a "
        "head that was found by a search for the best f1_macro. A poster is squashed to 64 × 64 px. A poster is "
        "squashed to 96 × 96 px."
    ) in card
    frozen = fused.model_copy(update={"metrics": {**judged.metrics, "phase": "frozen"}})  # phase two made it no better
    assert "A frozen `test_efficientnet` (hub) and a `test_resnet`" in model_card(frozen)
