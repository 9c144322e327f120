from __future__ import annotations

import io

import numpy as np
import pytest

from hpo.decision.thresholds import fit
from hpo.search.figures.decisions import decision_figures, spread_of_cuts
from hpo.search.figures.progress import progress_figure


@pytest.mark.parametrize("kind", ["plain", "no positive", "all equal", "two posters"])
def test_every_figure_of_decisions_is_drawn_whatever_the_posters(kind):
    rng = np.random.default_rng(0)
    n_posters = 2 if kind == "two posters" else 80
    targets = rng.random((n_posters, 6)) < 0.3
    probabilities = np.clip(0.3 + 0.3 * targets + rng.normal(0, 0.2, targets.shape), 0, 1)
    if kind == "no positive":
        targets[:, 2] = False
    if kind == "all equal":
        probabilities[:] = 0.5
    figures = decision_figures(probabilities, targets, fit("calibrated", probabilities, targets), "ABCDEF")
    assert figures.keys() == {"precision-recall", "f1-by-threshold", "reliability", "confusions"}
    for figure in figures.values():
        figure.savefig(io.BytesIO(), format="png", dpi=40)
    assert [axes.get_title(loc="left")[0] for axes in figures["f1-by-threshold"].axes] == list("ABCDEF")


def test_a_cut_lies_within_its_spread_which_shrinks_with_posters():
    rng = np.random.default_rng(0)
    targets = rng.random((2000, 3)) < 0.3
    probabilities = np.clip(0.3 + 0.3 * targets + rng.normal(0, 0.2, targets.shape), 0, 1)
    widths = []
    for n_posters in (100, 2000):
        fitted = fit("calibrated", probabilities[:n_posters], targets[:n_posters])
        low, high = spread_of_cuts(probabilities[:n_posters], targets[:n_posters], fitted)
        assert ((low <= fitted.values + 0.02) & (fitted.values - 0.02 <= high)).all()
        widths.append((high - low).mean())
    assert widths[1] < widths[0]


def test_progress_shows_every_trial_and_the_best_so_far():
    values, states = [0.2, None, 0.4, 0.1, 0.3], ["complete", "failed", "complete", "pruned", "complete"]
    baselines = {"every label": 0.301, "best constant set": 0.302, "prior sampling": 0.2}
    figure = progress_figure(values, states, "f1_macro", baselines)
    figure.savefig(io.BytesIO(), format="png")
    [axes] = figure.axes
    lines = {line.get_label(): line for line in axes.lines}
    assert lines["complete"].get_ydata().tolist() == [0.2, 0.4, 0.3]
    assert lines["pruned"].get_ydata().tolist() == [0.1]
    assert lines["best so far"].get_ydata().tolist() == [0.2, 0.2, 0.4, 0.4, 0.4]
    assert [text.get_text() for text in axes.texts] == ["every label, best constant set", "prior sampling"]


def test_a_study_without_a_complete_trial_is_drawn_as_well():
    progress_figure([0.1], ["pruned"], "mean_ap", {}).savefig(io.BytesIO(), format="png")
