from __future__ import annotations

from pathlib import Path

import optuna
import pytest
import yaml
from pydantic import ValidationError

from hpo.errors import SpaceError
from hpo.model.config import TrialConfig
from hpo.space.load import SHIPPED_SPACES, SearchSpace, load_space
from hpo.study.samplers import draw

SHIPPED = sorted(SHIPPED_SPACES.glob("*.yaml"))
IN_ALL_SPACES = pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
REQUIRED = """
  image_size: native
  input_dropout: 0.0
  weight_decay: 0.01
  label_smoothing: 0.0
  focal_gamma: 2.0
  focal_alpha: 0.5
  schedule: cosine
  batch_size: 64
  epochs: 20
  patience: 5
"""
SMALL = f"""
parameters:
  backbone: {{type: categorical, choices: [resnet18, resnet50, resnet18+resnet50]}}
  features: {{type: categorical, choices: [final, last_stage]}}
  hidden_layers: {{type: int, low: 0, high: 2}}
  width: {{type: categorical, choices: [64, 128], when: {{hidden_layers: [1, 2]}}, default: 128}}
  learning_rate: {{type: float, low: 1e-4, high: 1e-2, log: true}}
{REQUIRED}
weights: {{resnet18: random}}
recipes:
  mine: {{backbone: resnet50, hidden_layers: 1, learning_rate: 1e-3}}
"""


def test_u26_missing_parameters_hint_at_include(tmp_path):
    lines = "parameters:\n  backbone: {type: categorical, choices: [resnet18, resnet50]}\n  epochs: 9\n"
    recipe = "weights: {resnet18: random}\n"
    with pytest.raises(SpaceError) as raised:
        load_space(written(tmp_path, lines + recipe))
    first, *mistakes = str(raised.value).splitlines()
    assert "(include: default takes over whatever this file does not name)" in first
    assert len(mistakes) > 5
    assert all("missing (" in line for line in mistakes)
    taken_over = load_space(written(tmp_path, f"include: default\n{lines}{recipe}recipes: null\n"))
    assert (taken_over.backbones, taken_over.fixed["epochs"]) == (("resnet18", "resnet50"), 9)


def test_u26_a_file_that_misses_nothing_is_not_told_to_include(tmp_path):
    with pytest.raises(SpaceError) as raised:
        load_space(written(tmp_path, SMALL.replace("epochs: 20", "epochs: 0")))
    assert "include" not in str(raised.value)


def written(folder: Path, text: str = SMALL, name: str = "mine.yaml", **changes: str) -> Path:
    """A space file; ``changes`` replace the line of a parameter, or add it."""
    lines = text.splitlines()
    for parameter, line in changes.items():
        lines = [kept for kept in lines if not kept.startswith(f"  {parameter}:")]
        lines.insert(lines.index("parameters:") + 1, f"  {parameter}: {line}")
    (folder / name).write_text("\n".join(lines))
    return folder / name


def sampled(space: SearchSpace, n_samples: int) -> list[TrialConfig]:
    return [space.rebuild(params) for params in draw(space, n_samples, seed=0)]


# What ships


@IN_ALL_SPACES
def test_every_shipped_space_loads_by_its_file_and_by_its_name(path):
    assert load_space(path).fingerprint == load_space(Path(path.stem)).fingerprint


@IN_ALL_SPACES
def test_every_shipped_backbone_is_known_and_has_weights_to_download(path):
    import timm

    from hpo.model.backbones.architectures import check_known

    for name in load_space(path, check_known).backbones:
        assert name.startswith("hf-hub:") or timm.is_model_pretrained(name)


@IN_ALL_SPACES
def test_every_shipped_recipe_is_a_point_of_its_space(path):
    space = load_space(path)
    for recipe in space.recipes:
        enqueued = space.recipe(recipe)
        study = optuna.create_study()
        study.enqueue_trial(enqueued)
        assert space.sample(study.ask()) == space.rebuild(enqueued)


