from __future__ import annotations

from pathlib import Path

import pytest

from hpo.data.dataset import DataOptions
from hpo.data.table.rules import CatalogueRules
from hpo.errors import StudyError
from hpo.selection.context import StudyContext
from hpo.study.attributes import attributes_of, begun_with, setup_of
from hpo.study.reproduction import command_of
from hpo.study.study import Study, open_study
from hpo.trial.setup import StudySetup

SETUP = StudySetup(
    metric="f1_macro",
    space="default",
    weights={"test_vit": "random"},
    data=DataOptions(
        csv=Path("movies.csv"), images=Path("images"), rules=CatalogueRules(), val_size=0.1, test_size=0.1, seed=0
    ),
    seed=0,
    folds=5,
    backbones=("test_vit",),
    fingerprints={"labels": "a", "images": "b", "split": "c"},
)
WRITTEN = SETUP.model_dump(mode="json")


def without(key: str) -> dict[str, object]:
    return {other: value for other, value in WRITTEN.items() if other != key}


def begun(folder: Path, **changed: object) -> Study:
    study = open_study(f"sqlite:///{folder}/optuna.db", "my study", folder / "locks", 0, create=True)
    study.bind({"data set": "d"}, {**WRITTEN, **changed})
    return study


def test_what_a_study_is_begun_with_is_read_as_it_was_given(tmp_path):
    study = begun(tmp_path)
    assert study.setup == SETUP
    assert study.memory == WRITTEN
    assert (study.metric, study.seed, study.attributes.folds) == ("f1_macro", 0, 5)


def test_what_changes_while_it_continues_is_no_part_of_what_it_was_begun_with(tmp_path):
    study = begun(tmp_path)
    study.set_budget(7)
    study.note_time("decoding 1 s")
    study.note_run(3, "abc")
    assert (study.attributes.budget, study.attributes.time_spent) == (7, "decoding 1 s")
    assert study.attributes.late_runs == {"3": "abc"}
    assert study.memory == WRITTEN == begun_with({**WRITTEN, "budget": 7, "identity": {}})


def test_a_new_study_remembers_nothing_and_is_read_all_the_same():
    attributes = attributes_of("s", {})
    assert (attributes.metric, attributes.budget, attributes.folds, attributes.confirmed) == (None, 0, 1, {})


@pytest.mark.parametrize("missing", ["metric", "space", "weights", "data", "seed", "fingerprints"])
def test_a_setup_without_a_part_is_one_sentence(missing):
    with pytest.raises(
        StudyError, match=f"^Expected study 's' to remember '{missing}' as .* \\(Field required\\): "
    ) as said:
        setup_of("s", without(missing))
    assert "\n" not in str(said.value)
    assert said.value.__cause__ is None


@pytest.mark.parametrize(
    ("broken", "where"),
    [
        ({"data": None}, "data"),
        ({"data": {**WRITTEN["data"], "val_size": "many"}}, "data.val_size"),
        ({"folds": "five"}, "folds"),
        ({"objective": "luck"}, "objective"),
        ({"fingerprints": ["a"]}, "fingerprints"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_setup_that_is_not_what_a_search_writes_is_one_sentence(broken, where):
    with pytest.raises(StudyError, match=rf"^Expected study 's' to remember '{where}[^']*' as [^\n]*$"):
        setup_of("s", {**WRITTEN, **broken})


@pytest.mark.parametrize("broken", [{"budget": "all"}, {"confirmed": {"0": 1}}, {"champion": 3}], ids=str)
def test_attributes_that_are_not_what_a_search_writes_are_one_sentence(broken):
    [where] = broken
    with pytest.raises(StudyError, match=rf"^Expected study 's' to remember '{where}[^']*' as [^\n]*$"):
        attributes_of("s", {**WRITTEN, **broken})


def test_commands_say_which_part_of_a_study_cannot_be_used(tmp_path):
    study = begun(tmp_path, data={"csv": "movies.csv"})
    for ask in (
        lambda: command_of(study),
        lambda: StudyContext.reopen(study, None, None, None),
    ):
        with pytest.raises(StudyError, match=r"^Expected study 'my study' to remember 'data\.images' as "):
            ask()


def test_a_study_without_seed_says_so(tmp_path):
    study = begun(tmp_path, seed=None)
    with pytest.raises(StudyError, match="remember 'seed' as"):
        _ = study.seed
