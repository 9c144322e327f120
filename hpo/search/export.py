"""From the champion to a bundle on disk, with what it may claim: cross-validated, and on the untouched test posters."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hpo.bundle.bundle import CARD_FILE, Description, load_description, replace_folder, write_description
from hpo.bundle.card import model_card
from hpo.bundle.predictor import Predictor
from hpo.data.catalogue.catalogue import Catalogue
from hpo.data.images import Phase
from hpo.data.options import DataOptions
from hpo.data.prepare import PreparedData, prepare_data
from hpo.decision.baselines import constant_baselines
from hpo.errors import BundleError, DataError, StudyError
from hpo.search.confirm import out_of_fold_probabilities
from hpo.search.describe import claim, measure
from hpo.search.places import Places
from hpo.search.source import FeatureSource
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
    targets = catalogue.targets[list(predicted.rows)]
    return measure(predicted.probabilities, targets, np.array(described.thresholds), described.label_names), broken


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
        untested = _judge(staged, study, champion.trial_number, places, phase)
        replace_folder(staged, out)
    return Exported(out, champion, load_description(out), untested)


def check_replaceable(out: Path) -> None:
    """Raise BundleError when ``out`` holds something that is not a bundle."""
    if out.exists() and not (out.is_dir() and ((out / "bundle.json").is_file() or not any(out.iterdir()))):
        raise BundleError(f"{out} exists and is not a bundle: choose another folder with --out.")


def _judge(folder: Path, study: Study, number: int, places: Places, phase: Phase) -> str | None:
    """Add the honest scores to the bundle in ``folder``; return why not when the posters are not as they were."""
    try:
        data = reopen_data(study, places, phase)
    except (DataError, StudyError) as error:
        return str(error)
    predictor = Predictor.load(folder)
    described = predictor.description
    test, train_targets = data.catalogue.take(data.split.test), data.part("train").targets
    judged = {"test": evaluate(predictor, test, phase)[0]}
    baselines = {"test": constant_baselines(train_targets, test.targets)}
    claimed = "test"
    if (
        described.metrics.get("phase", "frozen") == "frozen"
    ):  # folds of a fine-tuned classifier would take hours: test posters must do
        claimed = "cross_validation"
        judged[claimed] = _cross_validated(described, study, number, data, places, phase)
        baselines[claimed] = constant_baselines(train_targets, train_targets)
    metrics = {
        **described.metrics,
        **judged,
        "claim": claim(claimed, judged[claimed]),
        "baselines": {**described.metrics["baselines"], **baselines},
    }
    described = described.model_copy(update={"metrics": metrics})
    write_description(folder, described)
    (folder / CARD_FILE).write_text(model_card(described), encoding="utf-8")
    return None


def _cross_validated(
    described: Description, study: Study, number: int, data: PreparedData, places: Places, phase: Phase
) -> dict[str, Any]:
    source = FeatureSource(places.cache_dir, study.attributes["weights"], phase)
    trained_epochs = int(study.trials()[number].user_attrs["best_epoch"])
    train_part = data.part("train")
    with phase("cross-validating the champion", len(train_part.targets)) as progress:
        probabilities = out_of_fold_probabilities(
            described.params,
            trained_epochs,
            train_part,
            data.part("val"),
            source,
            study.attributes["seed"],
            progress,
        )
    return measure(probabilities, train_part.targets, np.array(described.thresholds), described.label_names)


def reopen_data(study: Study, places: Places, phase: Phase) -> PreparedData:
    """Prepare the study's posters again. Raises DataError or StudyError when they are not as they were."""
    options = DataOptions.model_validate(study.attributes["data"])
    data = prepare_data(options, places.cache_dir, phase)
    if data.fingerprints != study.attributes["fingerprints"]:
        raise StudyError(f"The posters of study {study.name!r} in {options.csv} have changed since the search.")
    return data
