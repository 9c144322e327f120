from __future__ import annotations

from contextlib import nullcontext
from itertools import pairwise

import pytest

from hpo.errors import BackboneError
from hpo.model.config import TrialConfig
from hpo.trial.cost_model import PHASES, PhaseWork, Work, WorkCounter
from hpo.trial.features import FeatureSource, train_views
from hpo.trial.objective import Objective
from hpo.trial.trial import TrialInputs, run_trial

DEPTHS = ("last_stage", "last_two_stages", "last_three_stages", "everything")


class Asked(FeatureSource):
    """A source that remembers what a trial had to be computed or read."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.asked: list[str] = []

    def examples(self, *args, **kwargs):
        self.asked.append("features")
        return super().examples(*args, **kwargs)

    def stored(self, *args, **kwargs):
        self.asked.append("activations")
        return super().stored(*args, **kwargs)


@pytest.fixture
def fresh(tmp_path) -> Asked:
    """A source without a single cached feature."""
    weights = dict.fromkeys(("test_efficientnet", "test_resnet"), "random")
    return Asked(tmp_path / "cache", weights, lambda *_: nullcontext(lambda _: None))


@pytest.fixture
def tuned(config) -> TrialConfig:
    """Two epochs of the head, then two of the last stage."""
    return config.model_copy(update={"epochs": 2, "unfreeze": "last_stage", "finetune_epochs": 2})


@pytest.fixture
def count(fresh, parts):
    """Count the work of a configuration of which nothing is cached."""
    return WorkCounter(fresh, *parts).count


def assert_more(less: PhaseWork, more: PhaseWork) -> None:
    assert 0 < less.gflop < more.gflop


@pytest.mark.parametrize(
    ("phase", "field"),
    [("training", "epochs"), ("finetuning", "finetune_epochs")],
)
def test_each_phase_is_in_proportion_to_its_epochs(count, tuned, phase, field):
    once, thrice = (count(tuned.model_copy(update={field: n})) for n in (2, 6))
    assert thrice.phase(phase).gflop == pytest.approx(3 * once.phase(phase).gflop)
    assert thrice.phase(phase).pieces == pytest.approx(3 * once.phase(phase).pieces)
    assert (once.phase(phase).epochs, thrice.phase(phase).epochs) == (2, 6)
    for other in {*PHASES} - {phase}:
        assert once.phase(other) == thrice.phase(other)


def test_the_more_is_unfrozen_the_more_there_is_to_do(count, tuned):
    by_depth = [count(tuned.model_copy(update={"unfreeze": depth})).finetuning for depth in DEPTHS]
    for less, more in pairwise(by_depth):
        assert_more(less, more)
    assert count(tuned.model_copy(update={"unfreeze": "none"})).finetuning == PhaseWork()


def test_views_are_computed_once_and_predicted_every_epoch(count, parts, tuned):
    plain, trained, averaged = (count(tuned.model_copy(update={"flip": flip})) for flip in ("none", "train", "average"))
    n_train, n_val = (len(part.posters) for part in parts)
    assert trained.features.pieces == 2 * (2 * n_train + n_val)  # of features and activations; val is seen plain
    assert averaged.features.gflop == pytest.approx(2 * plain.features.gflop)
    assert trained.finetuning == plain.finetuning  # a poster is trained on in one of its views an epoch
    assert_more(trained.finetuning, averaged.finetuning)


def test_a_wider_head_larger_posters_and_a_second_backbone_cost_more(count, tuned):
    wide, large, fused = (
        count(tuned.model_copy(update=update))
        for update in ({"width": 512}, {"image_size": 96}, {"backbone": "test_efficientnet+test_resnet"})
    )
    work = count(tuned)
    assert_more(work.training, wide.training)
    assert_more(work.features, large.features)
    assert_more(work.finetuning, large.finetuning)
    for phase in PHASES:
        assert_more(work.phase(phase), fused.phase(phase))


def test_what_is_cached_is_not_paid_again(fresh, parts, tuned):
    counter, frozen = WorkCounter(fresh, *parts), tuned.model_copy(update={"unfreeze": "none"})
    before = counter.count(frozen).features
    n_posters = sum(len(part.posters) for part in parts)
    assert before.pieces == n_posters
    assert counter.count(tuned).features.pieces == 2 * n_posters  # activations as well
    fresh.examples(frozen, parts[1], train_views(frozen))
    after_val = counter.count(frozen).features
    assert after_val.gflop == pytest.approx(before.gflop * len(parts[0].posters) / before.pieces)
    fresh.examples(frozen, parts[0], train_views(frozen))
    assert (counter.count(frozen).features.gflop, counter.count(frozen).features.pieces) == (0, 0)
    assert counter.count(tuned).features.pieces == n_posters
    averaged = frozen.model_copy(update={"flip": "average"})
    assert counter.count(averaged).features == before  # the other view is missing
    for part in parts:
        fresh.stored(tuned, part, train_views(tuned), fresh.examples(tuned, part, train_views(tuned)).features)
    assert counter.count(tuned).features.pieces == 0


def test_limits_are_part_of_the_work(count, tuned):
    limited: Work = count(tuned.model_copy(update={"max_seconds": 7.0}))
    assert limited.training.max_seconds == limited.finetuning.max_seconds == 7.0


def test_a_trial_that_is_stopped_in_phase_one_never_asks_for_activations(fresh, parts, tuned, tmp_path):
    def prune(_: object) -> None:
        raise StopIteration

    with pytest.raises(StopIteration):
        run_trial(tuned, TrialInputs(*parts, fresh, Objective("f1_macro"), 0, prune))
    assert fresh.asked == ["features", "features"]  # of train and of val
    assert not (tmp_path / "cache" / "activations").exists()
    run_trial(tuned, TrialInputs(*parts, fresh, Objective("f1_macro"), 0))
    assert fresh.asked[2:] == ["features", "features", "activations", "activations"]
    assert (tmp_path / "cache" / "activations").exists()


def test_g8_a_backbone_that_cannot_be_had_is_asked_for_once(tmp_path, config):
    source = FeatureSource(tmp_path, {"test_resnet": str(tmp_path / "later.pth")}, lambda *_: nullcontext())
    missing = config.model_copy(update={"backbone": "test_resnet"})
    with pytest.raises(BackboneError, match="found none") as first:
        source.backbones(missing)
    with pytest.raises(BackboneError) as second:
        source.backbones(missing)
    assert second.value is first.value
