from __future__ import annotations

from pathlib import Path

import pytest

from hpo.doctor.proxy_task import NETWORKS, ProxyNetworks, open_proxy_task
from hpo.doctor.unused_parameters import Interaction, ParameterEffect, alternatives, examine, tried_values
from hpo.model.config import TrialConfig
from hpo.space.load import load_space
from hpo.space.schema import value_mistake

SPACE = """
parameters:
  backbone: {type: categorical, choices: [resnet50, vit_base_patch16_224, resnet50+vit_base_patch16_224]}
  image_size: native
  features: all_stages
  hidden_layers: {type: int, low: 0, high: 1}
  dropout: {type: float, low: 0.0, high: 0.5}
  width: {type: categorical, choices: [16, 32], when: {hidden_layers: [1]}}
  crop_scale: {type: float, low: 0.2, high: 0.8}
  compile: {type: categorical, choices: [true, false]}
  margin: {type: categorical, choices: [0.1]}
  max_seconds: {type: categorical, choices: [0.0, 600.0]}
  input_dropout: 0.0
  weight_decay: 0.01
  label_smoothing: 0.0
  focal_gamma: 0.0
  focal_alpha: 0.5
  learning_rate: 1e-3
  schedule: constant
  batch_size: {type: categorical, choices: [64, 128, 256]}
  epochs: 50
  patience: 5
"""


@pytest.fixture(scope="module")
def world():
    with open_proxy_task() as world:
        yield world


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory):
    file = tmp_path_factory.mktemp("space") / "mine.yaml"
    file.write_text(SPACE)
    return load_space(file)


@pytest.fixture(scope="module")
def findings(space, world) -> dict[str, ParameterEffect]:
    return {finding.parameter: finding for finding in examine(space, world, n_configurations=2)}


@pytest.mark.parametrize("name", ["default", "write_up", "fine_tune", "large"])
def test_every_parameter_of_every_shipped_space_changes_what_is_trained(world, name):
    shipped = load_space(Path(name))
    findings = examine(shipped, world, n_configurations=1)
    assert [finding.parameter for finding in findings] == [*shipped.searched, *shipped.fixed]
    assert [finding for finding in findings if finding.verdict != "changes" or finding.alike] == []


def test_a_parameter_that_nothing_reads_has_no_effect_and_what_it_needs_is_found(findings):
    assert findings["crop_scale"].verdict == "no effect"
    assert findings["crop_scale"].interaction == Interaction("crops", 0, 4)
    assert [name for name, finding in findings.items() if finding.verdict == "no effect"] == ["crop_scale"]


def test_a_parameter_that_is_idle_here_and_there_needs_a_condition(findings):
    dropout, width = findings["dropout"], findings["width"]
    assert 0 < dropout.active_in < dropout.of
    assert dropout.interaction == Interaction("hidden_layers", 0, 1)
    assert [name for name, finding in findings.items() if finding.needs_when] == ["dropout"]
    assert (width.verdict, width.active_in, width.interaction) == ("changes", width.of, None)


def test_what_changes_only_the_speed_and_what_has_no_choice_are_called_so(findings):
    assert findings["compile"].verdict == "speed only"
    assert (findings["margin"].verdict, findings["margin"].reason) == ("cannot apply", "it has one value only")


def test_limits_change_how_long_is_trained(findings):
    assert {findings[name].verdict for name in ("patience", "max_seconds", "epochs")} == {"changes"}


def test_networks_keep_values_apart_and_in_order(space):
    tried = tried_values(space)
    networks = ProxyNetworks(tried)
    base = space.rebuild({"backbone": "resnet50", "hidden_layers": 0, "batch_size": 64})

    def shrunk(name: str) -> list[object]:
        config = (base.model_copy(update={name: value}) for value in tried[name])
        return [getattr(networks.shrink(one, name), name) for one in config]

    assert shrunk("backbone") == [NETWORKS[0], NETWORKS[1], f"{NETWORKS[0]}+{NETWORKS[1]}"]
    for name in ("image_size", "batch_size", "epochs", "patience"):
        assert shrunk(name) == sorted(set(shrunk(name)))
    assert shrunk("learning_rate") == tried["learning_rate"]


@pytest.mark.parametrize("name", sorted(TrialConfig.model_fields.keys() - {"backbone"}))
@pytest.mark.parametrize("value", [None, 0, 0.5, 1, "none", False])
def test_every_hyperparameter_has_another_valid_value(name, value):
    others = alternatives(name, value)
    assert others
    assert value not in others
    assert [other for other in others if value_mistake(name, other)] == []
