from __future__ import annotations

from contextlib import contextmanager, nullcontext
from itertools import combinations

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from sklearn.metrics import jaccard_score

from hpo.data.dataset import Part
from hpo.data.decoding import Framing
from hpo.data.images import DecodedImages
from hpo.errors import BackboneError
from hpo.evaluation.counts import CountRatio
from hpo.evaluation.metrics import METRICS, macro, predict, score
from hpo.evaluation.thresholds import DEFAULT_STRATEGY, STRATEGIES, fit
from hpo.model.backbones.backbone import load_backbone
from hpo.model.training.checkpoint import Checkpoint, Checkpoints
from hpo.trial.features import FeatureSource, predicted_views, train_views
from hpo.trial.objective import FINETUNE_STEP, Objective
from hpo.trial.trial import EpochReport, TrialInputs, TrialResult, run_trial


def assert_same(one: TrialResult, other: TrialResult) -> None:
    assert np.array_equal(one.val_probabilities, other.val_probabilities)
    assert (one.value, one.n_epochs) == (other.value, other.n_epochs)


def test_the_same_values_and_seed_give_the_same_result(config, parts, source, result):
    assert_same(run_trial(config, TrialInputs(*parts, source, Objective("f1_macro"), seed=0)), result)
    other = run_trial(config, TrialInputs(*parts, source, Objective("f1_macro"), seed=1))
    assert not np.array_equal(other.val_probabilities, result.val_probabilities)


def test_it_learns_what_the_posters_show(result, parts):
    scores = result.judged.scores
    chance = parts[1].targets.mean()  # mean AP of a random order
    assert scores.value("mean_ap") > 0.8 > 1.5 * chance
    assert result.value == scores.value("f1_macro") > 0.7


def test_every_threshold_strategy_is_judged_on_the_best_epoch(result, parts):
    targets = parts[1].targets
    assert tuple(result.strategies) == tuple(STRATEGIES)
    for name, judged in result.strategies.items():
        expected = fit(name, result.val_probabilities, targets, "f1_macro")
        assert np.array_equal(judged.thresholds.values, expected.values)
        assert judged.scores.value("f1_macro") == score(result.val_probabilities, targets, expected.values).value(
            "f1_macro"
        )
    assert result.judged is result.strategies[DEFAULT_STRATEGY]


@pytest.mark.parametrize("metric", METRICS)
def test_the_best_epoch_is_kept_not_the_last(config, parts, source, metric):
    reports: list[EpochReport] = []
    overfits = config.model_copy(update={"epochs": 12, "patience": 12, "learning_rate": 0.05})
    result = run_trial(overfits, TrialInputs(*parts, source, Objective(metric), 0, reports.append))
    values = [report.value for report in reports]
    assert [report.epoch for report in reports] == list(range(1, 13))
    assert result.value == max(values) == result.judged.scores.value(metric)
    assert result.best_epoch == values.index(max(values)) + 1  # the first of equals
    assert result.n_epochs == 12


def test_a_trial_maximises_a_metric_that_was_added_to_the_registry(monkeypatch, config, parts, source):
    jaccard = macro(CountRatio("jaccard", (1, 0, 0), (-1, 1, 1)))
    monkeypatch.setitem(METRICS, jaccard.name, jaccard)
    reports: list[EpochReport] = []
    result = run_trial(config, TrialInputs(*parts, source, Objective("jaccard_macro"), 0, reports.append))
    decided = predict(result.val_probabilities, result.judged.thresholds.values)
    expected = jaccard_score(parts[1].targets, decided, average="macro", zero_division=0)
    assert result.value == max(report.value for report in reports) == pytest.approx(expected)
    assert result.judged.thresholds.metric == "jaccard_macro"


def test_a_trial_ends_when_its_patience_does(config, parts, source):
    impatient = config.model_copy(update={"epochs": 100, "patience": 3, "learning_rate": 0.02})
    result = run_trial(impatient, TrialInputs(*parts, source, Objective("f1_macro"), 0))
    assert result.n_epochs == result.best_epoch + 3 < 100


def test_the_deployable_network_gives_the_probabilities_of_the_best_epoch(tmp_path, result, parts):
    images = DecodedImages(tmp_path, Framing(64))
    images.ensure(parts[1].posters)
    with torch.inference_mode():
        logits = result.network(torch.from_numpy(images.load(parts[1].posters)))
    np.testing.assert_allclose(torch.sigmoid(logits).numpy(), result.val_probabilities, atol=2e-2)


def test_whatever_the_report_raises_stops_the_trial_there(config, parts, source):
    seen: list[int] = []

    def prune(report: EpochReport) -> None:
        seen.append(report.epoch)
        if report.epoch == 2:
            raise StopAsking

    with pytest.raises(StopAsking):
        run_trial(config, TrialInputs(*parts, source, Objective("f1_macro"), 0, prune))
    assert seen == [1, 2]


