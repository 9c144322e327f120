"""Export a study's champion or ensemble as a bundle with its scores."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hpo.bundle.bundle import save_bundle
from hpo.bundle.description import (
    CARD_FILE,
    DESCRIPTION_FILE,
    Description,
    Precision,
    load_description,
    replace_folder,
    write_description,
)
from hpo.bundle.model_card import PARTS, model_card
from hpo.data.dataset import PreparedData
from hpo.errors import BundleError, DataError, StudyError, TrackingError, disk_cure
from hpo.runtime.progress import ProgressFactory
from hpo.selection.context import StudyContext
from hpo.selection.ensemble import DEFAULT_MAX_MEMBERS, assemble, describe_ensemble, select_members
from hpo.selection.evaluate import ScoresByPart, claims, with_scores
from hpo.settings import Paths
from hpo.study.attributes import ExportedScores as Claimed
from hpo.study.reproduction import command_of
from hpo.study.study import Study
from hpo.study.trial_record import TrialRecord
from hpo.tracking.registry import Version
from hpo.tracking.runs import Tracking
from hpo.trial.description import digests_of


@dataclass(frozen=True)
class Exported:
    """A bundle on disk, and why it was not judged on test posters if it was not."""

    folder: Path
    title: str  # which version, or how many members
    description: Description
    untested: str | None = None
    verdict: str | None = None  # of an ensemble: whether averaging is worth its cost


def export_best(
    study: Study,
    tracking: Tracking,
    paths: Paths,
    out: Path,
    phase: ProgressFactory,
    min_labels: int = 0,
    onnx: Precision | None = None,
    *,
    single: bool = False,
) -> Exported:
    """Write the champion of ``study`` to ``out``, with what it scores on the test posters in its description.

    ``single`` takes the best single trial where an average of trials is the champion.

    With ``onnx`` the same network lies beside it as a graph of that precision, compared on the test posters.
    Where the registry has none, since it refused or its name belongs to another model, or where its files cannot be
    read or are not those that were registered, the study's leader is trained again, to the same result. Raises
    StudyError when no trial is complete yet, BundleError when ``out`` is something else than a bundle, TrackingError
    where the champion's files are not at hand and neither are the posters to train it again.
    """
    champion, leader = _registered(study, tracking), study.leader()
    if single and leader is not None and champion is not None and champion.is_average:
        champion = _version_of(leader, study, tracking)
    if champion is None and leader is None:
        raise StudyError(
            f"Study {study.name!r} has no complete trial to export yet: continue with {command_of(study)}."
        )
    trials = [] if champion is None else list(champion.weights)
    with _staged(out) as staged:
        refusal = None if champion is None else _download(study, champion, tracking, staged)
        if champion is not None and refusal is None:
            title = f"version {champion.version}, {champion.title}"
            untested = _judge_champion(staged, champion, study, tracking, paths, phase, min_labels, onnx)
        elif leader is None:
            raise refusal or StudyError(f"Study {study.name!r} has no complete trial to train again.")
        else:
            try:
                context = StudyContext.reopen(study, tracking, paths, phase)
            except (DataError, StudyError) as error:
                raise refusal or error from error
            why = "" if champion is None else f", since the files of version {champion.version} are missing or damaged"
            title, untested, trials = f"trial {leader.number}, trained again{why}", None, [leader.number]
            _train_leader(staged, leader, context, phase, min_labels, onnx)
    described = load_description(out)
    if untested is None and not min_labels:  # which decides otherwise than the trial did
        study.note_exported(_claimed(trials, described))
    return Exported(out, title, described, untested)


def _claimed(trials: list[int], described: Description) -> Claimed:
    """Return what the bundle of one or several trials claims of the study's metric, for the study to remember."""
    metric, claim, test = (described.metrics[key] for key in ("metric", "claim", "test"))
    tested = {"value": test[metric], "ci95": test["ci95"][metric], "n_posters": test["n_posters"]}
    on = PARTS[claim["from"]]
    return {"trials": trials, "value": claim[metric], "ci95": claim["ci95"][metric], "on": on, "test": tested}