@IN_ALL_SPACES
def test_samples_are_valid_and_come_back_from_what_optuna_keeps(path):
    space = load_space(path)
    for params in draw(space, 100, seed=1):
        config = space.rebuild(params)
        assert set(config.backbone.split("+")) <= set(space.backbones)
        assert {name for name, parameter in space.searched.items() if parameter.applies({**space.fixed, **params})} == {
            *params
        }
        assert all(space.searched[name].holds(value) for name, value in params.items())


def test_the_write_ups_space_is_the_write_ups():
    space = load_space(Path("write_up"))
    assert space.backbones == ("tf_efficientnetv2_b0", "resnet50", "legacy_xception")
    for recipe in space.recipes:
        config = space.rebuild(space.recipe(recipe))
        assert (config.epochs, config.finetune_epochs, config.patience, config.unfreeze) == (5, 50, 5, "everything")
        assert (config.activation, config.hidden_layers, config.focal_gamma) == ("relu", 1, 2.0)


def test_the_large_space_has_every_family():
    names = " ".join(load_space(Path("large")).backbones)
    for family in ("convnextv2", "eva02", "siglip", "v2_webli", "dinov3", "wd-vit", "wd-swinv2", "wd-convnext"):
        assert family in names


# What a space means


def test_when_decides_what_is_sampled(tmp_path):
    for params in draw(load_space(written(tmp_path)), 50, seed=0):
        assert ("width" in params) == (params["hidden_layers"] > 0)


def test_what_is_left_out_or_does_not_apply_has_the_default_of_the_hyperparameter(tmp_path):
    space = load_space(written(tmp_path))
    assert {config.width for config in sampled(space, 50) if config.hidden_layers == 0} == {256}
    assert {config.unfreeze for config in sampled(space, 5)} == {"none"}


def test_the_order_in_which_parameters_are_written_does_not_matter(tmp_path):
    space = load_space(written(tmp_path, hidden_layers="{type: int, low: 0, high: 2}", width=(
        "{type: categorical, choices: [64, 128], when: {hidden_layers: [1, 2]}}")))  # fmt: skip
    names = [*space.searched]
    assert names.index("width") > names.index("hidden_layers")
    assert space.fingerprint == load_space(written(tmp_path)).fingerprint


@pytest.mark.parametrize("number", ["1e-5", "1E-5", "1.0e-5", ".1e-4", "0.00001", "+1e-5"])
def test_a_number_is_a_number_however_it_is_written(tmp_path, number):
    fixed = load_space(written(tmp_path, learning_rate=number, text=SMALL.partition("recipes:")[0]))
    assert fixed.fixed["learning_rate"] == pytest.approx(1e-5)
    assert isinstance(fixed.fixed["learning_rate"], float)


def test_the_range_of_an_integer_includes_both_ends(tmp_path):
    assert {config.hidden_layers for config in sampled(load_space(written(tmp_path)), 40)} == {0, 1, 2}


def test_null_is_a_value_where_the_hyperparameter_can_be_null(tmp_path):
    choices = "{type: categorical, choices: [null, 4.0], default: null}"
    space = load_space(written(tmp_path, focal_gamma_negatives=choices))
    assert {config.focal_gamma_negatives for config in sampled(space, 20)} == {None, 4.0}
    assert space.recipe("mine")["focal_gamma_negatives"] is None


def test_a_recipe_takes_the_default_of_what_it_leaves_out(tmp_path):
    recipe = load_space(written(tmp_path)).recipe("mine")
    assert recipe == {"backbone": "resnet50", "hidden_layers": 1, "width": 128, "learning_rate": 1e-3}
    assert "features" not in recipe  # without a default: left to the sampler


def test_a_recipe_may_give_the_value_for_a_condition_that_the_sampler_decides(tmp_path):
    text = SMALL.replace("mine: {backbone: resnet50, hidden_layers: 1, learning_rate: 1e-3}", "mine: {width: 64}")
    assert load_space(written(tmp_path, text)).recipe("mine") == {"width": 64}


# What a study is bound to


