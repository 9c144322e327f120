"""Matplotlib figures of a study and of its champion's decisions, for MLflow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
from matplotlib.figure import Figure

from hpo.evaluation.counts import Bools, Floats, ratio
from hpo.evaluation.metrics import Curve, curve_of, predict, reliability
from hpo.evaluation.thresholds import Thresholds, fit
from hpo.runtime.figure import Picture
from hpo.study.trial_record import ParameterRange, TrialRecord, ranked

# The look of every figure that a search logs: few lines, muted colours, no frame.

BLUE, ORANGE, GREY, PALE = "#4c72b0", "#dd8452", "#8c8c94", "#e8e8ee"
COLUMNS = 5  # of a grid of labels
_INCHES = 2.3  # of one panel


def clean(axes: Axes, title: str = "", x: str = "", y: str = "") -> Axes:
    """Give axes the common look."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=7)
    axes.set_title(title, loc="left", fontsize=9)
    axes.set_xlabel(x, fontsize=8)
    axes.set_ylabel(y, fontsize=8)
    return axes


def grid(n_panels: int, title: str) -> tuple[Figure, list[Axes]]:
    """Return a figure with a panel for each label, in rows of five."""
    n_columns = min(COLUMNS, n_panels)
    n_rows = -(-n_panels // n_columns)
    figure = Picture(figsize=(_INCHES * n_columns, 0.5 + _INCHES * n_rows), layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    return figure, [figure.add_subplot(n_rows, n_columns, at + 1) for at in range(n_panels)]


# How a study went: the value of each trial, and the best so far.


def progress_figure(
    values: Sequence[float | None], states: Sequence[str], metric: str, baselines: Mapping[str, float]
) -> Figure:
    """Draw the values of finished trials in their order, with the best so far and the constant baselines.

    ``values`` of trials that have none, such as failed ones, are None; ``states`` are complete, pruned or failed.
    """
    figure = Picture(figsize=(8, 4), layout="constrained")
    axes = clean(figure.add_subplot(), f"{metric} by trial", "trials finished", metric)
    numbers = np.arange(1, len(values) + 1)
    numeric = np.array([np.nan if value is None else value for value in values])
    for state, colour, mark in (("complete", BLUE, "o"), ("pruned", GREY, "x")):
        of_state = np.array([each == state for each in states], dtype=bool)
        axes.plot(numbers[of_state], numeric[of_state], mark, color=colour, markersize=4, label=state)
    complete = np.where([state == "complete" for state in states], numeric, -np.inf)
    best = np.maximum.accumulate(np.nan_to_num(complete, nan=-np.inf))
    known = np.isfinite(best)
    axes.step(numbers[known], best[known], where="post", color=ORANGE, label="best so far")
    for value, names in _by_height(baselines).items():
        axes.axhline(value, color=GREY, linewidth=0.8, linestyle=":")
        axes.annotate(", ".join(names), (1, value), fontsize=7, color=GREY, va="bottom")
    figure.legend(frameon=False, fontsize=8, loc="outside upper right", ncols=3)
    return figure


def _by_height(baselines: Mapping[str, float]) -> dict[float, list[str]]:
    """Put the names of baselines that are drawn as one line together."""
    names: dict[float, list[str]] = {}
    for name, value in baselines.items():
        names.setdefault(round(value, 2), []).append(name)
    return {baselines[alike[0]]: alike for alike in names.values()}


# Where a study has looked: which parameters matter, which values were good, who worked when, how the best learned.

_MOST_AXES = 8  # of parallel coordinates and slices
_MOST_CURVES = 5
_COLOURS = {"complete": BLUE, "pruned": GREY, "failed": ORANGE}
_POOR_TO_GOOD: Colormap = LinearSegmentedColormap.from_list("poor to good", [PALE, BLUE, ORANGE])


def study_figures(trials: Sequence[TrialRecord], metric: str, importances: Mapping[str, float]) -> dict[str, Figure]:
    """Return figures by name; those are left out for which a study holds too little yet.

    ``importances`` are parameter → share, the most important first; the others of the drawn ones come by name.
    """
    complete = ranked(trials)
    names = parameters_to_draw(complete, importances)
    figures = {}
    if importances:
        figures["importance"] = _importance(importances, metric)
    if len(complete) > 1 and names:
        figures["parallel-coordinates"] = _parallel_coordinates(complete, names, metric)
        figures["slices"] = _slices(complete, names, metric)
    if any(trial.duration for trial in trials):
        figures["timeline"] = _timeline(trials)
    if curves := learned(complete, metric):
        figures["learning-curves"] = _learning_curves(curves, metric)
    return figures


def parameters_to_draw(complete: Sequence[TrialRecord], importances: Mapping[str, float]) -> list[str]:
    """Return up to eight parameters that were chosen at all, the most important first."""
    chosen = {name for trial in complete for name in trial.params}
    ordered = [*(name for name in importances if name in chosen), *sorted(chosen - importances.keys())]
    return ordered[:_MOST_AXES]


def _importance(importances: Mapping[str, float], metric: str) -> Figure:
    figure = Picture(figsize=(7, 1 + 0.25 * len(importances)), layout="constrained")
    title = f"What makes {metric} good (PED-ANOVA)"
    axes = clean(figure.add_subplot(), title, "share of what sets good trials apart from the others")
    names, shares = list(importances)[::-1], list(importances.values())[::-1]
    axes.barh(range(len(names)), shares, color=BLUE, height=0.6)
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(left=False)
    return figure


@dataclass(frozen=True)
class Scale:
    """A parameter's values as positions in 0..1, and a few values with where they lie."""

    positions: Floats  # (N,), NaN where a trial has no such parameter
    ticks: list[tuple[float, str]]


def scale(trials: Sequence[TrialRecord], name: str) -> Scale:
    """Place the values that ``trials`` chose for a parameter; at least one of them has it."""
    values = [trial.params.get(name) for trial in trials]
    searched = next(trial.ranges[name] for trial in trials if name in trial.ranges)
    return _numbers(values, searched) if searched.choices is None else _categories(values, searched.choices)


def _categories(values: Sequence[Any], choices: Sequence[Any]) -> Scale:
    last = max(1, len(choices) - 1)
    at = {str(choice): index / last for index, choice in enumerate(choices)}
    positions = np.array([np.nan if value is None else at.get(str(value), np.nan) for value in values])
    return Scale(positions, [(position, _short(choice)) for choice, position in at.items()])


def _numbers(values: Sequence[Any], searched: ParameterRange) -> Scale:
    low, high = searched.low, searched.high
    numbers = np.array([np.nan if value is None else float(value) for value in values])
    shown = np.geomspace(low, high, 3) if searched.log else np.linspace(low, high, 3)
    if searched.log:
        low, high, numbers, places = np.log(low), np.log(high), np.log(numbers), np.log(shown)
    else:
        places = shown
    width = (high - low) or 1.0
    return Scale(
        (numbers - low) / width, [(float((p - low) / width), f"{v:.3g}") for p, v in zip(places, shown, strict=True)]
    )


def _short(choice: str) -> str:
    return choice.replace("tf_efficientnet_", "")


def _parallel_coordinates(complete: Sequence[TrialRecord], names: Sequence[str], metric: str) -> Figure:
    """One line a trial, from worst to best, so that the best lie on top; it breaks where a parameter has no effect."""
    figure = Picture(figsize=(1.5 * (len(names) + 1), 4), layout="constrained")
    axes = clean(figure.add_subplot(), f"Complete trials by parameter, the best {metric} in orange")
    values = _values(complete)
    shade = np.linspace(1.0, 0.0, len(complete))  # by rank: one poor trial would make all others alike
    scales = [scale(complete, name) for name in names]
    lines = np.column_stack([*(each.positions for each in scales), _relative(values)])
    for at in reversed(range(len(complete))):
        axes.plot(lines[at], color=_POOR_TO_GOOD(shade[at]), linewidth=1, marker="o", markersize=2)
    value_ticks = [(0.0, f"{values.min():.3f}"), (1.0, f"{values.max():.3f}")]
    for at, ticks in enumerate([*(each.ticks for each in scales), value_ticks]):
        axes.axvline(at, color=GREY, linewidth=0.6, zorder=0)
        for place, text in ticks:
            axes.annotate(text, (at, place), xytext=(3, 0), textcoords="offset points", fontsize=6, va="center")
    axes.set_xticks(range(len(names) + 1), [*names, metric], rotation=20, ha="right")
    axes.set_yticks([])
    axes.spines[["left", "bottom"]].set_visible(False)
    return figure


def _slices(complete: Sequence[TrialRecord], names: Sequence[str], metric: str) -> Figure:
    figure, panels = grid(len(names), f"{metric} by the value of each parameter; darker: later trials")
    values, numbers = _values(complete), np.array([trial.number for trial in complete])
    for axes, name in zip(panels, names, strict=True):
        placed = scale(complete, name)
        clean(axes, name)
        axes.scatter(placed.positions, values, c=numbers, cmap="Blues", edgecolors=GREY, linewidths=0.3, s=14)
        axes.set_xticks([place for place, _ in placed.ticks], [text for _, text in placed.ticks])
        axes.tick_params(axis="x", rotation=30)
    return figure


def _timeline(trials: Sequence[TrialRecord]) -> Figure:
    """One row a worker, one bar a trial, by wall-clock time."""
    ended = [trial for trial in trials if trial.started and trial.ended]
    workers = list(dict.fromkeys(trial.worker or "unknown" for trial in ended))
    figure = Picture(figsize=(9, 1 + 0.35 * len(workers)), layout="constrained")
    axes = clean(figure.add_subplot(), "Who worked when")
    for trial in ended:
        begun, done = date2num(trial.started), date2num(trial.ended)
        row = workers.index(trial.worker or "unknown")
        colour = _COLOURS.get(trial.state, GREY)
        axes.barh(row, done - begun, left=begun, height=0.6, color=colour, edgecolor="white", linewidth=0.5)
    _label_states(axes)
    locator = AutoDateLocator()
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    axes.set_yticks(range(len(workers)), workers)
    axes.invert_yaxis()
    figure.legend(frameon=False, fontsize=7, loc="outside upper right", ncols=3)
    return figure


def _label_states(axes: Axes) -> None:
    for state, colour in _COLOURS.items():
        axes.barh([np.nan], [np.nan], color=colour, label=state)


Learned = tuple[TrialRecord, list[int], list[float]]  # epochs, and the metric after each


def learned(complete: Sequence[TrialRecord], metric: str) -> list[Learned]:
    """Return how the best trials learned; of folds the mean, one that has ended counting with its last epoch."""
    return [(trial, *_mean_curve(curves)) for trial in complete if (curves := _curves(trial, metric))][:_MOST_CURVES]


def _learning_curves(top: Sequence[Learned], metric: str) -> Figure:
    figure = Picture(figsize=(8, 4), layout="constrained")
    axes = clean(figure.add_subplot(), f"How the best {len(top)} trials learned", "epoch", metric)
    for at, (trial, epochs, values) in enumerate(top):
        colour = _POOR_TO_GOOD(1.0 - 0.8 * at / _MOST_CURVES)
        axes.plot(epochs, values, color=colour, linewidth=1.2, label=f"#{trial.number}: {trial.value or 0.0:.3f}")
    figure.legend(frameon=False, fontsize=7, loc="outside upper right", ncols=len(top))
    return figure


def _curves(trial: TrialRecord, metric: str) -> list[list[tuple[int, float]]]:
    return [points for key, points in (trial.curve or {}).items() if key.endswith(f"val/{metric}") and points]


def _mean_curve(curves: Sequence[Sequence[tuple[int, float]]]) -> tuple[list[int], list[float]]:
    longest = max(len(curve) for curve in curves)
    epochs = [int(epoch) for epoch, _ in max(curves, key=len)]
    return epochs, [fmean(curve[min(at, len(curve) - 1)][1] for curve in curves) for at in range(longest)]


def _values(complete: Sequence[TrialRecord]) -> Floats:
    return np.array([trial.value or 0.0 for trial in complete])


def _relative(values: Floats) -> Floats:
    """Values in 0..1, from the lowest to the highest."""
    width = values.max() - values.min()
    return (values - values.min()) / width if width > 0 else np.ones_like(values)


_RESAMPLES = 30  # of the posters, for the spread of a threshold
_MOST_LABELS = 40  # in one figure; the rarest are left out


def decision_figures(
    probabilities: Floats, targets: Bools, thresholds: Thresholds, label_names: Sequence[str]
) -> dict[str, Figure]:
    """Return figures by name for probabilities (N, L), targets (N, L) and the thresholds fitted on them."""
    shown = np.sort(np.argsort(-targets.sum(axis=0), kind="stable")[:_MOST_LABELS])
    names = [label_names[at] for at in shown]
    curves = [curve_of(probabilities[:, at], targets[:, at]) for at in shown]
    low, high = spread_of_thresholds(probabilities, targets, thresholds)
    spreads = [(float(thresholds.values[at]), float(low[at]), float(high[at])) for at in shown]
    return {
        "precision-recall": _precision_recall(curves, spreads, names),
        "f1-by-threshold": _f1_by_threshold(curves, spreads, names),
        "reliability": _reliability(probabilities[:, shown], targets[:, shown], names),
        "confusions": _confusions(predict(probabilities, thresholds.values)[:, shown], targets[:, shown], names),
    }


def spread_of_thresholds(probabilities: Floats, targets: Bools, thresholds: Thresholds) -> tuple[Floats, Floats]:
    """Return the 5th and 95th percentile (L,) of the thresholds that the same strategy finds on resampled posters."""
    rng = np.random.default_rng(0)
    n_posters = len(targets)
    fitted = []
    for _ in range(_RESAMPLES):
        drawn = rng.integers(n_posters, size=n_posters)
        fitted.append(fit(thresholds.strategy, probabilities[drawn], targets[drawn], thresholds.metric).values)
    low, high = np.percentile(fitted, (5, 95), axis=0)
    return low, high


Spread = tuple[float, float, float]  # the threshold, and from where to where it lies on resampled posters


def _precision_recall(curves: Sequence[Curve], spreads: Sequence[Spread], names: Sequence[str]) -> Figure:
    figure, panels = grid(len(names), "Precision against recall; the dot is the chosen threshold")
    for axes, curve, (threshold, _, _), name in zip(panels, curves, spreads, names, strict=True):
        clean(axes, f"{name} (AP {curve.average_precision:.2f})", "recall", "precision")
        axes.step(curve.recall, curve.precision, where="post", color=BLUE, linewidth=1)
        axes.axhline(curve.share, color=GREY, linewidth=0.8, linestyle=":")
        at = curve.at(threshold)
        if at is not None:
            axes.plot(curve.recall[at], curve.precision[at], "o", color=ORANGE, markersize=5)
        axes.set(xlim=(0, 1), ylim=(0, 1))
    return figure


def _f1_by_threshold(curves: Sequence[Curve], spreads: Sequence[Spread], names: Sequence[str]) -> Figure:
    figure, panels = grid(len(names), "F1 against threshold; the band holds those of 90 % of resampled posters")
    for axes, curve, (threshold, low, high), name in zip(panels, curves, spreads, names, strict=True):
        clean(axes, name, "threshold", "F1")
        axes.axvspan(low, high, color=PALE)
        axes.plot(curve.thresholds, curve.f1, color=BLUE, linewidth=1)
        axes.axvline(threshold, color=ORANGE, linewidth=1)
        axes.set(xlim=(0, max(0.5, min(1.0, 1.5 * high))), ylim=(0, 1))
    return figure


def _reliability(probabilities: Floats, targets: Bools, names: Sequence[str]) -> Figure:
    figure, panels = grid(len(names), "Reliability: how often a label is right when it is given that probability")
    for at, (axes, name) in enumerate(zip(panels, names, strict=True)):
        said, true, counts = reliability(probabilities[:, at], targets[:, at])
        clean(axes, name, "probability", "share with the label")
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":")
        axes.plot(said, true, color=BLUE, linewidth=1)
        axes.scatter(said, true, s=4 + 60 * counts / max(1, counts.max()), color=BLUE)
        axes.set(xlim=(0, 1), ylim=(0, 1))
    return figure


def _confusions(predicted: Bools, targets: Bools, names: Sequence[str]) -> Figure:
    """Of posters that lack the column's label: how much oftener it is predicted where they have the row's."""
    false = (predicted & ~targets).astype(float)
    alone = ratio(targets.T.astype(float) @ false, targets.T.astype(float) @ (~targets).astype(float))  # (L, L)
    overall = ratio(false.sum(axis=0), (~targets).sum(axis=0))
    figure = Picture(figsize=(2.5 + 0.42 * len(names), 2 + 0.38 * len(names)), layout="constrained")
    axes = clean(figure.add_subplot(), "False alarms: how often the column is wrongly predicted where the row is true")
    shown = np.ma.masked_array(alone, np.eye(len(names), dtype=bool))
    picture = axes.imshow(shown, cmap="Blues", vmin=0, vmax=max(0.1, float(alone.max())))
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
    axes.set_yticks(range(len(names)), names)
    _write_cells(axes, alone, overall)
    figure.colorbar(picture, ax=axes, shrink=0.7, label="share of posters without the column's label")
    return figure


def _write_cells(axes: Axes, alone: Floats, overall: Floats) -> None:
    """Write the share into the cells that are half as common again as everywhere."""
    for row in range(len(alone)):
        for column in range(len(alone)):
            if row != column and alone[row, column] > 1.5 * overall[column]:
                share = alone[row, column]
                colour = "white" if share > alone.max() / 2 else "black"
                axes.annotate(f"{share:.2f}", (column, row), fontsize=6, ha="center", va="center", color=colour)
