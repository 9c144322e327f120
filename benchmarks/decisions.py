"""What ranks trials, which thresholds hold, what averaging adds: `python -m benchmarks.decisions movie-posters`.

A hundred random trials of the default space, each stopped on val as in a search. The quarter of the posters that none
of them has seen is then halved again and again, groups kept whole: on one half objectives choose, thresholds are fitted
and ensembles selected, as a search does on val; the other says what that is worth. `HPO_CACHE_DIR` keeps features, and
a second argument names a file that keeps the trials' probabilities for another look.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from benchmarks.machine import log, phase, shared_posters
from hpo.data.dataset import DataOptions, Part, PreparedData, prepare_data
from hpo.data.splits.split import deal_folds
from hpo.data.table.rules import CatalogueRules
from hpo.evaluation import ensemble_selection as ensemble
from hpo.evaluation.metrics import score
from hpo.evaluation.thresholds import STRATEGIES, cross_fitted_scores, fit
from hpo.model.backbones.architectures import check_known
from hpo.model.training.loop import predict_probabilities
from hpo.runtime.atomic import Array
from hpo.space.load import load_space
from hpo.study.samplers import draw
from hpo.trial.features import FeatureSource, predicted_views
from hpo.trial.objective import Objective
from hpo.trial.trial import TrialInputs, run_trial

METRIC = "f1_macro"
TRIALS, HALVINGS, THRESHOLD_HALVINGS, BEST = 100, 20, 200, 10
OBJECTIVES: dict[str, Callable[[Array, Array], float]] = {
    "0.5, the same posters": lambda p, t: score(p, t, fit("fixed", p, t).values).value("f1_macro"),
    "exact, the same posters": lambda p, t: score(p, t, fit("per_label", p, t).values).value("f1_macro"),
    "calibrated, the same posters": lambda p, t: Objective(METRIC).judge(p, t)[0],
    "calibrated, cross-fitted": lambda p, t: cross_fitted_scores("calibrated", p, t).value("f1_macro"),
    "exact, cross-fitted": lambda p, t: cross_fitted_scores("per_label", p, t).value("f1_macro"),
    "mean AP": lambda p, t: score(p, t, fit("fixed", p, t).values).value("mean_ap"),
}


def main() -> None:
    """Measure and log."""
    name = sys.argv[1] if len(sys.argv) > 1 else "movie-posters"
    with tempfile.TemporaryDirectory() as folder:
        cache_dir = Path(os.environ.get("HPO_CACHE_DIR", folder))
        data = _prepare(name, cache_dir)
        unseen = data.part("test")
        tables, values = _kept(data, cache_dir)
    best_first = np.argsort(-values)
    lines = [
        f"{TRIALS} random trials of the default space; {len(unseen)} posters that none has seen, halved.\n",
        *_objectives(tables, unseen),
        "",
        *_strategies(tables[best_first[:BEST]], unseen),
        "",
        *_ensembles(tables[best_first], unseen),
    ]
    log(f"decisions on {name}", f"python -m benchmarks.decisions {name}", lines)


def _prepare(name: str, cache_dir: Path) -> PreparedData:
    csv, images = shared_posters(name)
    options = DataOptions(csv=csv, images=images, rules=CatalogueRules(), val_size=0.1, test_size=0.25, seed=0)
    return prepare_data(options, cache_dir, phase)


def _kept(data: PreparedData, cache_dir: Path) -> tuple[Array, Array]:
    """Return what `_trained` does, from the file of an earlier run where one is named and there."""
    file = Path(sys.argv[2]) if len(sys.argv) > 2 else None
    if file is None:
        return _trained(data, cache_dir)
    if not file.is_file():
        tables, values = _trained(data, cache_dir)
        np.savez(file, tables=tables, values=values)
    with np.load(file, allow_pickle=False) as kept:
        return kept["tables"], kept["values"]


def _trained(data: PreparedData, cache_dir: Path) -> tuple[Array, Array]:
    """Return the probabilities (K, N, L) of the test posters and each trial's value on val (K,)."""
    space = load_space(Path("default"), check_known)
    source = FeatureSource(cache_dir, {}, phase)
    train, val, test = (data.part(name) for name in ("train", "val", "test"))
    tables, values = [], []
    for at, params in enumerate(draw(space, TRIALS, seed=0)):
        config = space.rebuild(params)
        result = run_trial(config, TrialInputs(train, val, source, Objective(METRIC), seed=0))
        asked = source.examples(config, test, predicted_views(config))
        tables.append(predict_probabilities(result.classifiers[0].head, asked))
        values.append(result.value)
        print(f"trial {at}: {result.value:.4f}", file=sys.stderr, flush=True)
    return np.stack(tables), np.array(values)


