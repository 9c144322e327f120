"""Plotly charts of a study for the HTML report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from hpo.study.trial_record import TrialRecord, ranked
from hpo.tracking.figures import learned, parameters_to_draw
from hpo.tracking.trial_run import TrialRun

BLUE, ORANGE, GREY = "#4c72b0", "#dd8452", "#8c8c94"
_COLOURS = {"complete": BLUE, "pruned": GREY, "failed": ORANGE}
_HEIGHT_PX = 340
_QUIET = {"displaylogo": False, "responsive": True, "modeBarButtonsToRemove": ["lasso2d", "select2d"]}


def plotly_code() -> str:
    """Return Plotly's JavaScript, which the charts of a page need once."""
    return str(get_plotlyjs())


def charts(
    trials: Sequence[TrialRecord], metric: str, importances: Mapping[str, float], baselines: Mapping[str, float]
) -> dict[str, str]:
    """Return HTML by title; what a study holds too little for is left out.

    ``importances`` are parameter → share, ``baselines`` name → value of the metric.
    """
    complete = ranked(trials)
    drawn: dict[str, go.Figure | None] = {
        f"{metric} by trial": _history(trials, metric, baselines) if complete else None,
        f"What makes {metric} good": _importance(importances) if importances else None,
        f"{metric} by the value of each parameter": _slices(complete, metric, importances) if complete else None,
        "How the best trials learned": _learning(complete, metric),
        "Who worked when": _timeline(trials),
    }
    return {title: _html(figure, at) for at, (title, figure) in enumerate(drawn.items()) if figure is not None}


def _html(figure: go.Figure, at: int) -> str:
    figure.update_layout(
        template="plotly_white",
        margin={"l": 60, "r": 20, "t": 20, "b": 50},
        font={"family": "system-ui, sans-serif", "size": 12},
        hoverlabel={"align": "left"},
    )
    return str(figure.to_html(full_html=False, include_plotlyjs=False, config=_QUIET, div_id=f"chart-{at}"))


def _history(trials: Sequence[TrialRecord], metric: str, baselines: Mapping[str, float]) -> go.Figure:
    figure = go.Figure(layout={"height": _HEIGHT_PX, "xaxis_title": "trial", "yaxis_title": metric})
    for state, mark in (("complete", "circle"), ("pruned", "x-thin-open")):
        of_state = [trial for trial in trials if trial.state == state and trial.value is not None]
        names = [TrialRun.of(trial).name for trial in of_state]
        figure.add_scatter(
            x=[trial.number for trial in of_state],
            y=[trial.value for trial in of_state],
            mode="markers",
            name=state,
            text=names,
            marker={"color": _COLOURS[state], "symbol": mark, "size": 7},
        )
    complete = sorted(ranked(trials), key=lambda trial: trial.number)
    best, values = float("-inf"), []
    for trial in complete:
        best = max(best, trial.value or 0.0)
        values.append(best)
    line = {"color": ORANGE, "shape": "hv"}
    figure.add_scatter(x=[t.number for t in complete], y=values, mode="lines", name="best so far", line=line)
    for value in sorted({round(value, 3) for value in baselines.values()}):
        alike = [name for name, other in baselines.items() if round(other, 3) == value]
        figure.add_hline(y=value, line={"color": GREY, "dash": "dot", "width": 1}, annotation_text=", ".join(alike))
    return figure


def _importance(importances: Mapping[str, float]) -> go.Figure:
    names, shares = list(importances)[::-1], list(importances.values())[::-1]
    figure = go.Figure(layout={"height": 80 + 22 * len(names), "xaxis_title": "share (PED-ANOVA)"})
    figure.add_bar(x=shares, y=names, orientation="h", marker={"color": BLUE})
    return figure


def _slices(complete: Sequence[TrialRecord], metric: str, importances: Mapping[str, float]) -> go.Figure | None:
    """One parameter at a time, chosen from a list, so that it can be read on a phone as well."""
    names = parameters_to_draw(complete, importances)
    if not names:
        return None
    figure = go.Figure(layout={"height": _HEIGHT_PX, "yaxis_title": metric})
    for at, name in enumerate(names):
        chosen = [trial for trial in complete if name in trial.params]
        figure.add_scatter(
            x=[trial.params[name] for trial in chosen],
            y=[trial.value for trial in chosen],
            mode="markers",
            name=name,
            visible=at == 0,
            showlegend=False,
            text=[TrialRun.of(trial).name for trial in chosen],
            marker={"color": [trial.number for trial in chosen], "colorscale": "Blues", "size": 8, "cmin": 0},
        )
    buttons = [
        {
            "label": name,
            "method": "update",
            "args": [
                {"visible": [at == shown for shown in range(len(names))]},
                {"xaxis": {"title": {"text": name}, "type": _axis(complete, name)}},
            ],
        }
        for at, name in enumerate(names)
    ]
    figure.update_layout(
        xaxis={"title": {"text": names[0]}, "type": _axis(complete, names[0])},
        updatemenus=[{"buttons": buttons, "x": 0, "xanchor": "left", "y": 1.18, "showactive": True}],
    )
    return figure


def _axis(complete: Sequence[TrialRecord], name: str) -> str:
    searched = next(trial.ranges[name] for trial in complete if name in trial.ranges)
    if searched.choices is not None:
        return "category"
    return "log" if searched.log else "linear"


def _learning(complete: Sequence[TrialRecord], metric: str) -> go.Figure | None:
    curves = learned(complete, metric)
    if not curves:
        return None
    figure = go.Figure(layout={"height": _HEIGHT_PX, "xaxis_title": "epoch", "yaxis_title": metric})
    for trial, epochs, values in curves:
        figure.add_scatter(x=epochs, y=values, mode="lines", name=TrialRun.of(trial).name)
    return figure


def _timeline(trials: Sequence[TrialRecord]) -> go.Figure | None:
    ended = [trial for trial in trials if trial.started and trial.ended and trial.duration]
    if not ended:
        return None
    workers = {trial.worker or "unknown" for trial in ended}
    figure = go.Figure(layout={"height": 120 + 40 * len(workers), "barmode": "overlay", "xaxis_type": "date"})
    for state, colour in _COLOURS.items():
        mine = [trial for trial in ended if trial.state == state]
        figure.add_bar(
            base=[trial.started for trial in mine],
            x=[1000 * trial.duration.total_seconds() for trial in mine if trial.duration],
            y=[trial.worker or "unknown" for trial in mine],
            orientation="h",
            name=state,
            marker={"color": colour, "line": {"color": "white", "width": 1}},
            text=[f"#{trial.number}" for trial in mine],
            textposition="none",
        )
    return figure
