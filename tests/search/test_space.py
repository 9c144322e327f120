from __future__ import annotations

from pathlib import Path

import optuna
import pytest
import yaml
from pydantic import ValidationError

from hpo.errors import SpaceError
from hpo.model.hyperparameters import Hyperparameters
from hpo.search.space import SHIPPED_SPACES, SearchSpace, load_space

SHIPPED = sorted(SHIPPED_SPACES.glob("*.yaml"))
DEFAULT = yaml.safe_load((SHIPPED_SPACES / "default.yaml").read_text())  # 1e-4 is a text here, and survives as such
IN_ALL_SPACES = pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)


def space_of(folder: Path, **changes: object) -> SearchSpace:
    """The default space with some parameters changed; None takes one out."""
    parameters = {key: value for key, value in {**DEFAULT["parameters"], **changes}.items() if value is not None}
    return load_space(write(folder, {"parameters": parameters}))


def write(folder: Path, content: object) -> Path:
    path = folder / "mine.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False))
    return path


def mistakes_of(load, *arguments: object, **changes: object) -> list[str]:
    with pytest.raises(SpaceError) as raised:
        load(*arguments, **changes)
    return str(raised.value).splitlines()[1:]


def sampled(space: SearchSpace, n_trials: int) -> list[tuple[Hyperparameters, dict[str, object]]]:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    trials = [study.ask() for _ in range(n_trials)]
    return [(space.sample(trial), trial.params) for trial in trials]


# What ships


@IN_ALL_SPACES
def test_every_shipped_space_loads_by_its_file_and_by_its_name(path):
    assert load_space(path).fingerprint == load_space(Path(path.stem)).fingerprint


@IN_ALL_SPACES
def test_every_shipped_recipe_is_a_point_of_its_space(path):
    space = load_space(path)
    for recipe in space.recipes:
        enqueued = space.recipe(recipe)
        chosen = space.rebuild(enqueued)
        study = optuna.create_study()
        study.enqueue_trial(enqueued)
        assert space.sample(study.ask()) == chosen


@IN_ALL_SPACES
def test_two_hundred_samples_are_valid_and_come_back_from_what_optuna_keeps(path):
    space = load_space(path)
    for chosen, params in sampled(space, 200):
        assert space.rebuild(params) == chosen
        assert chosen.backbone in space.backbones
        for name, parameter in space.searched.items():
            if name in params:
                assert parameter.holds(getattr(chosen, name))


def test_the_default_space_searches_or_fixes_every_hyperparameter():
    space = load_space(Path("default"))
    assert {*space.searched, *space.fixed} == set(Hyperparameters.model_fields)
    assert not set(space.searched) & set(space.fixed)


def test_the_write_up_recipe_leaves_out_what_does_not_apply():
    recipe = load_space(Path("default")).recipe("write_up")
    assert recipe["width"] == 256
    assert "pooling" not in recipe  # of a stage; the recipe takes the final features
    assert "epochs" not in recipe  # fixed


# What a space means


def test_when_decides_what_is_sampled():
    for chosen, params in sampled(load_space(Path("default")), 100):
        assert ("pooling" in params) == (chosen.features != "final")
        assert ({"width", "activation", "norm", "dropout"} <= params.keys()) == (chosen.hidden_layers > 0)
        assert "width" in params or chosen.hidden_layers == 0


def test_what_does_not_apply_has_its_plain_value():
    chosen = next(chosen for chosen, _ in sampled(load_space(Path("default")), 50) if chosen.hidden_layers == 0)
    assert (chosen.dropout, chosen.norm) == (0.0, "none")


LEARNING_RATE = "learning_rate: {type: float, low: 1e-4, high: 5e-3, log: true}"


def learning_rate_written(folder: Path, written: str) -> Path:
    text = (SHIPPED_SPACES / "default.yaml").read_text()
    assert LEARNING_RATE in text
    return write(folder, text.replace(LEARNING_RATE, f"learning_rate: {written}").partition("recipes:")[0])


