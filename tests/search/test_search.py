from __future__ import annotations

from pathlib import Path

import pytest

from hpo.data.dataset import DataOptions
from hpo.data.table.rules import CatalogueRules
from hpo.errors import BackboneError, SpaceError
from hpo.search.config import SearchOptions
from hpo.search.search import available_space
from hpo.settings import Paths
from hpo.space.load import load_space
from hpo.trial.objective import Objective

SPACE = """
include: default
parameters:
  backbone: {type: categorical, choices: [test_resnet, test_vit, test_resnet+test_vit]}
  image_size: 160
weights: {test_resnet: random, test_vit: nowhere.safetensors}
recipes: null
"""


class Notices:
    """Callbacks of a search that record their calls."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def notice(self, text: str) -> None:
        self.texts.append(text)


def options_for(folder: Path, text: str, *, skip: bool) -> SearchOptions:
    (folder / "space.yaml").write_text(text)
    return SearchOptions(
        data=DataOptions(csv=folder, images=folder, rules=CatalogueRules(), val_size=0.1, test_size=0.1, seed=0),
        space=load_space(folder / "space.yaml"),
        study="s",
        objective=Objective("f1_macro"),
        trials=1,
        timeout_seconds=None,
        paths=Paths.of(f"sqlite:///{folder}/o.db", f"sqlite:///{folder}/m.db", folder),
        skip_unavailable=skip,
    )


def test_weights_that_cannot_be_had_end_a_search_before_it_begins(tmp_path):
    with pytest.raises(BackboneError, match=r"weights.* for test_vit at nowhere\.safetensors, found none"):
        available_space(options_for(tmp_path, SPACE, skip=False), Notices())


def test_they_are_left_out_only_when_told_to_and_that_is_said(tmp_path):
    watch = Notices()
    space = available_space(options_for(tmp_path, SPACE, skip=True), watch)
    assert space.backbone_choices == ("test_resnet",)
    assert [text.partition(":")[0] for text in watch.texts] == ["Left out test_vit"]


def test_a_space_of_nothing_that_can_be_had_is_refused(tmp_path):
    nowhere = SPACE.replace("random", "nowhere.pth")
    with pytest.raises(SpaceError, match="Expected a backbone"):
        available_space(options_for(tmp_path, nowhere, skip=True), Notices())


def test_a_size_that_a_backbone_cannot_take_is_refused_before_anything_is_trained(tmp_path):
    odd = SPACE.replace("160", "100").replace("nowhere.safetensors", "random")
    with pytest.raises(BackboneError, match="100"):
        available_space(options_for(tmp_path, odd, skip=False), Notices())
