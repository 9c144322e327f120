"""How a study went: the value of each trial, and the best so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from hpo.picture import Picture
from hpo.search.figures.style import BLUE, GREY, ORANGE, clean


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
