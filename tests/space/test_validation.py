"""Every way to write a space wrongly, and the one line that says so."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from hpo.errors import BackboneError, SpaceError
from hpo.space.load import load_space
from hpo.space.schema import allowed

RIGHT = """
parameters:
  backbone: {type: categorical, choices: [resnet18, resnet50]}
  features: {type: categorical, choices: [final, last_stage]}
  image_size: native
  hidden_layers: {type: int, low: 0, high: 2}
  width: {type: categorical, choices: [64, 128], when: {hidden_layers: [1, 2]}}
  input_dropout: {type: float, low: 0.0, high: 0.5}
  weight_decay: 0.01
  label_smoothing: 0.0
  focal_gamma: 2.0
  focal_alpha: 0.5
  learning_rate: 1e-3
  schedule: cosine
  batch_size: 64
  epochs: 20
  patience: 5
"""


def told(folder: Path, text: str, check=lambda _: None) -> list[str]:
    """The lines of the SpaceError, without its first."""
    (folder / "mine.yaml").write_text(text)
    with pytest.raises(SpaceError) as raised:
        load_space(folder / "mine.yaml", check)
    return str(raised.value).splitlines()[1:]


def with_line(name: str, line: str | None) -> str:
    """The right file with one parameter written otherwise, added, or (None) left out."""
    kept = [old for old in RIGHT.splitlines() if not old.startswith(f"  {name}:")]
    return "\n".join(kept if line is None else [*kept, f"  {name}: {line}"]) + "\n"


LINES = [
    ("learning_rate", None, "missing (AdamW's peak learning rate)"),
    ("learning_rate", "one", "expected a number above 0 and at most 1, got 'one'"),
    ("learning_rate", "1e", "expected a number above 0 and at most 1, got '1e'"),
    (
        "learning_rate",
        '"1e-5"',
        "expected a number above 0 and at most 1, got '1e-5' (in quotes it is text: take them away)",
    ),
    ("epochs", "0", "expected a whole number from 1 to 10000, got 0"),
    ("epochs", "[5]", "expected a whole number from 1 to 10000, got [5]"),
    ("epochs", "true", "expected a whole number from 1 to 10000, got True"),
    ("norm", "bach", "expected none, batch or layer, got 'bach' (did you mean 'batch'?)"),
    ("image_size", "nativ", "expected a whole number from 32 to 1024 or native, got 'nativ' (did you mean 'native'?)"),
    ("drop_out", "0.3", "there is no such parameter (did you mean 'dropout'?)"),
    ("l1", "{type: float, low: 0.0, high: 9.0}", "expected a number from 0 to 1, got 9.0"),
    ("l1", "{type: float, low: 0.3, high: 0.1}", "low must not exceed high, got low 0.3 and high 0.1"),
    ("l1", "{type: float, low: 0, high: 1, log: true}", "low must be > 0 when log is true, got 0.0"),
    (
        "l1",
        "{type: float, low: 0.1, high: 0.5, log: true, step: 0.1}",
        "step cannot be combined with log, got step 0.1",
    ),
    ("l1", "{type: float, low: 0, high: 1, step: 0.3}", "steps of 0.3 from low 0.0 never reach high 1.0"),
    (
        "l1",
        "{type: flaot, low: 0, high: 1}",
        "type: expected categorical, int or float, got 'flaot' (did you mean 'float'?)",
    ),
    ("l1", "{low: 0, high: 1}", "type: missing; expected categorical, int or float"),
    ("l1", "{type: float, low: 0.0}", "high: missing"),
    (
        "l1",
        '{type: float, low: "1e-5", high: 1}',
        "low: input should be a valid number, got '1e-5' (in quotes it is text: take them away)",
    ),
    ("l1", "{type: float, low: 0, high: 1, default: 2}", "default: expected a number from 0 to 1, got 2"),
    ("l1", "{type: float, low: 0, high: 0.5, default: 0.7}", "default: expected 0 to 0.5, got 0.7"),
    ("crops", "{type: int, low: 0, high: 8, step: 2, default: 3}", "default: expected 0 to 8, step 2, got 3"),
    ("norm", "{type: categorical, choices: [none, none]}", "choices: none stands there twice"),
    (
        "norm",
        "{type: categorical, choices: []}",
        "choices: list should have at least 1 item after validation, not 0, got []",
    ),
    (
        "shape",
        "{type: categorical, choices: [constant], when: {hiden_layers: [1]}}",
        "when.hiden_layers: there is no such parameter in this space (did you mean 'hidden_layers'?)",
    ),
    (
        "shape",
        "{type: categorical, choices: [constant], when: {hidden_layers: [3]}}",
        "when.hidden_layers: hidden_layers never takes 3",
    ),
    (
        "shape",
        "{type: categorical, choices: [constant], when: {hidden_layers: [4]}}",
        "when.hidden_layers: expected a whole number from 0 to 3, got 4",
    ),
    (
        "shape",
        "{type: categorical, choices: [constant], when: {epochs: [5]}}",
        "when.epochs: epochs is fixed at 20, so shape never applies",
    ),
    (
        "shape",
        "{type: categorical, choices: [constant], when: {input_dropout: [0.0]}}",
        "when.input_dropout: input_dropout is continuous and as good as never exactly 0: "
        "depend on a categorical or an int",
    ),
    (
        "shape",
        "{type: categorical, choices: [constant], when: {shape: [constant]}}",
        "when: expected conditions that come to an end, got a circle (shape depends on shape)",
    ),
    (
        "patience",
        "{type: int, low: 1, high: 5, when: {hidden_layers: [1]}}",
        "when: every trial needs patience, so it cannot depend on another parameter",
    ),
    ("backbone", "resnet18+resnet18", "expected different names around each +, got 'resnet18+resnet18'"),
]


@pytest.mark.parametrize(("name", "line", "mistake"), LINES, ids=[f"{name}: {line}" for name, line, _ in LINES])
def test_a_mistake_in_a_parameter(tmp_path, name, line, mistake):
    dot = "." if mistake.startswith("when") else ": "
    assert told(tmp_path, with_line(name, line)) == [f"  mine.yaml: parameters.{name}{dot}{mistake}"]


def test_an_unknown_word_names_the_known_ones(tmp_path):
    [line] = told(tmp_path, with_line("l1", "{type: float, low: 0, high: 1, hihg: 3}"))
    assert line.startswith("  mine.yaml: parameters.l1: hihg: expected one of ")
    assert line.endswith("(did you mean 'high'?)")


SECTIONS = [
    ("recipes: {a: {epochs: 3}}", "recipes.a.epochs: is fixed at 20 in this space, got 3"),
    ("recipes: {a: {width: 65, hidden_layers: 1}}", "recipes.a.width: expected 64 or 128, got 65"),
    ("recipes: {a: {hidden_layers: 1.5}}", "recipes.a.hidden_layers: expected a whole number from 0 to 3, got 1.5"),
    ("recipes: {a: 3}", "recipes.a: expected a mapping of parameters to values, got 3"),
    ("recipes: {a: null}", "recipes.a: expected a mapping of parameters to values, got None"),
    (
        "recipes: {a: {featurs: final}}",
        "recipes.a.featurs: there is no such parameter in this space (did you mean 'features'?)",
    ),
    (
        "recipes: {a: {hidden_layers: 0, width: 64}}",
        "recipes.a.width: does not apply in this recipe: width is there when hidden_layers is 1 or 2",
    ),
    ("recipe: {}", "recipe: expected one of include, parameters, recipes, weights, stages (did you mean 'recipes'?)"),
    ("include: 3", "include: expected a file or a list of files, got 3"),
    ("weights: hub", "weights: expected a mapping, got 'hub'"),
    ("weights: {resnet18: 3}", "weights.resnet18: expected auto, hub, random or the path of a file, got 3"),
    ("weights: {resnet8: hub}", "weights.resnet8: is no backbone of this space (did you mean 'resnet18'?)"),
    (
        "weights: {resnet18+resnet50: hub}",
        "weights.resnet18+resnet50: name the weights of resnet18 and resnet50 one by one",
    ),
]


@pytest.mark.parametrize(("section", "mistake"), SECTIONS)
def test_a_mistake_in_another_section(tmp_path, section, mistake):
    assert told(tmp_path, RIGHT + section) == [f"  mine.yaml: {mistake}"]


def test_all_mistakes_are_told_at_once(tmp_path):
    def check(name: str) -> None:
        raise BackboneError(f"nobody knows {name}")

    text = with_line("l1", "{type: float, low: 3, high: 1}").replace("epochs: 20", "epochs: 0")
    lines = told(tmp_path, f"{text}recipes: {{a: {{width: 65}}}}\nweights: {{vgg: hub}}\n", check)
    assert [line.split(": ")[1] for line in lines] == [
        "parameters.epochs", "parameters.l1", "parameters.l1", "recipes.a.width",
        "parameters.backbone", "parameters.backbone", "weights.vgg",
    ]  # fmt: skip
    assert "nobody knows resnet50" in lines[5]


def test_what_is_broken_is_not_blamed_a_second_time(tmp_path):
    text = with_line("hidden_layers", "{type: int, low: 0}") + "recipes: {a: {hidden_layers: 1, width: 64}}"
    assert told(tmp_path, text) == ["  mine.yaml: parameters.hidden_layers: high: missing"]


def test_a_circle_of_conditions_is_named(tmp_path):
    text = with_line("shape", "{type: categorical, choices: [constant], when: {block: [plain]}}")
    text += "  block: {type: categorical, choices: [plain], when: {shape: [constant]}}\n"
    [line] = told(tmp_path, text)
    assert "got a circle (" in line
    assert "shape depends on block" in line


HEADS = "  head: {type: categorical, choices: [dense, label_query]}\n"


def test_widths_that_attention_heads_do_not_divide_are_named(tmp_path):
    heads = "  attention_heads: {type: categorical, choices: [4, 6], when: {head: [label_query]}}\n"
    [line] = told(tmp_path, RIGHT + HEADS + heads)
    assert line == (
        "  mine.yaml: parameters.attention_heads: expected divisors of width where head is label_query, "
        "got 6 with width 256, 6 with width 64, 6 with width 128"  # 256 is the default, without hidden layers
    )


def test_widths_are_not_held_against_a_head_that_they_never_meet(tmp_path):
    text = with_line("width", "{type: categorical, choices: [65], when: {head: [dense]}}") + HEADS
    (tmp_path / "mine.yaml").write_text(text)
    assert load_space(tmp_path / "mine.yaml").searched["width"].when == {"head": ["dense"]}


def test_a_key_that_is_written_twice_is_refused(tmp_path):
    (tmp_path / "mine.yaml").write_text(RIGHT + "  epochs: 30\n")
    with pytest.raises(SpaceError, match=r"epochs is written twice in .*line 18"):
        load_space(tmp_path / "mine.yaml")


HOSTILE = {
    "a tag": RIGHT.replace("epochs: 20", "epochs: !!int x"),
    "a date's tag": RIGHT.replace("epochs: 20", "epochs: !!timestamp x"),
    "an empty hexadecimal": RIGHT.replace("epochs: 20", "epochs: 0x"),
    "nesting": "parameters: " + "[" * 3000 + "]" * 3000,
    "digits": RIGHT.replace("epochs: 20", f"epochs: {'9' * 5000}"),
    "aliases": "a0: &a0 [x, x]\n" + "".join(f"a{i + 1}: &a{i + 1} [{', '.join([f'*a{i}'] * 9)}]\n" for i in range(12)),
    "choices": with_line("width", f"{{type: categorical, choices: [{', '.join(map(str, range(1_000_000)))}]}}"),
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a4_a_hostile_space_is_refused(tmp_path, text):
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(SpaceError) as raised:
        load_space(tmp_path / "mine.yaml")
    assert len(str(raised.value)) < 3000


# Includes


def write(folder: Path, **files: str) -> Path:
    """Files by stem; the path of the last."""
    for stem, text in files.items():
        (folder / f"{stem}.yaml").write_text(text)
    return folder / f"{stem}.yaml"


def test_an_including_file_overrides_by_key(tmp_path):
    base = RIGHT + "recipes:\n  a: {hidden_layers: 1, width: 64}\n  b: {}\nweights: {resnet18: random, resnet50: hub}\n"
    mine = """