@pytest.mark.parametrize("written", ["1e-5", "1E-5", "1.0e-5", ".1e-4", "0.00001", "+1e-5"])
def test_a_number_is_a_number_however_it_is_written(tmp_path, written):
    fixed = load_space(learning_rate_written(tmp_path, written)).fixed["learning_rate"]
    chosen = load_space(learning_rate_written(tmp_path, f"{{type: categorical, choices: [{written}]}}"))
    for number in (fixed, *chosen.searched["learning_rate"].choices):
        assert isinstance(number, float)
        assert number == pytest.approx(1e-5)


@pytest.mark.parametrize("written", ["one", "1e", "e5", "1e-5x"])
def test_what_is_no_number_stays_none(tmp_path, written):
    (mistake,) = mistakes_of(load_space, learning_rate_written(tmp_path, written))
    assert (
        f"learning_rate: input should be a valid number, unable to parse string as a number, got {written!r}" in mistake
    )


def test_the_range_of_an_integer_includes_both_ends(tmp_path):
    space = space_of(tmp_path, hidden_layers={"type": "int", "low": 0, "high": 3})
    assert {chosen.hidden_layers for chosen, _ in sampled(space, 60)} == {0, 1, 2, 3}


# What a study is bound to


def test_the_fingerprint_ignores_recipes_comments_and_the_file_name(tmp_path):
    shipped = load_space(Path("default"))
    without_recipes = space_of(tmp_path)
    assert shipped.recipes
    assert not without_recipes.recipes
    assert without_recipes.fingerprint == shipped.fingerprint
    assert len(shipped.fingerprint) == 16


def test_the_fingerprint_ignores_the_order_in_which_parameters_stand(tmp_path):
    first, *others = DEFAULT["parameters"].items()
    path = write(tmp_path, {"parameters": dict([*others, first])})
    assert load_space(path).fingerprint == load_space(Path("default")).fingerprint


@pytest.mark.parametrize(
    "changes",
    [
        {"epochs": 51},
        {"input_dropout": {"type": "float", "low": 0.0, "high": 0.4}},
        {"input_dropout": 0.2},
        {"batch_size": {"type": "categorical", "choices": [64, 128]}},
        {"dropout": {"type": "float", "low": 0.0, "high": 0.7, "when": {"hidden_layers": [1]}}},
    ],
)
def test_the_fingerprint_changes_with_every_other_space(tmp_path, changes):
    assert space_of(tmp_path, **changes).fingerprint != load_space(Path("default")).fingerprint


def test_the_fingerprint_changes_with_the_weights(tmp_path):
    path = write(tmp_path, {**DEFAULT, "weights": {"tf_efficientnet_lite0": "random"}})
    assert load_space(path).fingerprint != load_space(Path("default")).fingerprint


# Mistakes


def test_three_mistakes_are_told_at_once_each_with_file_and_key(tmp_path):
    assert mistakes_of(
        space_of,
        tmp_path,
        weight_decay={"type": "float", "low": 0, "high": 0.1, "log": True},
        drop_out=0.3,
        width={"type": "categorical", "choices": [128], "when": {"hidden_layers": [4]}},
    ) == [
        "  mine.yaml: parameters.weight_decay: low must be > 0 when log is true, got 0.0",
        "  mine.yaml: parameters.drop_out: there is no such parameter (did you mean 'dropout'?)",
        "  mine.yaml: parameters.width.when.hidden_layers: hidden_layers never takes 4",
    ]


