"""What tests of bundles share: one of two backbones."""

from __future__ import annotations

import pytest

from hpo.bundle.bundle import save_bundle
from hpo.bundle.description import Preprocessing
from hpo.trial.objective import Objective
from hpo.trial.trial import TrialInputs, run_trial


@pytest.fixture(scope="module")
def fused(config, parts, source):
    """A trial of two backbones whose posters are interpolated differently."""
    return run_trial(
        config.model_copy(update={"backbone": "test_efficientnet+test_resnet"}),
        TrialInputs(*parts, source, Objective("f1_macro"), 0),
    )


@pytest.fixture(scope="module")
def fused_bundle(fused, description, tmp_path_factory):
    described = description.model_copy(
        update={
            "backbone": fused.config.backbone,
            "backbone_weights": tuple(backbone.source for backbone in fused.network.backbones),
            "preprocessing": tuple(Preprocessing.of(backbone, "squash") for backbone in fused.network.backbones),
            "params": fused.config,
        }
    )
    folder = tmp_path_factory.mktemp("fused") / "bundle"
    save_bundle(folder, described, fused.network, card="")
    return folder