include: base.yaml
parameters:
  features: final
  backbone: {type: categorical, choices: [resnet18, resnet34]}
  l1: {type: float, low: 0.0, high: 0.1}
recipes: {b: null, c: {backbone: resnet34}}
weights: {resnet34: hub}
"""
    space = load_space(write(tmp_path, base=base, mine=mine))
    assert space.name == "mine"
    assert [*space.searched] == ["backbone", "hidden_layers", "width", "input_dropout", "l1"]
    assert space.fixed["features"] == "final"
    assert [*space.recipes] == ["a", "c"]
    assert space.weights == {"resnet18": "random", "resnet34": "hub"}


def test_all_inherited_recipes_go_at_once(tmp_path):
    base = RIGHT + "recipes: {a: {hidden_layers: 1, width: 64}, b: {}}"
    mine = "include: base.yaml\nparameters: {backbone: {type: categorical, choices: [resnet34]}}\nrecipes: null"
    assert load_space(write(tmp_path, base=base, mine=mine)).recipes == {}


def test_the_same_space_in_pieces_is_the_same_space(tmp_path):
    parameters = RIGHT.splitlines()[2:]
    pieces = ["\n".join(["parameters:", *lines]) for lines in (parameters[:5], parameters[5:])]
    path = write(tmp_path, first=pieces[0], second=pieces[1], mine="include: [second.yaml, first.yaml]")
    assert load_space(path).fingerprint == load_space(write(tmp_path, whole=RIGHT)).fingerprint


def test_an_inherited_recipe_gives_way_to_what_is_fixed(tmp_path):
    base = RIGHT + "recipes: {a: {hidden_layers: 1, width: 64}}"
    fixed = load_space(write(tmp_path, base=base, mine="include: base.yaml\nparameters: {hidden_layers: 0}"))
    assert fixed.recipe("a") == {}  # width does not apply any more


def test_an_inherited_condition_on_a_value_that_is_gone_is_never_met(tmp_path):
    mine = "include: base.yaml\nparameters: {hidden_layers: {type: int, low: 0, high: 1}}"
    assert load_space(write(tmp_path, base=RIGHT, mine=mine)).searched["width"].when == {"hidden_layers": [1, 2]}


def test_an_inherited_recipe_outside_the_space_is_named_with_its_file_and_a_cure(tmp_path):
    mine = "include: base.yaml\nparameters: {backbone: {type: categorical, choices: [resnet34]}}"
    base = RIGHT + "recipes: {a: {backbone: resnet18}}"
    write(tmp_path, base=base)
    assert told(tmp_path, mine) == [
        "  base.yaml: recipes.a.backbone: expected resnet34, got 'resnet18'; or take it out: a: null"
    ]


def test_a_mistake_names_the_file_in_which_it_is_written(tmp_path):
    (tmp_path / "parts").mkdir()
    write(tmp_path / "parts", base=RIGHT.replace("epochs: 20", "epochs: 0"), mine="include: base.yaml\nrecipe: {}\n")
    lines = told(tmp_path, "include: parts/mine.yaml\nparameters: {patience: 0}")
    assert [line.split(": ")[:2] for line in lines] == [
        [f"  {Path('parts') / 'mine.yaml'}", "recipe"],
        [f"  {Path('parts') / 'base.yaml'}", "parameters.epochs"],
        ["  mine.yaml", "parameters.patience"],
    ]


def test_a_shipped_space_is_included_by_name(tmp_path):
    space = load_space(write(tmp_path, mine="include: write_up\nparameters: {epochs: 3}"))
    assert space.fixed["epochs"] == 3
    assert len(space.backbones) == 3


def test_a_circle_of_includes_and_a_missing_one_are_named(tmp_path):
    path = write(tmp_path, b="include: a.yaml", a="include: b.yaml")
    with pytest.raises(SpaceError, match=r"got a circle \(a\.yaml includes b\.yaml includes a\.yaml\)"):
        load_space(path)
    with pytest.raises(SpaceError, match=r"^mine\.yaml: include: .*writ_up, found no such file \(did you mean 'write_"):
        load_space(write(tmp_path, mine="include: writ_up"))


# What is allowed, in words


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("focal_gamma_negatives", "a number from 0 to 8 or null"),
        ("compile", "true or false"),
        ("backbone", "text"),
        ("dropout", "a number at least 0 and below 1"),
        ("max_seconds", "a number at least 0"),
    ],
)
def test_what_a_hyperparameter_may_be(name, words):
    assert allowed(name) == words


def test_checking_a_space_needs_no_torch():
    import subprocess

    code = "import sys; from pathlib import Path; from hpo.space.load import load_space; "
    code += "load_space(Path('default')); print('torch' in sys.modules, 'timm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.split() == ["False"] * 2
