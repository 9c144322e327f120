"""From a study to a bundle on disk, with what it may claim: cross-validated, and on the untouched test posters."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial

from hpo.bundle.bundle import save_bundle
from hpo.bundle.card import model_card
from hpo.bundle.description import (
    CARD_FILE,
    DESCRIPTION_FILE,
    Description,
    Precision,
    load_description,
    replace_folder,
    write_description,
)
from hpo.bundle.predictor import Predictor
from hpo.data.catalogue.catalogue import Catalogue
from hpo.data.images import Phase
from hpo.data.options import DataOptions
from hpo.data.prepare import PreparedData, prepare_data
from hpo.data.shards import Array
from hpo.decision.baselines import constant_baselines
from hpo.decision.metrics import score
from hpo.decision.thresholds import cross_fit
from hpo.errors import BundleError, DataError, StudyError, TrackingError
from hpo.search.confirm import out_of_fold_probabilities
from hpo.search.describe import claim, describe, describe_network, measure
from hpo.search.ensemble import DEFAULT_MAX_MEMBERS, assemble, select_members
from hpo.search.places import Places
from hpo.search.pool import load_probabilities
from hpo.search.registry import Version
from hpo.search.study import Study
from hpo.search.tracking import Tracking
from hpo.search.trainer import Trainer


def evaluate(
    predictor: Predictor, catalogue: Catalogue, phase: Phase, min_labels: int | None = None
) -> tuple[dict[str, Any], list[Path]]:
    """Score a bundle on a catalogue whose label names are the bundle's; also return the posters that are broken.

    The keys are the contract of ``hpo evaluate --json``. ``min_labels`` replaces the bundle's own; where some are
    asked for, ``without_min_labels`` says what the averages would be otherwise.
    """
    with phase("predicting", len(catalogue)) as progress:
        predicted = predictor.predict(catalogue.image_paths, progress)
    broken = [catalogue.image_paths[row] for row in predicted.broken]
    if not predicted.rows:
        raise DataError(
            f"Expected posters that can be decoded, got {len(broken)} broken ones (the first is {broken[0]}): "
            "check --images."
        )
    described, rows = predictor.description, list(predicted.rows)
    at_least = described.min_labels if min_labels is None else min_labels
    titles = np.unique(np.array(catalogue.title_ids)[rows], return_inverse=True)[1]
    judged = (predicted.probabilities, catalogue.targets[rows], np.array(described.thresholds))
    found = measure(*judged, described.label_names, groups=titles, min_labels=at_least)
    if at_least:
        found["without_min_labels"] = score(*judged).headline()
    return found, broken


@dataclass(frozen=True)
class Exported:
    """A bundle on disk, and why it was not judged on test posters if it was not."""

    folder: Path
    title: str  # which version, or how many members
    description: Description
    untested: str | None = None


def export_best(
    study: Study,
    tracking: Tracking,
    places: Places,
    out: Path,
    phase: Phase,
    min_labels: int = 0,
    onnx: Precision | None = None,
) -> Exported:
    """Write the champion of ``study`` to ``out``, with what it scores on the test posters in its description.

    With ``onnx`` the same network lies beside it as a graph of that precision, compared on the test posters.
    Where the registry has none, since it refused or its name belongs to somebody else's model, the study's leader is
    trained again, to the same result. Raises StudyError when no trial is complete yet, BundleError when ``out`` is
    something else than a bundle.
    """
    champion, leader = _registered(study, tracking), study.leader()
    if champion is None and leader is not None:
        return _export_leader(study, leader, tracking, places, out, phase, min_labels, onnx)
    if champion is None:
        raise StudyError(f"Study {study.name!r} has no complete trial to export yet: go on with hpo search.")
    title = f"version {champion.version}, trial {champion.trial_number}"
    with _staged(out) as staged:
        tracking.registry.download_bundle(study.name, staged)
        described = load_description(staged)
        described = described.model_copy(update={"min_labels": _checked_min(min_labels, described)})
        _describe(staged, described)
        untested = None
        try:
            data = reopen_data(study, places, phase)
        except (DataError, StudyError) as error:
            untested = str(error)
        else:
            trainer = Trainer.of(study.attributes, data, places.cache_dir, phase)
            claims = _claims(described, study, champion.trial_number, tracking, data, trainer, phase)
            _judge(staged, data, claims, phase)
        _add_graph(staged, None if untested else data, onnx, phase)
    return Exported(out, title, load_description(out), untested)


def _registered(study: Study, tracking: Tracking) -> Version | None:
    try:
        return tracking.registry.champion(study.name)
    except TrackingError:
        return None


def _export_leader(
    study: Study,
    leader: FrozenTrial,
    tracking: Tracking,
    places: Places,
    out: Path,
    phase: Phase,
    min_labels: int,
    onnx: Precision | None,
) -> Exported:
    """Train the study's leader again and write it to ``out``."""
    data = reopen_data(study, places, phase)
    trainer = Trainer.of(study.attributes, data, places.cache_dir, phase)
    with _staged(out) as staged:
        result = trainer.repeat(leader, study.attributes["seed"])
        baselines = constant_baselines(trainer.train.targets, trainer.judged_on.targets)
        described = describe(study.attributes, data, baselines, result)
        described = described.model_copy(update={"min_labels": _checked_min(min_labels, described)})
        save_bundle(staged, described, result.network, card="")
        _judge(staged, data, _claims(described, study, leader.number, tracking, data, trainer, phase), phase)
        _add_graph(staged, data, onnx, phase)
    return Exported(out, f"trial {leader.number}, trained again", load_description(out))