class StopAsking(Exception):
    """As ``Pruned``."""


# Features


def test_features_are_computed_in_one_phase_and_then_found(tmp_path, config, parts):
    phases: list[tuple[str, int]] = []
    finished: list[int] = []

    @contextmanager
    def phase(name: str, n_posters: int):
        phases.append((name, n_posters))
        yield finished.append

    source = FeatureSource(tmp_path, {"test_resnet": "random"}, phase)
    resnet = config.model_copy(update={"backbone": "test_resnet"})
    first = source.examples(resnet, parts[0], train_views(resnet))
    assert phases == [("features of test_resnet", 40)]
    assert sum(finished) == 40
    both = source.examples(resnet.model_copy(update={"pooling": "avg+max"}), parts[0], train_views(resnet))
    assert len(phases) == 1
    assert both.features.shape == (40, 2 * first.features.shape[1])


def test_each_fit_has_its_own_features_of_one_backbone(source, config, parts):
    fits = [config.model_copy(update={"fit": fit}) for fit in ("squash", "crop", "pad", "native")]
    features = [source.examples(fitted, parts[1], train_views(fitted)).features for fitted in fits]
    assert len({id(source.backbones(fitted)[0]) for fitted in fits}) == 1
    for one, other in combinations(features, 2):
        assert not torch.allclose(one, other, atol=1e-2)


def test_fused_backbones_lie_side_by_side(source, config, parts):
    alone = [config.model_copy(update={"backbone": name}) for name in ("test_efficientnet", "test_resnet")]
    fused = config.model_copy(update={"backbone": "test_efficientnet+test_resnet"})
    features = [source.examples(one, parts[1], train_views(one)).features for one in (*alone, fused)]
    assert torch.equal(torch.cat(features[:2], 1), features[2])


def test_views_lie_one_after_the_other_with_the_predicted_ones_first(source, config, parts):
    seen = config.model_copy(update={"flip": "average", "crops": 2})
    examples = source.examples(seen, parts[1], train_views(seen))
    assert examples.n_views == 4
    predicted = source.examples(seen, parts[1], predicted_views(seen))
    assert torch.equal(examples.first_views(2).features, predicted.features)
    plain = source.examples(config, parts[1], train_views(config))
    assert torch.equal(examples.first_views(1).features, plain.features)


def test_native_is_the_size_that_the_backbone_was_made_for(source, config):
    native, same = (config.model_copy(update={"backbone": "test_resnet", "image_size": px}) for px in ("native", 160))
    assert source.backbones(native)[0].image_size == 160
    assert source.backbones(native)[0] is source.backbones(same)[0]


def test_weights_are_those_that_the_space_names(tmp_path, source, config):
    expected = load_backbone("test_efficientnet", 64, "random").fingerprint()
    assert source.backbones(config)[0].fingerprint() == expected
    with pytest.raises(BackboneError, match="found none"):
        FeatureSource(tmp_path, {"test_efficientnet": "nowhere.pth"}, phase=None).backbones(config)


# Phase two

FINETUNE = {"unfreeze": "last_stage", "finetune_epochs": 3, "finetune_batch_size": 8, "finetune_learning_rate": 3e-3}


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"flip": "average", "mixup": 0.4, "averaging": "ema", "clip_norm": 1.0},
        {"backbone": "test_efficientnet+test_resnet", "averaging": "soup"},
        {"head": "label_query", "norm": "layer"},
        {"unfreeze": "everything", "flip": "train", "random_crop": 0.5},
        {
            "backbone": "test_efficientnet+test_vit",
            "image_size": "native",
            "unfreeze": "everything",
            "random_crop": 0.5,
        },
    ],
)
def test_a_fine_tuned_classifier_predicts_from_posters_what_phase_two_saw(tmp_path, config, parts, source, more):
    tuned = config.model_copy(update={"epochs": 1, "finetune_start": "fresh", **FINETUNE, **more})
    reports: list[EpochReport] = []
    result = run_trial(tuned, TrialInputs(*parts, source, Objective("mean_ap"), 0, reports.append))
    assert [report.phase for report in reports] == ["frozen"] + ["finetune"] * 3
    assert [report.epoch for report in reports] == [1, 2, 3, 4]
    assert reports[1].step == FINETUNE_STEP + 1
    images = [DecodedImages(tmp_path, backbone.framing()) for backbone in source.backbones(tuned)]
    for decoded in images:
        decoded.ensure(parts[1].posters)
    with torch.inference_mode():
        logits = result.network(*(torch.from_numpy(decoded.load(parts[1].posters)) for decoded in images))
    np.testing.assert_allclose(torch.sigmoid(logits).numpy(), result.val_probabilities, atol=2e-3)


