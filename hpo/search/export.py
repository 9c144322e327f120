"""From the champion to a bundle on disk, judged on the test posters that no search has looked at."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hpo.bundle.bundle import CARD_FILE, Description, load_description, replace_folder, write_description
from hpo.bundle.card import model_card
from hpo.bundle.predictor import Predictor
from hpo.data.catalogue import Catalogue, CatalogueRules
from hpo.data.images import Phase
from hpo.decision.metrics import bootstrap_ci95, constant_baselines, score
from hpo.errors import BundleError, DataError, StudyError
from hpo.model.backbones import default_image_size
from hpo.search.options import Places
from hpo.search.prepare import PreparedData, prepare_data
from hpo.search.study import Study
from hpo.search.tracking import Champion, Tracking


def evaluate(predictor: Predictor, catalogue: Catalogue, phase: Phase) -> tuple[dict[str, Any], list[Path]]:
    """Score a bundle on a catalogue whose label names are the bundle's; also return the posters that are broken.

    The keys are the contract of ``hpo evaluate --json``.
    """
    with phase("predicting", len(catalogue)) as progress:
        predicted = predictor.predict(catalogue.image_paths, progress)
    broken = [catalogue.image_paths[row] for row in predicted.broken]
    if not predicted.rows:
        raise DataError(
            f"Expected posters that can be decoded, got {len(broken)} broken ones (the first is {broken[0]}): "
            "check --images."
        )
    described = predictor.description
    thresholds = np.array(described.thresholds)
    targets = catalogue.targets[list(predicted.rows)]
    scores = score(predicted.probabilities, targets, thresholds)
    intervals = bootstrap_ci95(predicted.probabilities, targets, thresholds)
    return {
        "n_posters": len(targets),
        **scores.headline(),
        "ci95": {metric: list(interval) for metric, interval in intervals.items()},
        "per_label": scores.per_label(described.label_names, thresholds),
    }, broken
