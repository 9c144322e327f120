"""The write-up's own search, shrunk until it runs in seconds: every backbone, both phases, all thresholds."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import yaml
from safetensors.torch import save_file

from hpo.data.dataset import Part
from hpo.model.config import TrialConfig
from hpo.space.load import load_space
from hpo.trial.features import FeatureSource
from hpo.trial.objective import Objective
from hpo.trial.trial import EpochReport, TrialInputs, TrialResult, run_trial

SPACE = load_space(Path("write_up"))
SHRUNK = {"image_size": 64, "epochs": 1, "finetune_epochs": 1, "finetune_batch_size": 8}


@pytest.fixture(scope="module")
def few(drawn) -> tuple[Part, Part]:
    """Train (8 posters) and val (4)."""
    first, second = (Part(drawn.posters.take(rows), drawn.targets[rows]) for rows in (np.arange(8), np.arange(8, 12)))
    return first, second


def recipe(name: str) -> TrialConfig:
    return SPACE.rebuild(SPACE.recipe(name)).model_copy(update=SHRUNK)


def run(config: TrialConfig, weights: Mapping[str, str], few: tuple[Part, Part], cache: Path) -> TrialResult:
    reports: list[EpochReport] = []
    source = FeatureSource(cache, weights, lambda *_: nullcontext(lambda _: None))
    result = run_trial(config, TrialInputs(*few, source, Objective("f1_macro"), 0, reports.append))
    assert [report.phase for report in reports] == ["frozen", "finetune"]
    assert all(np.isfinite(report.train_loss) for report in reports)
    assert np.isfinite(result.val_probabilities).all()
    return result


def test_its_recipes_are_its_three_backbones_with_all_of_each_trained():
    assert {recipe(name).backbone for name in SPACE.recipes} == {*SPACE.backbones}
    assert {recipe(name).unfreeze for name in SPACE.recipes} == {"everything"}


def test_it_runs_from_posters_to_thresholds_with_random_weights(tmp_path, few):
    config = recipe("efficientnet")
    result = run(config, {config.backbone: "random"}, few, tmp_path)
    assert "global" in result.strategies  # the write-up's baseline


@pytest.mark.parametrize("name", SPACE.recipes)
def test_each_backbone_runs_from_a_file_of_weights(tmp_path, few, name):
    config = recipe(name)
    file = tmp_path / f"{config.backbone}.safetensors"
    torch.manual_seed(1)
    save_file(timm.create_model(config.backbone).state_dict(), file)
    (tmp_path / "mine.yaml").write_text(yaml.dump({"include": "write_up", "weights": {config.backbone: str(file)}}))
    result = run(config, load_space(tmp_path / "mine.yaml").weights, few, tmp_path)
    assert [backbone.source for backbone in result.network.backbones] == [f"file {file.name}"]
