from __future__ import annotations

from pathlib import Path

import pytest

from hpo.errors import SpaceError
from hpo.space.load import load_space
from hpo.space.space import SearchSpace

STAGED = """
include: default
parameters:
  unfreeze: {type: categorical, choices: [none, last_stage], default: none}
stages:
  first: {gain: 0.002, hold: {unfreeze: none, backbone: [tf_efficientnet_lite0, tf_efficientnet_lite1]}}
  second: {gain: 0.01, hold: {unfreeze: last_stage}}
"""


def space_of(folder: Path, text: str) -> SearchSpace:
    (folder / "mine.yaml").write_text(text)
    return load_space(folder / "mine.yaml")


def test_a_search_begins_with_the_recipes_of_the_first_stage(tmp_path):
    space = space_of(tmp_path, STAGED)
    assert list(space.stages) == ["first", "second"]
    assert space.first_recipes() == ["lite1_narrow", "lite1_deep", "lite1_all_stages", "lite0_wide", "write_up"]


def test_without_stages_it_begins_with_all_recipes():
    space = load_space(Path("default"))
    assert space.first_recipes() == list(space.recipes)


def test_auto_begins_with_what_the_default_space_begins_with():
    auto, default = load_space(Path("auto")), load_space(Path("default"))
    assert auto.first_recipes() == list(default.recipes)
    assert len(auto.recipes) > len(default.recipes)


def test_a_backbone_that_cannot_be_had_leaves_the_stages():
    space = load_space(Path("auto")).without_backbones(["tf_efficientnet_lite1"])
    assert space.stages["heads"].hold["backbone"] == ["tf_efficientnet_lite0", "tf_efficientnet_lite2"]
    assert list(space.stages) == ["heads", "fine_tune"]  # every fused backbone of the other had it
    assert "lite1" not in str(space.stages)


@pytest.mark.parametrize(
    ("written", "mistake"),
    [
        ("stages: {a: {hold: {unfreeze: none}}}", "stages.a: gain: field required"),
        ("stages: {a: {gain: 2}}", "stages.a: gain: input should be less than or equal to 1"),
        ("stages: {a: {gain: 0.1, holds: {}}}", "stages.a: holds: extra inputs are not permitted"),
        ("stages: {a: {gain: 0.1, hold: {unfreze: none}}}", "stages.a.unfreze: expected a searched parameter"),
        ("stages: {a: {gain: 0.1, hold: {patience: 5}}}", "stages.a.patience: expected a searched parameter"),
        ("stages: {a: {gain: 0.1, hold: {width: 999}}}", "stages.a.width: expected 128, 256 or 512, got 999"),
        ("stages: {a: {gain: 0.1, vary: [{width: 999}]}}", "stages.a.width: expected 128, 256 or 512, got 999"),
        ("stages: [a]", "stages: expected a mapping, got ['a']"),
    ],
)
def test_mistakes_in_stages_are_named(tmp_path, written, mistake):
    with pytest.raises(SpaceError) as refused:
        space_of(tmp_path, f"include: default\n{written}")
    assert mistake in str(refused.value)
