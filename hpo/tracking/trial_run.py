"""A trial of a study in the form that its MLflow run shows.

A search notes everything with the trial in Optuna's database first. MLflow is written from that, by any process:
the worker that ran the trial, or `hpo sync` a week later on another machine (`mirror.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hpo.study.trial_record import TrialRecord
from hpo.trial.objective import FINETUNE_STEP

_DIGITS = 6  # of a metric, significant: what it is worth, in half the characters

LearningCurve = dict[str, list[tuple[int, float]]]  # metric → (epoch, value), in order of epoch


@dataclass(frozen=True)
class TrialRun:
    """One trial that has ended, in MLflow's words."""

    number: int
    state: str  # complete, pruned or failed
    params: Mapping[str, Any]
    metrics: Mapping[str, float]  # of the whole trial
    curve: LearningCurve
    tags: Mapping[str, str]
    name: str
    ended_ms: int | None  # since 1970

    @classmethod
    def of(cls, trial: TrialRecord) -> TrialRun:
        """Read the record of a trial that has ended."""
        return cls(
            number=trial.number,
            state=trial.state,
            params=trial.configuration,
            metrics=trial.metrics,
            curve={key: [(int(at), float(value)) for at, value in points] for key, points in _curve(trial).items()},
            tags=trial_tags(trial) | _end_tags(trial),
            name=run_name(trial.number, trial.configuration, trial.value if trial.state == "complete" else None),
            ended_ms=None if trial.ended is None else int(trial.ended.timestamp() * 1000),
        )


def trial_tags(trial: TrialRecord) -> dict[str, str]:
    """Return what a run says of its trial from the beginning."""
    known = {"worker": trial.worker, "recipe": trial.recipe, "warm_start": trial.warm_start, "retry_of": trial.retry_of}
    tags = {f"hpo.{what}": str(value) for what, value in {**known, **trial.made_with}.items() if value is not None}
    backbone = (trial.config or {}).get("backbone")
    return tags if backbone is None else {**tags, "hpo.backbone": str(backbone)}


def _end_tags(trial: TrialRecord) -> dict[str, str]:
    reason = trial.reason or trial.error or trial.lost
    tags = {} if reason is None else {"hpo.reason": str(reason)}
    if trial.pruned_after is not None:
        tags["hpo.pruned_after"] = str(trial.pruned_after)
    if trial.history:
        tags["hpo.history"] = "; ".join(f"#{e['trial']} {e['how']}: {e['why']}" for e in trial.history)
    return tags


def _curve(trial: TrialRecord) -> Mapping[str, Any]:
    """The curve that was noted; of a trial that was lost, what it had reported."""
    if trial.curve is not None:
        return trial.curve
    values = sorted(trial.reports.items())
    return {"val/objective": [(step % FINETUNE_STEP, value) for step, value in values]} if values else {}


def run_name(number: int, params: Mapping[str, Any], value: float | None = None) -> str:
    """Return a name that can be read in a list: ``#17 lite2 · 260 px · 2 × 512 · γ 1.4 · 0.463``."""
    return " ".join([f"#{number}", " · ".join(_words(params, value))]).strip()


def _words(params: Mapping[str, Any], value: float | None) -> list[str]:
    words = []
    if "backbone" in params:
        words.append(short_backbone(str(params["backbone"])))
    if isinstance(params.get("image_size"), int):
        words.append(f"{params['image_size']} px")
    if params.get("unfreeze", "none") != "none":
        words.append(str(params["unfreeze"]).replace("_", " "))
    if params.get("hidden_layers"):
        words.append(f"{params['hidden_layers']} × {params.get('width', '?')}")
    elif "hidden_layers" in params:
        words.append("linear")
    if params.get("focal_gamma"):
        words.append(f"γ {float(params['focal_gamma']):.1f}")
    return words if value is None else [*words, f"{value:.3f}"]


def short_backbone(name: str) -> str:
    """Return a backbone's name without what all of its kind share."""
    return name.replace("tf_efficientnet_", "")


class CurveKeeper:
    """Collects the metrics of epochs as they come."""

    def __init__(self) -> None:
        self.curve: LearningCurve = {}

    def add(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Keep the ``metrics`` of an epoch, counted from 1."""
        for key, value in metrics.items():
            self.curve.setdefault(key, []).append((epoch, rounded(value)))


def rounded(value: float) -> float:
    """Return a metric to as many digits as are kept."""
    return float(f"{value:.{_DIGITS}g}")
