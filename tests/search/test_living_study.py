"""A study that is searched again in a wider space, and one that starts from it: posters, MLflow and all."""

from __future__ import annotations

import csv
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hpo.data.dataset import DataOptions
from hpo.data.table.rules import CatalogueRules
from hpo.errors import StudyError
from hpo.search.config import SearchOptions
from hpo.search.search import Outcome, search
from hpo.settings import Paths
from hpo.space.load import load_space
from hpo.tracking.runs import open_tracking
from hpo.trial.objective import Objective

SPACE = """
include: default
parameters:
  backbone: {{type: categorical, choices: [{backbones}]}}
  image_size: 64
  epochs: 2
weights: {{{weights}}}
recipes: null
"""


class Onlooker:
    """Callbacks of a search that record every notice."""

    def __init__(self) -> None:
        self.notices: list[str] = []

    def notice(self, text: str) -> None:
        self.notices.append(text)

    def bar(self, what: str, total: int):
        return nullcontext(lambda _: None)

    def trial_ended(self, *_: object) -> None:
        pass

    def __getattr__(self, _: str):
        return lambda *_: None


@pytest.fixture
def options(tmp_path: Path, drawn) -> SearchOptions:
    with (tmp_path / "p.csv").open("w") as file:
        rows = csv.writer(file)
        rows.writerow(("id", "genres"))
        for at, row in enumerate(drawn.targets):
            rows.writerow((f"{at:02}", ", ".join(np.array(drawn.label_names)[row])))
    sizes = {"val_size": 15, "test_size": 15, "seed": 0, "grouping": "none"}
    paths = Paths(f"sqlite:///{tmp_path}/o.db", f"sqlite:///{tmp_path}/m.db", tmp_path, tmp_path / "cache")
    return SearchOptions(
        data=DataOptions(csv=tmp_path / "p.csv", images=drawn.folder, rules=CatalogueRules(top_labels=3), **sizes),
        space=space_of(tmp_path, "test_resnet"),
        study="s",
        objective=Objective("f1_macro"),
        trials=1,
        timeout_seconds=None,
        paths=paths,
        confirm=False,
    )


def space_of(folder: Path, *backbones: str):
    weights = ", ".join(f"{name}: random" for name in backbones)
    (folder / "space.yaml").write_text(SPACE.format(backbones=", ".join(backbones), weights=weights))
    return load_space(folder / "space.yaml")


def test_a_living_study_grows_and_another_starts_from_it(options, tmp_path):
    onlooker = Onlooker()

    def searched(**changed) -> Outcome:
        return search(replace(options, **changed), onlooker)

    first = searched()
    wider = space_of(tmp_path, "test_resnet", "test_efficientnet")
    second = searched(space=wider, trials=2, sampler="random", pruner="halving")
    grew = "The space of study 's' grew (backbone: + test_efficientnet): its trial is taken over."
    assert onlooker.notices.count(grew) == 1
    assert second.parent_run_id == first.parent_run_id
    assert second.study.counts().complete == 2
    before, after = first.study.trials(), second.study.trials()
    assert [trial.run_id for trial in after[:1]] == [trial.run_id for trial in before]
    champion = open_tracking(options.paths.tracking_uri, options.paths.artifacts).registry.champion("s")
    assert champion.run_id == second.study.leader().run_id

    third = searched(study="t", space=wider, trials=1, warm_start="s")
    [trial] = third.study.top(None)
    assert trial.warm_start == f"s #{second.study.best().number}"
    assert trial.params == second.study.best().params
    with pytest.raises(StudyError, match="there are s, t"):
        searched(study="u", warm_start="nobody")


def test_who_searches_on_in_the_old_space_ends_and_crowns_nobody(options, tmp_path):
    wider = space_of(tmp_path, "test_resnet", "test_efficientnet")
    grown: list[Outcome] = []

    class Grower(Onlooker):
        def trial_ended(self, *_: object) -> None:
            grown.append(search(replace(options, space=wider, trials=2, sampler="random"), Onlooker()))

    with pytest.raises(StudyError, match="Study 's' continues with another search space"):
        search(replace(options, trials=3), Grower())
    [second] = grown
    assert (second.study.counts().complete, second.study.counts().failed) == (2, 0)
    champion = open_tracking(options.paths.tracking_uri, options.paths.artifacts).registry.champion("s")
    assert champion.run_id == second.study.leader().run_id
