"""Write the study report: one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from hpo.bundle.model_card import rounded
from hpo.data.dataset import Part, PreparedData
from hpo.data.summary import kept_together, split_rows
from hpo.errors import DataError, StudyError, TrackingError
from hpo.evaluation.metrics import predict
from hpo.report.charts import charts, plotly_code
from hpo.report.gallery import GalleryPicture, check_replaceable, thumbnail, whole_or_absent
from hpo.runtime.atomic import Array
from hpo.runtime.progress import ProgressFactory
from hpo.selection.context import StudyContext
from hpo.selection.ensemble import Selected, select_members
from hpo.settings import Paths
from hpo.study.reproduction import command_of
from hpo.study.study import Study
from hpo.study.trial_record import TrialRecord, fresh_values
from hpo.tracking.runs import Tracking
from hpo.tracking.study_report import (
    ReportRow,
    backbone_rows,
    cost_sentence,
    leaderboard_rows,
    reported,
    reported_sentence,
    standing_sentence,
    states_sentence,
    threshold_rows,
)
from hpo.tracking.trial_run import TrialRun
from hpo.trial.objective import judged_posters

_TOP, _EXAMPLES, _THUMBNAIL_PX = 20, 6, 150


@dataclass(frozen=True)
class Example:
    """A poster that was judged, and what was said of it."""

    picture: GalleryPicture
    true_positives: tuple[str, ...]
    false_negatives: tuple[str, ...]
    false_positives: tuple[str, ...]


@dataclass(frozen=True)
class PageScores:
    """What needs the posters again: none of it where they are not at hand, and why."""

    data: PreparedData | None = None
    ensemble: Selected | None = None
    right: tuple[Example, ...] = ()
    wrong: tuple[Example, ...] = ()
    baselines: Mapping[str, Mapping[str, float]] | None = None
    why_not: str = ""


def write_report(
    out: Path, study: Study, tracking: Tracking, paths: Paths, phase: ProgressFactory, *, force: bool = False
) -> None:
    """Write the page of ``study`` to ``out``, whole or not at all.

    Raises DataError where ``out`` exists and ``force`` is not given, StudyError where no trial is complete.
    """
    check_replaceable(out, force=force, option="--out")
    leader = study.leader()
    if leader is None:
        raise StudyError(
            f"Study {study.name!r} has no complete trial to report on yet: continue with {command_of(study)}."
        )
    judged = _judged(study, leader, tracking, paths, phase)
    trials, metric = study.trials(), study.metric
    constant = {name: values[metric] for name, values in (judged.baselines or {}).items()}
    figure = reported(study.attributes.folds, leader, study.exported(), study.champion())
    environment = Environment(
        loader=PackageLoader("hpo.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    page = environment.get_template("report.html.j2").generate(
        study=study,
        metric=metric,
        posters=judged_posters(study.attributes.folds),
        leader=TrialRun.of(leader).name,
        value=leader.value,
        standing=standing_sentence(
            metric, study.best() or leader, leader, fresh_values(leader, study.run_again()), study.champion()
        ),
        reported=None if figure is None else reported_sentence(metric, figure),
        champion=study.champion(),
        states=states_sentence(trials, study.budget),
        cost=cost_sentence(trials),
        time_spent=study.attributes.time_spent,
        asked=_asked(study),
        backbones=_shown(backbone_rows(trials)),
        leaderboard=_shown(leaderboard_rows(trials, _TOP, study.champion_trials())),
        thresholds=_shown(threshold_rows(leader)),
        baselines=_baseline_rows(judged.baselines),
        splits=_split_rows(judged.data) if judged.data else [],
        together=kept_together(judged.data) if judged.data else "",
        ensemble=_ensemble_rows(judged.ensemble),
        verdict=judged.ensemble.verdict(metric) if judged.ensemble else None,
        ensemble_claim=judged.ensemble.claim if judged.ensemble else None,
        examples={"Decided right": judged.right, "Decided wrong": judged.wrong},
        why_not=judged.why_not,
        charts=charts(trials, metric, study.importances(), constant),
        command=command_of(study),
        made_with=leader.made_with,
        plotly=plotly_code(),
    )
    with whole_or_absent(out, "--out") as file:
        file.writelines(page)


def _asked(study: Study) -> list[ReportRow]:
    known = study.attributes
    asked = {
        "metric": known.metric,
        "objective": known.objective,
        "thresholds": known.thresholds,
        "folds": known.folds,
        "space": known.space,
        "seed": known.seed,
    }
    rows = [{"asked for": name, "value": value} for name, value in asked.items() if value is not None]
    return [*rows, {"asked for": "trials", "value": study.budget}]


def _shown(rows: Sequence[ReportRow]) -> list[ReportRow]:
    return [
        {
            key: f"{value:.3f}" if isinstance(value, float) else str(value)
            for key, value in row.items()
            if key != "number"
        }
        for row in rows
    ]


def _baseline_rows(baselines: Mapping[str, Mapping[str, float]] | None) -> list[ReportRow]:
    return [{"prediction": name, **rounded(values)} for name, values in (baselines or {}).items()]


def _split_rows(data: PreparedData) -> list[ReportRow]:
    """The share of each label in each part, in percent."""
    return [
        {key: f"{100 * value:.2f} %" if isinstance(value, float) else value for key, value in row.items()}
        for row in split_rows(data)
    ]


def _ensemble_rows(selected: Selected | None) -> list[ReportRow]:
    if selected is None:
        return []
    rows = zip(selected.trials, selected.weights, selected.steps, strict=True)
    return [
        {"trial": TrialRun.of(trial).name, "weight": f"{weight:.3f}", "value": f"{step.value:.3f}",
         "adds": f"{step.gain:+.4f}"}
        for trial, weight, step in rows
    ]  # fmt: skip


def _judged(study: Study, leader: TrialRecord, tracking: Tracking, paths: Paths, phase: ProgressFactory) -> PageScores:
    """What needs the posters themselves, or MLflow."""
    try:
        context = StudyContext.reopen(study, tracking, paths, phase)
        probabilities = context.probabilities(leader.number)
        selected = select_members(context)
    except (DataError, StudyError, TrackingError) as error:
        return PageScores(why_not=str(error))
    right: tuple[Example, ...] = ()
    wrong: tuple[Example, ...] = ()
    if probabilities is not None:
        part, names = context.trainer.judged_on, context.data.catalogue.label_names
        _, judged = context.trainer.objective.judge(probabilities, part.targets)
        right, wrong = _examples(part, probabilities, judged.thresholds.values, names)
    return PageScores(context.data, selected, right, wrong, context.baselines)


def _examples(
    part: Part, probabilities: Array, thresholds: Array, names: Sequence[str]
) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """The posters of which the model was surest, among those that it decided wholly right, and least right."""
    said, true = predict(probabilities, thresholds), part.targets
    n_wrong = (said != true).sum(axis=1)
    margin = np.abs(probabilities - thresholds).min(axis=1)
    whole = np.flatnonzero((n_wrong == 0) & (true.sum(axis=1) > 1))
    right = whole[np.argsort(-margin[whole], kind="stable")[:_EXAMPLES]]
    wrong = np.argsort(-n_wrong, kind="stable")[:_EXAMPLES]
    return tuple(
        tuple(
            Example(
                thumbnail(part.posters.paths[row], _THUMBNAIL_PX),
                _named(said[row] & true[row], names),
                _named(~said[row] & true[row], names),
                _named(said[row] & ~true[row], names),
            )
            for row in rows
        )
        for rows in (right, wrong)
    )  # type: ignore[return-value]


def _named(chosen: Array, names: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name, yes in zip(names, chosen, strict=True) if yes)
