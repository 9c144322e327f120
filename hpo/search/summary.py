"""What a study came to, as rows that a person reads: on its MLflow run, in tables, in a report.

Everything here is read from Optuna's record, so that whoever finishes a trial can say it again in milliseconds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import timedelta
from statistics import fmean
from typing import TYPE_CHECKING, Any

from optuna.trial import FrozenTrial

from hpo.bundle.card import PARTS
from hpo.search.record import TrialRecord, state_name
from hpo.search.standing import ranked

if TYPE_CHECKING:
    from hpo.search.study import Exported

Row = dict[str, Any]
_ON_VAL = "validation posters, each decided by thresholds fitted without it (they chose the epochs: optimistic)"
CHAMPION = "★"  # marks its trial in a table
_LABEL_ACCURACY = "1 - Hamming loss"  # what the write-up calls accuracy: of single decisions
# The write-up's results table, with the accuracy of whole label sets beside it: column → metric of a trial.
_AVERAGES = {
    "F1 macro": "val/f1_macro",
    "F1 micro": "val/f1_micro",
    "precision": "val/precision_macro",
    "recall": "val/recall_macro",
    _LABEL_ACCURACY: "val/hamming_loss",
    "subset accuracy": "val/subset_accuracy",
    "mean AP": "val/mean_ap",
}


def standing_sentence(metric: str, best: FrozenTrial, champion: FrozenTrial, fresh: Sequence[float]) -> str:
    """Name the champion, what it was selected by, and the best single trial, which may be another.

    ``fresh`` are the champion's values on fresh seeds, none where it was not run again.
    """
    alone = "It is the best single trial." if best.number == champion.number else _single(best)
    if not fresh:
        return f"Champion: trial {champion.number}, {metric} {champion.value:.3f}. {alone}"
    return (
        f"Champion: trial {champion.number}, mean {metric} {fmean(fresh):.3f} over {in_fresh_seeds(len(fresh))} "
        f"({champion.value:.3f} on the seed that selected it). {alone}"
    )


def reported(
    attributes: Mapping[str, Any], champion: FrozenTrial | None, exported: Exported | None
) -> dict[str, Any] | None:
    """Return the figure of the champion to trust: ``value``, ``ci95``, what it was computed ``on``, and ``test``.

    That is what its trial noted, and what its bundle claims once it was exported; in five folds these are the same.
    ``test`` is its figure on the test posters, once exported. Of trials of an older hpo there is none.
    """
    if champion is None:
        return None
    if exported is not None and exported["trial"] == champion.number:
        return {key: exported[key] for key in ("value", "ci95", "on", "test")}
    noted = champion.user_attrs.get("reported")
    if noted is None:
        return None
    on = PARTS["cross_fitted"] if attributes.get("folds", 1) > 1 else _ON_VAL
    return {**noted, "on": on, "test": None}


def reported_sentence(metric: str, figure: Mapping[str, Any]) -> str:
    """Say what ``reported`` returned."""
    test = figure["test"]
    on_test = "" if test is None else f"; {in_interval(test)} on {test['n_posters']:,} test posters"
    return f"Reported: {metric} {in_interval(figure)} on {figure['on']}{on_test}."


def in_interval(figure: Mapping[str, Any]) -> str:
    """Return ``0.431 [0.402, 0.460]``: a value and its 95 % interval."""
    low, high = figure["ci95"]
    return f"{figure['value']:.3f} [{low:.3f}, {high:.3f}]"


def _single(best: FrozenTrial) -> str:
    return f"Best single trial: {best.number}, {best.value:.3f}."


def in_fresh_seeds(n: int) -> str:
    """Return "1 fresh seed" or "2 fresh seeds"."""
    return f"{n} fresh seed{'' if n == 1 else 's'}"


def leaderboard_rows(trials: Sequence[FrozenTrial], most: int, champion: int | None = None) -> list[Row]:
    """Return the best ``most`` complete trials, best first, with the averages of the write-up's results table.

    The trial of the number ``champion`` is marked.
    """
    rows = [_row(trial) for trial in ranked(trials)[:most]]
    return [{**row, "trial": f"{row['trial']} {CHAMPION}"} if row["number"] == champion else row for row in rows]


def backbone_rows(trials: Sequence[FrozenTrial]) -> list[Row]:
    """Return the best trial of each backbone, best first, and how many trials each had."""
    tried = Counter(_backbone(trial) for trial in trials if trial.state.is_finished())
    first: dict[str, FrozenTrial] = {}
    for trial in ranked(trials):
        first.setdefault(_backbone(trial), trial)
    return [{"backbone": name, **_row(trial), "trials": tried[name]} for name, trial in first.items()]


def _row(trial: FrozenTrial) -> Row:
    metrics = trial.user_attrs.get("metrics", {})
    values = {column: metrics[key] for column, key in _AVERAGES.items() if key in metrics}
    if _LABEL_ACCURACY in values:
        values[_LABEL_ACCURACY] = 1.0 - values[_LABEL_ACCURACY]
    noted = trial.user_attrs.get("reported")  # trials of an older hpo have none
    figure = "–" if noted is None else in_interval(noted)
    return {"trial": TrialRecord.of(trial).name, "number": trial.number, "reported [95 %]": figure, **values}


def _backbone(trial: FrozenTrial) -> str:
    chosen: Mapping[str, Any] = trial.user_attrs.get("chosen", trial.params)
    return str(chosen.get("backbone", "none chosen"))


def threshold_rows(trial: FrozenTrial) -> list[Row]:
    """Return each label of a complete trial with its threshold and what it scores there."""
    metrics = trial.user_attrs.get("metrics", {})
    labels = [key.partition("/")[2] for key in metrics if key.startswith("threshold/")]
    return [
        {
            "label": label,
            "threshold": metrics[f"threshold/{label}"],
            **{name: metrics.get(f"val/{name}/{label}") for name in ("f1", "precision", "recall")},
            "posters": int(metrics.get(f"val/support/{label}", 0)),
        }
        for label in labels
    ]


def cost_sentence(trials: Sequence[FrozenTrial]) -> str:
    """Say how long the trials took, on what, and how many workers ran them."""
    durations = [trial.duration for trial in trials if trial.duration is not None]
    if not durations:
        return "No trial has ended yet."
    seconds: Counter[str] = Counter()
    for trial in trials:
        seconds.update(trial.user_attrs.get("seconds", {}))
    n_workers = len({trial.user_attrs.get("worker") for trial in trials if trial.duration is not None})
    workers = "one worker" if n_workers == 1 else f"{n_workers} workers"
    stages = ", ".join(f"{name} {_time(taken)}" for name, taken in seconds.most_common() if taken >= 1)
    spent = f" The complete ones spent it on {stages}." if stages else ""
    total = sum(duration.total_seconds() for duration in durations)
    return f"{len(durations)} trials took {_time(total)} in all, run by {workers}.{spent}"


def _time(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


def states_sentence(trials: Sequence[FrozenTrial], budget: int) -> str:
    """Count the trials by state, the budget beside them."""
    states = Counter(state_name(trial) for trial in trials)
    finished = states["complete"] + states["pruned"]
    others = ", ".join(f"{n} {state}" for state, n in sorted(states.items()) if state not in ("complete", "pruned"))
    return (
        f"{finished} of {budget} trials have finished: {states['complete']} complete, {states['pruned']} pruned"
        f"{f'; {others}' if others else ''}."
    )
