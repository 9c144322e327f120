"""How a model decides, label by label: what its probabilities can do, where they are cut, and what it confuses."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hpo.decision.counts import Bools, Floats, ratio
from hpo.decision.curves import Curve, curve_of, reliability
from hpo.decision.metrics import predict
from hpo.decision.thresholds import Thresholds, fit
from hpo.picture import Picture
from hpo.search.figures.style import BLUE, GREY, ORANGE, PALE, clean, grid

_RESAMPLES = 30  # of the posters, for the spread of a cut
_MOST_LABELS = 40  # in one figure; the rarest are left out


def decision_figures(
    probabilities: Floats, targets: Bools, thresholds: Thresholds, label_names: Sequence[str]
) -> dict[str, Figure]:
    """Return figures by name for probabilities (N, L), targets (N, L) and the thresholds fitted on them."""
    shown = np.sort(np.argsort(-targets.sum(axis=0), kind="stable")[:_MOST_LABELS])
    names = [label_names[at] for at in shown]
    curves = [curve_of(probabilities[:, at], targets[:, at]) for at in shown]
    low, high = spread_of_cuts(probabilities, targets, thresholds)
    cuts = [(float(thresholds.values[at]), float(low[at]), float(high[at])) for at in shown]
    return {
        "precision-recall": _precision_recall(curves, cuts, names),
        "f1-by-threshold": _f1_by_threshold(curves, cuts, names),
        "reliability": _reliability(probabilities[:, shown], targets[:, shown], names),
        "confusions": _confusions(predict(probabilities, thresholds.values)[:, shown], targets[:, shown], names),
    }


def spread_of_cuts(probabilities: Floats, targets: Bools, thresholds: Thresholds) -> tuple[Floats, Floats]:
    """Return the 5th and 95th percentile (L,) of the cuts that the same strategy finds on resampled posters."""
    rng = np.random.default_rng(0)
    n_posters = len(targets)
    cuts = []
    for _ in range(_RESAMPLES):
        drawn = rng.integers(n_posters, size=n_posters)
        cuts.append(fit(thresholds.strategy, probabilities[drawn], targets[drawn], thresholds.metric).values)
    low, high = np.percentile(cuts, (5, 95), axis=0)
    return low, high


Cut = tuple[float, float, float]  # chosen, and from where to where it lies on resampled posters


def _precision_recall(curves: Sequence[Curve], cuts: Sequence[Cut], names: Sequence[str]) -> Figure:
    figure, panels = grid(len(names), "Precision against recall; the dot is the chosen threshold")
    for axes, curve, (cut, _, _), name in zip(panels, curves, cuts, names, strict=True):
        clean(axes, f"{name} (AP {curve.average_precision:.2f})", "recall", "precision")
        axes.step(curve.recall, curve.precision, where="post", color=BLUE, linewidth=1)
        axes.axhline(curve.share, color=GREY, linewidth=0.8, linestyle=":")
        at = curve.at(cut)
        if at is not None:
            axes.plot(curve.recall[at], curve.precision[at], "o", color=ORANGE, markersize=5)
        axes.set(xlim=(0, 1), ylim=(0, 1))
    return figure


def _f1_by_threshold(curves: Sequence[Curve], cuts: Sequence[Cut], names: Sequence[str]) -> Figure:
    figure, panels = grid(len(names), "F1 against threshold; the band is where 90 % of resampled posters put the cut")
    for axes, curve, (cut, low, high), name in zip(panels, curves, cuts, names, strict=True):
        clean(axes, name, "threshold", "F1")
        axes.axvspan(low, high, color=PALE)
        axes.plot(curve.thresholds, curve.f1, color=BLUE, linewidth=1)
        axes.axvline(cut, color=ORANGE, linewidth=1)
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