def test_phase_two_that_is_worse_leaves_the_model_of_phase_one(config, parts, source):
    broken = config.model_copy(update={**FINETUNE, "finetune_head_learning_rate": 1.0, "finetune_learning_rate": 1.0})
    alone = run_trial(config, TrialInputs(*parts, source, Objective("f1_macro"), 0))
    result = run_trial(broken, TrialInputs(*parts, source, Objective("f1_macro"), 0))
    assert result.value >= alone.value
    if result.phase == "frozen":
        assert np.array_equal(result.val_probabilities, alone.val_probabilities)
        assert result.network.backbones[0].fingerprint() == source.backbones(config)[0].fingerprint()


def test_fine_tuning_leaves_the_backbone_of_other_trials_alone(config, parts, source):
    before = source.backbones(config)[0].fingerprint()
    result = run_trial(
        config.model_copy(update={"epochs": 1, **FINETUNE}), TrialInputs(*parts, source, Objective("mean_ap"), 0)
    )
    assert source.backbones(config)[0].fingerprint() == before
    assert (result.network.backbones[0].fingerprint() != before) == (result.phase == "finetune")


# Checkpoints of phase two


def run_and_tell(tuned, parts, source, folder=None, stop_after: int | None = None, seed=0, metric="mean_ap"):
    """Run a trial, or stop it as Ctrl-C does after so many epochs of both phases; return it and its reports."""
    reports = []

    def report(epoch: EpochReport) -> None:
        reports.append({**vars(epoch), "scores": epoch.scores.headline()})
        if epoch.epoch == stop_after:
            raise KeyboardInterrupt

    try:
        result = run_trial(
            tuned, TrialInputs(*parts, source, Objective(metric), seed, report, checkpoints=Checkpoints(folder))
        )
    except KeyboardInterrupt:
        return None, reports
    return result, reports


@pytest.mark.parametrize(
    "more",
    [
        {"averaging": "none", "unfreeze": "everything", "random_crop": 0.5},
        {"averaging": "ema", "ema_decay": 0.8, "batch_norm": "training"},
        {"averaging": "soup", "flip": "average", "stochastic_depth": 0.2},
    ],
)
def test_a_trial_that_was_stopped_again_and_again_comes_out_the_same(tmp_path, config, parts, source, more):
    update = {"epochs": 2, "dropout": 0.3, "mixup": 0.4, **FINETUNE, **more}
    tuned = config.model_copy(update=update)
    whole, told = run_and_tell(tuned, parts, source)
    for stop_after in (3, 5):  # the first and the last epoch of phase two
        assert run_and_tell(tuned, parts, source, tmp_path, stop_after)[0] is None
    (left,) = tmp_path.iterdir()
    written = left.stat().st_mtime_ns
    again, told_again = run_and_tell(tuned, parts, source, tmp_path)
    assert left.stat().st_mtime_ns == written  # nothing was left to train
    assert_same(again, whole)
    assert (again.phase, again.best_epoch, again.epochs) == (whole.phase, whole.best_epoch, whole.epochs)
    assert again.seconds["finetuning"] > Checkpoint(left).past.seconds > 0  # of the training before the stop
    assert told_again == told  # the epochs before a stop as well, in order
    weights = whole.network.state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in again.network.state_dict().items())


def test_another_trial_does_not_go_on_from_it(tmp_path, config, parts, source):
    tuned = config.model_copy(update={"epochs": 1, **FINETUNE})
    train, val = parts
    run_and_tell(tuned, parts, source, tmp_path, 2)
    run_and_tell(tuned.model_copy(update={"layer_decay": 0.5}), parts, source, tmp_path, 2)
    run_and_tell(tuned, (train, val.take(np.arange(1, len(val)))), source, tmp_path, 2)
    run_and_tell(tuned, (Part(train.posters, ~train.targets), val), source, tmp_path, 2)
    run_and_tell(tuned, parts, source, tmp_path, 2, seed=1)
    run_and_tell(tuned, parts, source, tmp_path, 2, metric="f1_macro")
    other = FeatureSource(tmp_path / "cache", {"test_efficientnet": str(other_weights(tmp_path))}, no_phase)
    run_and_tell(tuned, parts, other, tmp_path, 2)
    assert len([path for path in tmp_path.glob("*.safetensors") if path.stem != "weights"]) == 7


def other_weights(folder):
    file = folder / "weights.safetensors"
    save_file(timm.create_model("test_efficientnet", num_classes=0).state_dict(), file)
    return file


def no_phase(*_):
    return nullcontext(lambda _: None)


def test_phase_one_leaves_no_checkpoint(tmp_path, config, parts, source):
    run_trial(config, TrialInputs(*parts, source, Objective("f1_macro"), 0, checkpoints=Checkpoints(tmp_path)))
    assert not list(tmp_path.iterdir())
