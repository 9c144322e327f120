from __future__ import annotations

import pytest

from hpo.bundle.card import model_card
from hpo.decision.metrics import constant_baselines
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
    ],
)
def test_the_card_says_how_a_poster_becomes_a_square(judged, fit, said):
    card = model_card(judged.model_copy(update={"preprocessing": {**judged.preprocessing, "fit": fit}}))
    assert said in card
    assert "| fit | squash |" in model_card(judged)  # among the hyperparameters