def test_the_fingerprint_ignores_recipes_defaults_and_comments(tmp_path):
    space = load_space(written(tmp_path))
    plain = SMALL.partition("recipes:")[0].replace(", default: 128", "") + "# more"
    assert load_space(written(tmp_path, plain)).fingerprint == space.fingerprint
    assert len(space.fingerprint) == 16


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("epochs: 20", "epochs: 21"),
        ("high: 2}", "high: 3}"),
        ("[64, 128]", "[64, 256]"),
        ("hidden_layers: [1, 2]", "hidden_layers: [2]"),
        ("resnet18: random", "resnet18: hub"),
    ],
)
def test_the_fingerprint_changes_with_every_other_space(tmp_path, old, new):
    text = SMALL.replace(", default: 128", "").partition("recipes:")[0]
    before, after = (load_space(written(tmp_path, content)).fingerprint for content in (text, text.replace(old, new)))
    assert before != after


def test_the_fingerprint_of_an_older_space_is_still_the_same(tmp_path):
    """A study begun before defaults and includes continues."""
    before = SMALL.replace(", default: 128", "")
    assert load_space(written(tmp_path, before)).fingerprint == "00ba51d1d7849e27"


def test_parameters_that_optuna_kept_of_another_space_are_refused():
    with pytest.raises(ValidationError):
        load_space(Path("default")).rebuild({"backbone": "tf_efficientnet_lite0", "depth": 3})


# Backbones that cannot be had


def test_taking_backbones_out_takes_out_whatever_needs_them(tmp_path):
    text = SMALL + "  first: {backbone: resnet18}\n  open: {hidden_layers: 0}\n"
    flip = "{type: categorical, choices: [none, train], when: {backbone: [resnet50]}}"
    crops = "{type: categorical, choices: [0, 2], when: {flip: [train]}}"
    space = load_space(written(tmp_path, text, flip=flip, crops=crops))
    left = space.without_backbones({"resnet50"})
    assert left.backbone_choices == ("resnet18",)
    assert {*space.searched} - {*left.searched} == {"flip", "crops"}
    assert [*left.recipes] == ["first", "open"]
    assert left.weights == space.weights
    assert {config.backbone for config in sampled(left, 10)} == {"resnet18"}


def test_taking_out_what_is_not_there_changes_nothing(tmp_path):
    space = load_space(written(tmp_path))
    assert space.without_backbones({"vgg16"}).fingerprint == space.fingerprint


@pytest.mark.parametrize("line", ["resnet18+resnet50", "{type: categorical, choices: [resnet18, resnet18+resnet50]}"])
def test_a_backbone_must_be_left(tmp_path, line):
    text = SMALL.partition("recipes:")[0]
    with pytest.raises(SpaceError, match=r"all of them are taken out \(resnet18.*--space\.$"):
        load_space(written(tmp_path, text, backbone=line)).without_backbones({"resnet18"})


# Files


@pytest.mark.parametrize("content", ["parameters: [unclosed", "\tx: 1", "- a\n- list", "", "just words", "a: 1\na: 2"])
def test_what_is_no_mapping_in_yaml(tmp_path, content):
    with pytest.raises(SpaceError, match=r"Expected (YAML|a mapping).* in .*mine\.yaml"):
        load_space(written(tmp_path, content))


def test_a_file_that_is_not_there_names_those_that_ship(tmp_path):
    with pytest.raises(
        SpaceError, match=r"no such file \(did you mean 'large'\?\): .*\(auto, default, .*large, write_up\)"
    ):
        load_space(Path("larg"))


def test_the_documentation_names_every_hyperparameter_and_every_shipped_file():
    page = (SHIPPED_SPACES.parent / "docs" / "search-spaces.md").read_text()
    assert [name for name in TrialConfig.model_fields if f"| `{name}` |" not in page] == []
    assert [path.name for path in SHIPPED if f"`{path.name}`" not in page] == []


def test_the_documented_examples_are_yaml():
    page = (SHIPPED_SPACES.parent / "docs" / "search-spaces.md").read_text()
    examples = [block.partition("```")[0] for block in page.split("```yaml\n")[1:]]
    assert all(isinstance(yaml.safe_load(example), dict) for example in examples)
