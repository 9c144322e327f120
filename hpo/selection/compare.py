"""Compare two models on the same posters, paired: bundles, registered versions or trials.

On posters that are given, both predict them again with their own thresholds. Without, two trials of one study (or the
versions made of them) are compared on the posters that the study judged them on, by the probabilities that they kept
and thresholds that are cross-fitted, so that neither profits from having seen the labels.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from hpo.bundle.description import Description
from hpo.bundle.predictor import Predictor
from hpo.bundle.trained_on import Digests, read_digests, trained_on
from hpo.data.splits.stratify import Rows
from hpo.errors import BundleError, DataError, StudyError
from hpo.evaluation.bootstrap import Difference, ThresholdedPredictions, paired_differences, paired_label_differences
from hpo.evaluation.counts import Bools
from hpo.evaluation.metrics import averages, predict, score
from hpo.evaluation.support import over_supported, with_macros
from hpo.evaluation.thresholds import cross_fit
from hpo.runtime.atomic import Array
from hpo.runtime.commands import command
from hpo.runtime.progress import ProgressFactory
from hpo.selection.context import StudyContext
from hpo.selection.labelled import Labelled
from hpo.settings import Paths
from hpo.study.study import Study
from hpo.study.trial_record import TrialRecord
from hpo.tracking.artifacts import download_network
from hpo.tracking.runs import Tracking
from hpo.trial.description import digests_of

_TRIAL = re.compile(r"#?(\d+)")


@dataclass(frozen=True, eq=False)
class Comparison:
    """What two models say of the same N posters, with L labels."""

    names: tuple[str, str]
    where: str  # which posters, and how thresholds came about
    images: tuple[str, ...]  # (N,)
    label_names: tuple[str, ...]
    targets: Bools  # (N, L)
    groups: Rows | None
    decided: tuple[ThresholdedPredictions, ThresholdedPredictions]
    labelled: Labelled | None = None  # the table, where one was given
    trained_on: tuple[Bools | None, Bools | None] = (None, None)  # (N,) by each; None: its bundle does not say

    def account(self, n_posters: int) -> dict[str, Any]:
        """Return what ``hpo compare --json`` prints: differences are B less A; ``n_posters`` are listed."""
        first, second = self.decided
        averaged = self._averaged(np.ones(len(self.targets), bool))
        by_label = paired_label_differences(first, second, self.targets, self.groups)
        scores = [score(one.probabilities, self.targets, one.thresholds, one.min_labels) for one in self.decided]
        return {
            "a": self.names[0],
            "b": self.names[1],
            "where": self.where,
            **averaged,
            **self._of_the_table(),
            "per_label": {
                name: {
                    "support": int(scores[0].support[at]),
                    "a": float(scores[0].f1[at]),
                    "b": float(scores[1].f1[at]),
                    **_plain(by_label[at]),
                }
                for at, name in enumerate(self.label_names)
            },
            "posters": self._most_different(n_posters),
        }

    def _of_the_table(self) -> dict[str, Any]:
        """What became of a table that was given, and what the two score on posters that neither was trained on."""
        if self.labelled is None:
            return {}
        known = [seen for seen in self.trained_on if seen is not None]
        others = ~np.any(known, axis=0) if known else np.zeros(len(self.targets), bool)
        return {
            **self.labelled.account(),
            "trained_on": {
                which: None if seen is None else int(seen.sum())
                for which, seen in zip("ab", self.trained_on, strict=True)
            },
            "not_trained_on": self._averaged(others) if others.any() and not others.all() else None,
        }

    def _averaged(self, rows: Bools) -> dict[str, Any]:
        """Compare by every average on some of the posters (N,); macro averages are over labels that some of them have.

        Decisions are made among all labels, whichever are averaged.
        """
        targets, groups = self.targets[rows], None if self.groups is None else self.groups[rows]
        models = [
            ThresholdedPredictions(np.asarray(one.probabilities)[rows], _of_rows(one.thresholds, rows), one.min_labels)
            for one in self.decided
        ]
        few = [over_supported(one, targets) for one in models]
        kept = few[0][1]
        differences: dict[str, Difference] = paired_differences(models[0], models[1], targets, groups)
        every = [averages(one.probabilities, targets, one.thresholds, one.min_labels) for one in models]
        if 0 < kept.shape[1] < targets.shape[1]:
            apart = paired_differences(few[0][0], few[1][0], kept, groups)
            differences = with_macros(differences, apart)
            every = [
                with_macros(whole, averages(one.probabilities, kept, one.thresholds))
                for whole, (one, _) in zip(every, few, strict=True)
            ]
        return {
            "n_posters": len(targets),
            "n_labels_averaged": kept.shape[1],
            "metrics": {
                name: {"a": every[0][name], "b": every[1][name], **_plain(difference)}
                for name, difference in differences.items()
            },
            "averages": {name: {"a": every[0][name], "b": every[1][name]} for name in every[0]},
        }

    def _most_different(self, n_posters: int) -> list[dict[str, Any]]:
        """The posters whose probabilities differ most, summed over labels."""
        tables = [np.asarray(one.probabilities) for one in self.decided]
        distance = np.abs(tables[0] - tables[1]).sum(axis=1)
        decisions = [predict(one.probabilities, one.thresholds, one.min_labels) for one in self.decided]
        return [
            {
                "image": self.images[row],
                "distance": float(distance[row]),
                "truth": self._named(self.targets[row]),
                "a": self._named(decisions[0][row]),
                "b": self._named(decisions[1][row]),
            }
            for row in np.argsort(-distance, kind="stable")[:n_posters].tolist()
        ]

    def _named(self, config: Bools) -> list[str]:
        return [name for name, yes in zip(self.label_names, config, strict=True) if yes]


def _of_rows(thresholds: ArrayLike, rows: Bools) -> Array:
    """Return thresholds (L,) as they are, and those of each poster (N, L) for some posters."""
    table = np.asarray(thresholds)
    return table[rows] if table.ndim > 1 else table


def _plain(difference: Any) -> dict[str, Any]:
    parts = asdict(difference)
    return {
        "difference": parts["value"],
        "ci95": [parts["low"], parts["high"]],
        "share_above_zero": parts["share_above_zero"],
    }


@dataclass(frozen=True)
class Contest:
    """Where the models of a comparison come from."""

    tracking: Tracking
    paths: Paths
    study: Study | None  # of which trials are meant by their number
    phase: ProgressFactory

    def on_posters(self, names: tuple[str, str], read: Callable[[Description], Labelled]) -> Comparison:
        """Let both models predict the posters that ``read`` finds for the first.

        Raises BundleError where the second has other labels, DataError where no poster can be decoded.
        """
        loaded = [self.model(name) for name in names]
        predictors = [predictor for predictor, _ in loaded]
        labelled = read(predictors[0].description)
        catalogue = labelled.catalogue
        labels = [predictor.description.label_names for predictor in predictors]
        if set(labels[0]) != set(labels[1]):
            differing = sorted(set(labels[0]) ^ set(labels[1]))
            raise BundleError(
                f"Expected two models of the same labels, got {names[0]} and {names[1]}, which differ in "
                f"{', '.join(differing[:5])}: compare models of one set of labels."
            )
        answered = []
        for predictor in predictors:
            with self.phase("predicting", len(catalogue)) as progress:
                answered.append(predictor.predict(catalogue.image_paths, progress))
        rows = list(answered[0].rows)
        labelled.broken.update({catalogue.image_paths[row]: reason for row, reason in answered[0].broken.items()})
        if not rows:
            raise DataError("Expected posters that can be decoded, got broken ones only: check --images.")
        order = [labels[1].index(name) for name in labels[0]]
        tables = answered[0].probabilities, answered[1].probabilities[:, order]
        thresholds = [np.array(predictor.description.thresholds) for predictor in predictors]
        at_least = [predictor.description.min_labels for predictor in predictors]
        files = [catalogue.image_paths[row] for row in rows]
        seen = [None if digests is None else trained_on(digests, files) for _, digests in loaded]
        return Comparison(
            names,
            "the given posters, each model at its own thresholds",
            tuple(map(str, files)),
            labels[0],
            catalogue.targets[rows],
            np.unique(np.array(catalogue.title_ids)[rows], return_inverse=True)[1],
            (
                ThresholdedPredictions(tables[0], thresholds[0], at_least[0]),
                ThresholdedPredictions(tables[1], thresholds[1][order], at_least[1]),
            ),
            labelled,
            (seen[0], seen[1]),
        )

    def on_the_study(self, names: tuple[str, str]) -> Comparison:
        """Compare two trials, or versions, of the study on the posters that it judged them on. Raises StudyError."""
        study = self._study_of(names)
        context = StudyContext.reopen(study, self.tracking, self.paths, self.phase)
        part, objective = context.trainer.judged_on, context.trainer.objective
        tables = [self._kept(context, name) for name in names]
        first, second = (
            ThresholdedPredictions(table, cross_fit(objective.strategy, table, part.targets, objective.metric))
            for table in tables
        )
        return Comparison(
            names,
            f"the posters that study {study.name!r} judged on, thresholds cross-fitted",
            tuple(f"{path}" for path in part.posters.paths),
            context.data.catalogue.label_names,
            part.targets,
            part.groups,
            (first, second),
        )

    def _study_of(self, names: Sequence[str]) -> Study:
        bundles = [name for name in names if self._is_bundle(name)]
        if bundles:
            raise DataError(
                f"Expected --data and --images to compare {bundles[0]} on, since a bundle on disk keeps no posters: "
                "name a table and its posters."
            )
        if self.study is None:
            raise StudyError("Expected a study whose trials are compared, got none: begin one with hpo search.")
        return self.study

    def _kept(self, context: StudyContext, name: str) -> Array:
        study, number = context.study, self._trial_number(name)
        if number is None:
            model, _, _ = _parsed(name)
            if model != study.name:
                raise StudyError(f"Expected a version of {study.name!r}, got {name}: name its --study, or give --data.")
            version = self.tracking.registry.version(*_parsed(name))
            title, weights = version.title, version.weights
        else:
            title, weights = f"trial {number}", {number: 1.0}
        probabilities = context.averaged({self._trial(study, trial).number: share for trial, share in weights.items()})
        if probabilities is None:
            raise StudyError(
                f"Expected the probabilities of {title} of study {study.name!r}, which were not kept: give --data and "
                "--images."
            )
        return probabilities

    def _trial(self, study: Study, number: int) -> TrialRecord:
        complete = {trial.number: trial for trial in study.top(None)}
        if number not in complete:
            raise StudyError(
                f"Expected a complete trial of study {study.name!r}, got {number}: see "
                f"{command('leaderboard', study=study.name)} for those."
            )
        return complete[number]

    def model(self, name: str) -> tuple[Predictor, Digests | None]:
        """Return the model that ``name`` means: a folder, ``models:/name@alias``, ``models:/name/3`` or a trial.

        With it come the digests of the posters that it was made from, where its bundle has them.
        """
        if self._is_bundle(name):
            return _loaded(Path(name))
        number = self._trial_number(name)
        with tempfile.TemporaryDirectory() as folder:
            if number is None:
                return _loaded(self.tracking.registry.download_version(*_parsed(name), Path(folder)))
            study = self._study_of([name])
            trial = self._trial(study, number)
            run_id = study.run_id(trial)
            kept = None if run_id is None else download_network(self.tracking, run_id, Path(folder))
            return _loaded(kept) if kept is not None else self._trained_again(study, trial)

    def _trained_again(self, study: Study, trial: TrialRecord) -> tuple[Predictor, Digests]:
        context = StudyContext.reopen(study, self.tracking, self.paths, self.phase)
        result = context.train_again(trial)
        return Predictor(context.describe(result), result.network), digests_of(context.data)

    def _is_bundle(self, name: str) -> bool:
        return not name.startswith("models:/") and self._trial_number(name) is None

    def _trial_number(self, name: str) -> int | None:
        found = _TRIAL.fullmatch(name)
        return None if found is None or Path(name).is_dir() else int(found[1])


def _loaded(folder: Path) -> tuple[Predictor, Digests | None]:
    return Predictor.load(folder), read_digests(folder)


def _parsed(name: str) -> tuple[str, str, str]:
    """Split ``models:/name@alias`` or ``models:/name/3`` into name, alias and version, one of which is empty."""
    rest = name.removeprefix("models:/")
    if "@" in rest:
        model, _, alias = rest.rpartition("@")
        return model, alias, ""
    model, _, version = rest.rpartition("/")
    if not version.isdecimal() or not model:
        raise DataError(f"Expected models:/NAME@ALIAS or models:/NAME/VERSION, got {name}: write it so.")
    return model, "", version