def _download(study: Study, version: Version, tracking: Tracking, staged: Path) -> TrackingError | None:
    """Copy a version's bundle to ``staged``, or return why it cannot be had."""
    try:
        tracking.registry.download_bundle(study.name, staged, version)
    except TrackingError as error:
        return error
    return None


def _judge_champion(
    staged: Path,
    champion: Version,
    study: Study,
    tracking: Tracking,
    paths: Paths,
    phase: ProgressFactory,
    min_labels: int,
    onnx: Precision | None,
) -> str | None:
    """Score the champion's bundle in ``staged`` on the test posters, or return why it cannot be."""
    described = load_description(staged)
    described = described.model_copy(update={"min_labels": _checked_min(min_labels, described)})
    _describe(staged, described)
    untested, data = None, None
    try:
        context = StudyContext.reopen(study, tracking, paths, phase)
    except (DataError, StudyError) as error:
        untested = str(error)
    else:
        data = context.data
        _judge(staged, data, _claims(champion, described, context, phase), phase)
    _add_graph(staged, data, onnx, phase)
    return untested


def _claims(champion: Version, described: Description, context: StudyContext, phase: ProgressFactory) -> ScoresByPart:
    """Return what a version may claim beside its test posters; of an average, what its description says."""
    if champion.trial_number is None:
        return {"cross_fitted": (described.metrics["cross_fitted"], context.baselines)}
    trial = context.study.trial(champion.trial_number)
    return {} if trial is None else claims(described, trial, context, phase)


def _version_of(trial: TrialRecord, study: Study, tracking: Tracking) -> Version | None:
    run_id = study.run_id(trial)
    return None if run_id is None else tracking.registry.version_of_trial(study.name, run_id)


def _registered(study: Study, tracking: Tracking) -> Version | None:
    try:
        return tracking.registry.champion(study.name)
    except TrackingError:
        return None


def _train_leader(
    staged: Path,
    leader: TrialRecord,
    context: StudyContext,
    phase: ProgressFactory,
    min_labels: int,
    onnx: Precision | None,
) -> None:
    """Train the study's leader again and write it to ``staged``."""
    result = context.train_again(leader)
    described = context.describe(result)
    described = described.model_copy(update={"min_labels": _checked_min(min_labels, described)})
    save_bundle(staged, described, result.network, card="", digests=digests_of(context.data))
    _judge(staged, context.data, claims(described, leader, context, phase), phase)
    _add_graph(staged, context.data, onnx, phase)


def export_ensemble(
    context: StudyContext,
    out: Path,
    phase: ProgressFactory,
    max_members: int = DEFAULT_MAX_MEMBERS,
    max_cost: float | None = None,
    min_labels: int = 0,
    flip_average: bool = False,
    onnx: Precision | None = None,
) -> Exported:
    """Write an ensemble of the study's trials to ``out``, judged like a champion, with ``onnx`` also as a graph.

    Raises StudyError when no trial kept its probabilities.
    """
    with _staged(out) as staged:
        selected = select_members(context, max_members, max_cost)
        assembled = assemble(selected, context, phase, flip_average)
        described = describe_ensemble(context, selected, assembled)
        described = described.model_copy(update={"min_labels": _checked_min(min_labels, described)})
        save_bundle(staged, described, assembled.network, card="", digests=digests_of(context.data))
        _judge(staged, context.data, {"cross_fitted": (selected.claim, context.baselines)}, phase)
        _add_graph(staged, context.data, onnx, phase)
    title, verdict = f"an ensemble of {len(selected.trials)} trials", selected.verdict(context.study.metric)
    return Exported(out, title, load_description(out), verdict=verdict)


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
            f"The bundle could not be written to {out} ({error.strerror or error}): {disk_cure(error)} or choose "
            "another folder with --out."
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


def _judge(folder: Path, data: PreparedData, claimed: ScoresByPart, phase: ProgressFactory) -> None:
    """Add the honest scores to the bundle in ``folder``."""
    _describe(folder, with_scores(folder, data, claimed, phase))


def _add_graph(folder: Path, data: PreparedData | None, precision: Precision | None, phase: ProgressFactory) -> None:
    """Put an ONNX graph beside the weights, compared on the test posters, or on noise where they are not at hand."""
    if precision is None:
        return
    from hpo.bundle.onnx import write_graph  # late: loads onnx, which hardly any export needs

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