def export_ensemble(
    study: Study,
    tracking: Tracking,
    places: Places,
    out: Path,
    phase: Phase,
    max_members: int = DEFAULT_MAX_MEMBERS,
    max_cost: float | None = None,
    min_labels: int = 0,
    flip_average: bool = False,
    onnx: Precision | None = None,
) -> Exported:
    """Write an ensemble of the study's trials to ``out``, judged like a champion, with ``onnx`` also as a graph.

    Raises StudyError when no trial kept its probabilities or the posters have changed.
    """
    data = reopen_data(study, places, phase)
    trainer = Trainer.of(study.attributes, data, places.cache_dir, phase)
    with _staged(out) as staged:
        selected = select_members(study, tracking, data, trainer, max_members, max_cost)
        assembled = assemble(selected, study, tracking, data, trainer, phase, flip_average)
        described = describe_network(
            study.attributes,
            data,
            assembled.network,
            assembled.thresholds,
            {"phase": "ensemble", "trials": [trial.number for trial in selected.trials], "baselines": {}},
        )
        described = described.model_copy(update={"min_labels": _checked_min(min_labels, described)})
        save_bundle(staged, described, assembled.network, card="")
        constants = constant_baselines(trainer.train.targets, trainer.judged_on.targets)
        _judge(staged, data, {"cross_fitted": (selected.claim, constants)}, phase)
        _add_graph(staged, data, onnx, phase)
    return Exported(out, f"an ensemble of {len(selected.trials)} trials", load_description(out))


@contextmanager
def _staged(out: Path) -> Iterator[Path]:
    """Yield a folder that takes the place of ``out`` when all went well. Raises BundleError when the disk refuses."""
    check_replaceable(out, force=True)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=".export-") as temporary:
            staged = Path(temporary) / "bundle"
            yield staged
            replace_folder(staged, out)
    except OSError as error:
        raise BundleError(
            f"The bundle could not be written to {out} ({error.strerror or error}): free some space or choose another "
            "folder with --out."
        ) from error


def _checked_min(min_labels: int, described: Description) -> int:
    n_labels = len(described.label_names)
    if min_labels > n_labels:
        raise BundleError(f"--min-labels expects at most the {n_labels} labels that there are, got {min_labels}.")
    return min_labels


def check_replaceable(out: Path, *, force: bool) -> None:
    """Raise BundleError when ``out`` holds something that is not a bundle, or, without ``force``, one."""
    try:
        is_empty = not out.exists() or (out.is_dir() and not any(out.iterdir()))
        is_bundle = (out / DESCRIPTION_FILE).is_file()
    except OSError as error:  # a name too long, a folder that may not be looked into
        raise BundleError(f"{out} cannot be written ({error.strerror}): choose another folder with --out.") from error
    if not (is_empty or is_bundle):
        raise BundleError(f"{out} exists and is not a bundle: choose another folder with --out.")
    if is_bundle and not force:
        raise BundleError(f"{out} exists already: give --force to replace it, or another folder to --out.")


