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


@dataclass(frozen=True)
class StudyData:
    """The data options that a study was begun with."""

    data: Path
    images: Path
    rules: CatalogueRules
    val_size: int | float
    test_size: int | float
    seed: int
    cache_dir: Path

    @classmethod
    def of(cls, study: Study, cache_dir: Path) -> StudyData:
        """Read them back from the study."""
        known = study.attributes
        rules = CatalogueRules.model_validate(known["rules"])
        sizes = known["val_size"], known["test_size"]
        return cls(Path(known["data"]), Path(known["images"]), rules, *sizes, known["seed"], cache_dir)


@dataclass(frozen=True)
class Exported:
    """A bundle on disk, and why it was not judged on test posters if it was not."""

    folder: Path
    champion: Champion
    description: Description
    untested: str | None


def export_best(study: Study, tracking: Tracking, places: Places, out: Path, phase: Phase) -> Exported:
    """Write the champion of ``study`` to ``out``, with what it scores on the test posters in its description.

    Raises StudyError when there is no champion yet, BundleError when ``out`` is something else than a bundle.
    """
    champion = tracking.champion(study.name)
    if champion is None:
        raise StudyError(f"Study {study.name!r} has no complete trial to export yet: go on with hpo search.")
    check_replaceable(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".export-") as temporary:
        staged = Path(temporary) / "bundle"
        tracking.download_bundle(study.name, staged)
        untested = _judge_on_test(staged, study, places, phase)
        replace_folder(staged, out)
    return Exported(out, champion, load_description(out), untested)


def check_replaceable(out: Path) -> None:
    """Raise BundleError when ``out`` holds something that is not a bundle."""
    if out.exists() and not (out.is_dir() and ((out / "bundle.json").is_file() or not any(out.iterdir()))):
        raise BundleError(f"{out} exists and is not a bundle: choose another folder with --out.")


def _judge_on_test(folder: Path, study: Study, places: Places, phase: Phase) -> str | None:
    """Add the test scores to the bundle in ``folder``; return why not when the posters are not as they were."""
    try:
        data = reopen_data(study, places, phase)
    except (DataError, StudyError) as error:
        return str(error)
    predictor = Predictor.load(folder)
    test_rows = data.split.test
    measured, _ = evaluate(predictor, data.catalogue.take(test_rows), phase)
    baselines = constant_baselines(data.part("train").targets, data.catalogue.targets[test_rows])
    metrics = predictor.description.metrics
    described = predictor.description.model_copy(
        update={
            "metrics": {
                **metrics,
                "test": measured,
                "baselines": {**metrics["baselines"], "test": baselines},
            }
        }
    )
    write_description(folder, described)
    (folder / CARD_FILE).write_text(model_card(described), encoding="utf-8")
    return None


def reopen_data(study: Study, places: Places, phase: Phase) -> PreparedData:
    """Prepare the study's posters again. Raises DataError or StudyError when they are not as they were."""
    options = StudyData.of(study, places.cache_dir)
    data = prepare_data(options, default_image_size(_any_backbone(study)), phase)
    if data.fingerprints != study.attributes["fingerprints"]:
        raise StudyError(f"The posters of study {study.name!r} in {options.data} have changed since the search.")
    return data


def _any_backbone(study: Study) -> str:
    return str(study.attributes["backbones"][0])