MISTAKES = {
    "learning_rate: missing (AdamW's peak learning rate)": {"learning_rate": None},
    "epochs: input should be greater than or equal to 1, got 0": {"epochs": 0},
    "epochs: input should be a valid integer, got [5]": {"epochs": [5]},
    "norm: input should be 'none', 'batch' or 'layer', got 'bach'": {"norm": "bach"},
    "schedule: input should be 'constant', 'cosine' or 'one_cycle', got 'linear'": {
        "schedule": {"type": "categorical", "choices": ["cosine", "linear"]}
    },
    "focal_gamma: input should be less than or equal to 8, got 9.0": {
        "focal_gamma": {"type": "float", "low": 0.0, "high": 9.0}
    },
    "focal_gamma: low must not exceed high, got low 3.0 and high 1.0": {
        "focal_gamma": {"type": "float", "low": 3.0, "high": 1.0}
    },
    "focal_gamma: expected type: categorical, int or float": {"focal_gamma": {"type": "flaot", "low": 0, "high": 1}},
    "focal_gamma: high: field required": {"focal_gamma": {"type": "float", "low": 0.0}},
    "focal_gamma: hgih: extra inputs are not permitted, got 3": {
        "focal_gamma": {"type": "float", "low": 0, "high": 1, "hgih": 3}
    },
    "weight_decay: step cannot be combined with log, got step 0.1": {
        "weight_decay": {"type": "float", "low": 0.1, "high": 1.0, "log": True, "step": 0.1}
    },
    "backbone: choices: list should have at least 1 item after validation, not 0, got []": {
        "backbone": {"type": "categorical", "choices": []}
    },
    "pooling.when.featurs: must be a parameter written above pooling (did you mean 'features'?)": {
        "pooling": {"type": "categorical", "choices": ["avg"], "when": {"featurs": ["final"]}}
    },
    "pooling.when.width: must be a parameter written above pooling": {
        "pooling": {"type": "categorical", "choices": ["avg"], "when": {"width": [128]}}
    },
    "patience.when: every trial needs patience, so it cannot depend on another parameter": {
        "patience": {"type": "int", "low": 1, "high": 5, "when": {"hidden_layers": [1]}}
    },
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_where_it_is(tmp_path, mistake):
    assert mistakes_of(space_of, tmp_path, **MISTAKES[mistake]) == [f"  mine.yaml: parameters.{mistake}"]


@pytest.mark.parametrize(
    ("section", "content", "mistake"),
    [
        ("recipes", {"mine": {"epochs": 3}}, "recipes.mine.epochs: is fixed at 50 in this space, got 3"),
        ("recipes", {"mine": {"batch_size": 65}}, "recipes.mine.batch_size: 65 lies outside this space"),
        ("recipes", {"mine": {"hidden_layers": 1.5}}, "recipes.mine.hidden_layers: 1.5 lies outside this space"),
        ("recipes", {"mine": 3}, "recipes.mine: expected a mapping of parameters to values, got 3"),
        (
            "recipes",
            {"mine": {"learning_rat": 1}},
            "recipes.mine.learning_rat: there is no such parameter in this space (did you mean 'learning_rate'?)",
        ),
        ("recipe", {}, "recipe: expected one of parameters, recipes, weights (did you mean 'recipes'?)"),
        ("weights", "hub", "weights: expected a mapping, got 'hub'"),
        (
            "weights",
            {"tf_efficientnet_lite0": 3},
            "weights.tf_efficientnet_lite0: expected auto, hub, random or the path of a file, got 3",
        ),
        (
            "weights",
            {"efficientnet_lite0": "hub"},
            "weights.efficientnet_lite0: is no backbone of this space (did you mean 'tf_efficientnet_lite0'?)",
        ),
    ],
)
def test_a_mistake_in_another_section_is_told_too(tmp_path, section, content, mistake):
    path = write(tmp_path, {"parameters": DEFAULT["parameters"], section: content})
    assert mistakes_of(load_space, path) == [f"  mine.yaml: {mistake}"]


@pytest.mark.parametrize("content", ["parameters: [unclosed", "\tx: 1", "- a\n- list", "", "just words"])
def test_what_is_no_mapping_in_yaml(tmp_path, content):
    with pytest.raises(SpaceError, match=r"Expected (YAML|a mapping).* in .*mine\.yaml"):
        load_space(write(tmp_path, content))


def test_a_file_that_is_not_there_names_those_that_ship(tmp_path):
    with pytest.raises(SpaceError, match=r"cannot be read \(No such file or directory\).*\(default.*\) with --space"):
        load_space(tmp_path / "nowhere.yaml")


def test_parameters_that_optuna_kept_of_another_space_are_refused():
    with pytest.raises(ValidationError):
        load_space(Path("default")).rebuild({"backbone": "tf_efficientnet_lite0", "depth": 3})