Claims = Mapping[str, tuple[dict[str, Any], dict[str, dict[str, float]]]]  # part → scores, constant baselines


def _judge(folder: Path, data: PreparedData, claims: Claims, phase: Phase) -> None:
    """Add the honest scores to the bundle in ``folder``: on test posters, and what it claims."""
    predictor = Predictor.load(folder)
    described = predictor.description
    test = data.catalogue.take(data.split.test)
    on_test = evaluate(predictor, test, phase)[0], constant_baselines(data.part("train").targets, test.targets)
    judged = {**claims, "test": on_test}
    part = next(iter(judged))  # the test posters must do where nothing else is claimed
    metrics = {
        **described.metrics,
        **{name: scores for name, (scores, _) in judged.items()},
        "claim": claim(part, judged[part][0]),
        "baselines": {
            **described.metrics["baselines"],
            **{name: constants for name, (_, constants) in judged.items()},
        },
    }
    _describe(folder, described.model_copy(update={"metrics": metrics}))


def _add_graph(folder: Path, data: PreparedData | None, precision: Precision | None, phase: Phase) -> None:
    """Put an ONNX graph beside the weights, compared on the test posters, or on noise where they are not at hand."""
    if precision is None:
        return
    from hpo.bundle.graph import write_graph  # late: loads onnx, which hardly any export needs

    described = load_description(folder)
    posters, targets = None, None
    if data is not None:
        test = data.catalogue.take(data.split.test)
        posters, targets = test.image_paths, test.targets
    with phase("comparing the ONNX graph with PyTorch", 1) as progress:
        graph = write_graph(folder, described, precision, posters, targets)
        progress(1)
    _describe(folder, described.model_copy(update={"onnx": graph}))


def _describe(folder: Path, described: Description) -> None:
    write_description(folder, described)
    (folder / CARD_FILE).write_text(model_card(described), encoding="utf-8")


def _claims(
    described: Description,
    study: Study,
    number: int,
    tracking: Tracking,
    data: PreparedData,
    trainer: Trainer,
    phase: Phase,
) -> Claims:
    """Return what a trial may claim beside its test posters; folds of a fine-tuned one would take hours."""
    if trainer.n_folds > 1:
        probabilities = load_probabilities(tracking, study.run_id(study.trials()[number]), trainer.judged_on)
        return {} if probabilities is None else {"cross_fitted": _cross_fitted(described, probabilities, trainer)}
    if described.metrics.get("phase", "frozen") == "finetune":
        return {}
    part = trainer.train
    constants = constant_baselines(part.targets, part.targets)
    trained_epochs = int(study.trials()[number].user_attrs["best_epoch"])
    with phase("cross-validating the champion", len(part)) as progress:
        probabilities = out_of_fold_probabilities(
            described.params, trained_epochs, part, trainer.val, trainer.source, study.attributes["seed"], progress
        )
    scores = measure(
        probabilities,
        part.targets,
        np.array(described.thresholds),
        described.label_names,
        groups=part.groups,
        min_labels=described.min_labels,
    )
    return {"cross_validation": (scores, constants)}


def _cross_fitted(
    described: Description, probabilities: Array, trainer: Trainer
) -> tuple[dict[str, Any], dict[str, dict[str, float]]]:
    """Score out-of-fold probabilities at thresholds that did not see the poster either."""
    part, objective = trainer.judged_on, trainer.objective
    thresholds = cross_fit(objective.strategy, probabilities, part.targets, objective.metric)
    scores = measure(probabilities, part.targets, thresholds, described.label_names, groups=part.groups)
    return scores, constant_baselines(part.targets, part.targets)


def reopen_data(study: Study, places: Places, phase: Phase) -> PreparedData:
    """Prepare the study's posters again. Raises DataError or StudyError when they are not as they were."""
    options = DataOptions.model_validate(study.attributes["data"])
    data = prepare_data(options, places.cache_dir, phase)
    if data.fingerprints != study.attributes["fingerprints"]:
        raise StudyError(f"The posters of study {study.name!r} in {options.csv} have changed since the search.")
    return data