def _halves(part: Part, seed: int) -> tuple[Array, Array]:
    groups = np.arange(len(part)) if part.groups is None else part.groups
    fold = deal_folds(part.targets, groups, 2, seed)
    return np.flatnonzero(fold == 0), np.flatnonzero(fold == 1)


def _reached(probabilities: Array, targets: Array, seen: Array, new: Array, strategy: str = "calibrated") -> float:
    thresholds = fit(strategy, probabilities[seen], targets[seen]).values
    return score(probabilities[new], targets[new], thresholds).value("f1_macro")


def _objectives(tables: Array, part: Part) -> list[str]:
    """Rank correlation with what trials reach on new posters, and what the trial that each objective selects does."""
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in OBJECTIVES}
    luckiest = []
    for seed in range(HALVINGS):
        seen, new = _halves(part, seed)
        reached = np.array([_reached(table, part.targets, seen, new) for table in tables])
        luckiest.append(reached.max())
        for name, objective in OBJECTIVES.items():
            values = np.array([objective(table[seen], part.targets[seen]) for table in tables])
            config = int(np.argmax(values))
            rank = float(spearmanr(values, reached).statistic)
            found[name].append((rank, float(reached[config]), float(values[config] - reached[config])))
    return [
        f"| objective | rank correlation with {METRIC} on new posters | {METRIC} of the selected trial "
        "| claimed less reached |",
        "| --- | --- | --- | --- |",
        *(_row(name, rows, ".3f", ".4f", "+.4f") for name, rows in found.items()),
        f"\nThe best trial of each half reaches {np.mean(luckiest):.4f}. "
        f"Mean ± standard error over {HALVINGS} halvings.",
    ]


def _strategies(tables: Array, part: Part) -> list[str]:
    """What each threshold strategy reaches on new posters, and how far its cross-fitted claim is from that."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in STRATEGIES}
    for seed in range(THRESHOLD_HALVINGS):
        seen, new = _halves(part, seed)
        table = tables[seed % len(tables)]
        for strategy in STRATEGIES:
            reached = _reached(table, part.targets, seen, new, strategy)
            claim = cross_fitted_scores(strategy, table[seen], part.targets[seen]).value("f1_macro")
            found[strategy].append((reached, claim - reached))
    return [
        f"| thresholds | {METRIC} on new posters | claimed less reached |",
        "| --- | --- | --- |",
        *(_row(name, rows, ".4f", "+.4f") for name, rows in found.items()),
        f"\nMean ± standard error over {THRESHOLD_HALVINGS} halvings of the {BEST} best trials.",
    ]


def _ensembles(tables: Array, part: Part) -> list[str]:
    """What averages of trials reach; ``tables`` come best on val first."""
    found: dict[str, list[tuple[float, ...]]] = {}
    for seed in range(HALVINGS):
        seen, new = _halves(part, seed)
        candidates, targets = tables[:, seen], part.targets[seen]

        def keep(name: str, average: Array, seen: Array = seen, new: Array = new) -> None:
            found.setdefault(name, []).append((_reached(average, part.targets, seen, new),))

        keep("the best trial by the calibrated objective", tables[_best(candidates, targets)])
        keep("the mean of the 8 best on val", tables[:8].mean(axis=0))
        keep("the mean of all", tables.mean(axis=0))
        for size in (2, 4, 8, 16, 32):
            limits = ensemble.Limits(max_members=size)
            selected = ensemble.select(candidates, targets, METRIC, limits=limits)
            keep(f"selected, at most {size}", selected.probabilities(tables))
            if size == ensemble.MAX_MEMBERS and seed < HALVINGS // 4:
                claim = ensemble.cross_fit(candidates, targets, METRIC, limits=limits).scores(targets).value("f1_macro")
                reached = _reached(selected.probabilities(tables), part.targets, seen, new)
                found.setdefault(f"claimed less reached, at most {size}", []).append((claim - reached,))
    return [
        f"| average | {METRIC} on new posters |",
        "| --- | --- |",
        *(_row(name, rows, ".4f") for name, rows in found.items()),
    ]


def _best(candidates: Array, targets: Array) -> int:
    return int(np.argmax([Objective(METRIC).judge(table, targets)[0] for table in candidates]))


def _row(name: str, rows: Sequence[tuple[float, ...]], *formats: str) -> str:
    columns = np.array(rows).T
    cells = [
        f"{column.mean():{form}} ± {column.std(ddof=1) / len(column) ** 0.5:.4f}"
        for column, form in zip(columns, formats, strict=True)
    ]
    return f"| {name} | " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
