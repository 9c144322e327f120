"""How much a trial reports beyond what it reaches, by what chose its epochs: `python -m benchmarks.flattery`.

Each seed sets a quarter of the posters aside and trains a recipe in five folds of the others, once. Two rules read the
same trainings: a fold is reported at its own best epoch, or at the epoch that the other folds choose, as trials are.
The networks that stopped at their fold's best epoch are averaged and say, at each rule's thresholds, what is reached on
the quarter that nothing has seen. `HPO_CACHE_DIR` keeps features; arguments name other sets.
"""

from __future__ import annotations

import os
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.machine import log, phase, shared_posters
from hpo.data.dataset import DataOptions, Part, prepare_data
from hpo.data.splits.split import deal_folds
from hpo.data.table.rules import CatalogueRules
from hpo.evaluation.metrics import score
from hpo.model.backbones.architectures import check_known
from hpo.model.config import TrialConfig
from hpo.runtime.atomic import Array
from hpo.space.load import load_space
from hpo.trial.cross_validation import judged_by_other_folds
from hpo.trial.features import FeatureSource
from hpo.trial.objective import EvaluationResult, Objective
from hpo.trial.trial import JudgedEpoch, TrialInputs, TrialResult, run_trial

METRIC, RECIPE, SEEDS, FOLDS, POSTERS = "f1_macro", "lite1_narrow", 10, 5, 1_800
NAMES = ("movie-posters", "anime-covers")
RULES = ("the fold's own posters", "the other folds", "the other folds, deployed too")


@dataclass(frozen=True)
class _OnFirst(Objective):
    """Judges the first rows alone, so that the others ride along without a say."""

    n: int = 0

    def judge(self, probabilities: Array, targets: Array) -> tuple[float, EvaluationResult]:
        return super().judge(probabilities[: self.n], targets[: self.n])


def main() -> None:
    """Measure and log."""
    lines = [
        f"Recipe {RECIPE}, {FOLDS} folds, {SEEDS} seeds, each with a quarter of the posters set aside; mean ± standard "
        "error.\n",
        f"| set | epoch chosen on | {METRIC} reported | reached | reported less reached |",
        "| --- | --- | --- | --- | --- |",
    ]
    names = sys.argv[1:] or NAMES
    differences = []
    with tempfile.TemporaryDirectory() as folder:
        cache_dir = Path(os.environ.get("HPO_CACHE_DIR", folder))
        for name in names:
            found = _measure(name, cache_dir)  # (seeds, rules, reported and reached)
            gaps = found[..., 0] - found[..., 1]
            for at, rule in enumerate(RULES):
                cells = (_cell(found[:, at, 0]), _cell(found[:, at, 1]), _cell(gaps[:, at], "+"))
                lines.append(f"| {name} | {rule} | {' | '.join(cells)} |")
            flattered, lost = found[:, 0, 0] - found[:, 1, 0], found[:, 1, 1] - found[:, 0, 1]
            differences.append(
                f"- {name}: choosing on the fold's own posters flatters by {_cell(flattered, '+')}; thresholds fitted "
                f"at the other folds' epochs change what is reached by {_cell(lost, '+')}"
            )
    log("what a trial reports and what it reaches", " ".join(["python -m benchmarks.flattery", *sys.argv[1:]]),
        [*lines, "", *differences])  # fmt: skip


def _cell(values: Array, sign: str = "") -> str:
    return f"{values.mean():{sign}.4f} ± {values.std(ddof=1) / len(values) ** 0.5:.4f}"


def _measure(name: str, cache_dir: Path) -> Array:
    csv, images = shared_posters(name)
    options = DataOptions(csv=csv, images=images, rules=CatalogueRules(), val_size=0.1, test_size=0.1, seed=0)
    data = prepare_data(options, cache_dir, phase)
    every = data.part("train") + data.part("val") + data.part("test")
    rows = np.random.default_rng(0).permutation(len(every))[:POSTERS]
    posters, config = every.take(np.sort(rows)), _recipe()
    source = FeatureSource(cache_dir, {}, phase)
    found = []
    for seed in range(SEEDS):
        found.append(_one_seed(config, posters, source, seed))
        print(f"{name}, seed {seed}: {found[-1]}", file=sys.stderr, flush=True)
    return np.array(found)


def _recipe() -> TrialConfig:
    space = load_space(Path("default"), check_known)
    return space.rebuild(space.recipe(RECIPE))


def _one_seed(config: TrialConfig, posters: Part, source: FeatureSource, seed: int) -> list[tuple[float, float]]:
    """Return what each rule reports and reaches."""
    aside = _dealt(posters, 4, seed) == 0
    search, new = posters.take(np.flatnonzero(~aside)), posters.take(np.flatnonzero(aside))
    folds = _dealt(search, FOLDS, seed)
    trained, own, on_new = [], np.empty(search.targets.shape, np.float32), []
    for fold in range(FOLDS):
        held_out, kept = (np.flatnonzero(which) for which in (folds == fold, folds != fold))
        asked = search.take(held_out)
        objective = _OnFirst(METRIC, n=len(held_out))
        result = run_trial(config, TrialInputs(search.take(kept), asked + new, source, objective, seed))
        trained.append(result)
        own[held_out] = result.val_probabilities[: len(held_out)]
        on_new.append(result.val_probabilities[len(held_out) :])
    sizes = np.bincount(folds)
    parts = [search.take(np.flatnonzero(folds == fold)) for fold in range(FOLDS)]
    others = np.empty_like(own)
    first = [_rows(one, slice(None, n), part) for one, n, part in zip(trained, sizes, parts, strict=True)]
    for fold, probabilities in enumerate(judged_by_other_folds(first)):
        others[folds == fold] = probabilities
    rest = [_rows(one, slice(n, None), new) for one, n in zip(trained, sizes, strict=True)]
    deployed, moved = np.mean(on_new, axis=0), np.mean(judged_by_other_folds(rest), axis=0)
    return [_figures(search, new, *rule) for rule in ((own, deployed), (others, deployed), (others, moved))]


def _dealt(part: Part, n: int, seed: int) -> Array:
    groups = np.arange(len(part)) if part.groups is None else part.groups
    return deal_folds(part.targets, groups, n, seed)


def _rows(result: TrialResult, rows: slice, judged_on: Part) -> TrialResult:
    """Return the same training, each epoch's value as it was, with the probabilities of some rows."""
    epochs = {
        phase: [JudgedEpoch(epoch.value, epoch.probabilities[rows]) for epoch in judged]
        for phase, judged in result.judged_epochs.items()
    }
    return replace(result, judged_epochs=epochs, judged_on=judged_on, objective=Objective(METRIC))


def _figures(search: Part, new: Part, reported: Array, reached: Array) -> tuple[float, float]:
    value, judged = Objective(METRIC).judge(reported, search.targets)
    return value, score(reached, new.targets, judged.thresholds.values).value("f1_macro")


if __name__ == "__main__":
    main()
