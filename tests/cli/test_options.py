"""What options accept is what the registries hold, which would take seconds to import for ``hpo --help``."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from hpo.cli.options import Pruner, Sampler, Thresholds
from hpo.evaluation.thresholds import STRATEGIES
from hpo.study.pruners import PRUNERS
from hpo.study.samplers import SAMPLERS


@pytest.mark.parametrize(
    ("choices", "registry"), [(Thresholds, STRATEGIES), (Sampler, SAMPLERS), (Pruner, PRUNERS)],
    ids=["thresholds", "samplers", "pruners"],
)  # fmt: skip
def test_an_option_accepts_every_entry_of_its_registry_and_nothing_else(choices: Any, registry: dict[str, Any]) -> None:
    assert sorted(get_args(choices)) == sorted(registry)
