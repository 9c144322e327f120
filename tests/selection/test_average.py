"""An average of trials as champion, in a study of a real search on drawn posters."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hpo.bundle.description import load_description
from hpo.bundle.predictor import Predictor
from hpo.data.dataset import DataOptions
from hpo.data.sample.sample import write_sample
from hpo.data.table.rules import CatalogueRules
from hpo.runtime.progress import ProgressFactory
from hpo.search.callbacks import NullCallback
from hpo.search.config import SearchOptions
from hpo.search.search import search
from hpo.selection.average import promote_average
from hpo.selection.context import StudyContext
from hpo.selection.export import export_best
from hpo.selection.garbage_collection import collect_garbage
from hpo.selection.sync import sync
from hpo.settings import Paths
from hpo.space.load import load_space
from hpo.trial.objective import Objective

# Trials differ little, so that several are worth averaging.
SPACE = """
parameters:
  backbone: {type: categorical, choices: [test_resnet, test_efficientnet]}
  image_size: 64
  features: all_stages
  hidden_layers: 0
  input_dropout: {type: float, low: 0.0, high: 0.2}
  weight_decay: 1e-3
  label_smoothing: 0.0
  focal_gamma: 0.0
  focal_alpha: 0.5
  learning_rate: 1e-3
  schedule: constant
  batch_size: 32
  epochs: 3
  patience: 3
weights: {test_resnet: random, test_efficientnet: random}
"""
PHASE: ProgressFactory = NullCallback().bar


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> SearchOptions:
    """A search of four trials, which has ended."""
    folder = tmp_path_factory.mktemp("average")
    (folder / "space.yaml").write_text(SPACE)
    csv = write_sample(folder / "sample", 120)
    options = SearchOptions(
        data=DataOptions(
            csv=csv, images=csv.parent / "images", rules=CatalogueRules(), val_size=0.2, test_size=0.2, seed=0
        ),
        space=load_space(folder / "space.yaml"),
        study="s",
        objective=Objective("f1_macro"),
        n_folds=2,
        trials=4,
        timeout_seconds=None,
        confirm=False,
        pruner="none",
        paths=Paths.of(f"sqlite:///{folder}/o.db", f"sqlite:///{folder}/m.db", folder / "cache"),
    )
    search(options, NullCallback())
    return options


@pytest.fixture(scope="module")
def context(options: SearchOptions) -> StudyContext:
    """The study, whose champion is an average."""
    context = StudyContext.open(options, PHASE)
    parent = context.tracking.find_study_run("s")
    assert parent is not None
    promote_average(context, parent, PHASE, lambda _: None, min_share=0.0)
    return context


def test_it_is_registered_with_its_members_and_its_claim(context):
    champion = context.tracking.registry.champion("s")
    assert champion.is_average
    assert champion.trial_number is None
    assert sum(champion.weights.values()) == pytest.approx(1.0, abs=1e-5)
    assert champion.run_id == context.tracking.find_study_run("s")
    record = context.study.champion()
    assert record["trials"] == list(champion.weights)
    assert record["value"] == pytest.approx(champion.value, abs=1e-6)
    assert record["ci95"][0] <= champion.value <= record["ci95"][1]


def test_export_takes_it_and_single_takes_the_best_trial(context, options, tmp_path):
    exported = export_best(context.study, context.tracking, options.paths, tmp_path / "best", PHASE)
    assert "the average of trials" in exported.title
    described = load_description(tmp_path / "best")
    assert len(described.members) == 2 * len(context.tracking.registry.champion("s").weights)  # two folds of each
    assert described.metrics["claim"]["from"] == "cross_fitted"
    assert "test" in described.metrics
    single = export_best(context.study, context.tracking, options.paths, tmp_path / "single", PHASE, single=True)
    assert f"trial {context.study.leader().number}" in single.title


def test_it_predicts_the_weighted_mean_of_its_members(context, options, tmp_path):
    """In folds a poster's kept probabilities are of the fold that did not see it; test posters have none."""
    registry = context.tracking.registry
    registry.download_bundle("s", tmp_path / "average")
    test = context.data.catalogue.take(context.data.split.test)
    mean = Predictor.load(tmp_path / "average").predict(test.image_paths).probabilities
    expected = np.zeros_like(mean, dtype=np.float64)
    for number, weight in registry.champion("s").weights.items():
        result = context.train_again(context.study.trial(number))
        alone = Predictor(context.describe(result), result.network)
        expected += weight * alone.predict(test.image_paths).probabilities
    assert mean == pytest.approx(expected, abs=1e-5)


def test_the_same_average_is_registered_once(context):
    registry, parent = context.tracking.registry, context.tracking.find_study_run("s")
    before = registry.champion("s").version
    promote_average(context, parent, PHASE, lambda _: None, min_share=0.0)
    assert registry.champion("s").version == before


def test_sync_leaves_it_where_it_is_ahead(context, options):
    registry, leader = context.tracking.registry, context.study.leader()
    champion = registry.champion("s")
    done = sync(context.study, context.tracking, options.paths, PHASE, lambda _: None)
    kept = champion.value > leader.value
    assert (registry.champion("s").version == champion.version) is kept
    assert done.champion == (champion.title if kept else f"trial {leader.number}")


def test_an_average_that_is_seldom_better_is_not_promoted(context, options):
    said: list[str] = []
    promote_average(context, context.tracking.find_study_run("s"), PHASE, said.append, min_share=1.01)
    assert said[0].startswith("The best single trial stays champion: the average of trials")


def test_a_study_of_one_trial_has_no_average(options, tmp_path):
    alone = replace(options, study="alone", trials=1, paths=Paths.of(f"sqlite:///{tmp_path}/o.db", None, tmp_path))
    search(alone, NullCallback())
    context = StudyContext.open(alone, PHASE)
    assert not context.tracking.registry.champion("alone").is_average


def test_garbage_collection_keeps_the_champion_and_frees_an_average_without_an_alias(context, options):
    promote_average(context, context.tracking.find_study_run("s"), PHASE, lambda _: None, min_share=0.0)
    registry, client = context.tracking.registry, context.tracking.registry._client
    champion = registry.champion("s")
    assert champion.is_average
    collect_garbage(context.study, context.tracking, options.paths, PHASE, now=True)
    assert registry.is_whole(champion)
    client.delete_registered_model_alias("s", "champion")
    freed = collect_garbage(context.study, context.tracking, options.paths, PHASE, now=True)
    assert f"version {champion.version}" in [item.name for item in freed.items]
    assert not registry.is_whole(champion)
