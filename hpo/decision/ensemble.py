"""Which trials to average: greedy selection with replacement from the probabilities that they kept.

Starting from nothing, the trial whose addition makes the average best is added, again and again; a trial that is added
twice weighs twice. Greedy selection fits the posters it selects on, so it is run on several random halves of the trials
and the selections are added up (bagging). What is maximised is the mean average precision for every F1: it needs no
thresholds, which are fitted on the average afterwards, and so has one source of flattery less.

Sources:
    Caruana, Niculescu-Mizil, Crew & Ksikes 2004, Ensemble selection from libraries of models.
    Caruana, Munson & Niculescu-Mizil 2006, Getting the most out of ensemble selection: bagging.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hpo.decision.counts import Bools, Floats
from hpo.decision.metrics import Scores, checked, score
from hpo.decision.thresholds import DEFAULT_STRATEGY, fit, stratified_folds
from hpo.errors import DataError

MAX_MEMBERS = 8
N_BAGS = 10
_ADDITIONS = 12  # to each bag's ensemble
_SHARE_OF_TRIALS = 0.5  # in a bag


@dataclass(frozen=True)
class Member:
    """One of the candidates, and its part in the average."""

    candidate: int
    weight: float  # all of them sum to 1


@dataclass(frozen=True)
class Step:
    """What adding a member did, heaviest first: the metric at thresholds fitted on the average so far."""

    candidate: int
    value: float
    gain: float


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Weighted members, heaviest first."""

    members: tuple[Member, ...]
    steps: tuple[Step, ...]

    def probabilities(self, candidates: ArrayLike) -> Floats:
        """Return the average (N, L) of candidates (K, N, L)."""
        return _average(np.asarray(candidates), self.members)


@dataclass(frozen=True, eq=False)
class CrossFitted:
    """What the posters got from ensembles and thresholds (N, L) that were chosen without them."""

    probabilities: Floats  # (N, L)
    thresholds: Floats  # (N, L)

    def scores(self, targets: ArrayLike) -> Scores:
        """Return what that is worth."""
        return score(self.probabilities, targets, self.thresholds)


def select(
    candidates: ArrayLike,
    targets: ArrayLike,
    metric: str = "f1_macro",
    *,
    strategy: str = DEFAULT_STRATEGY,
    max_members: int = MAX_MEMBERS,
    n_bags: int = N_BAGS,
    seed: int = 0,
) -> Ensemble:
    """Choose up to `max_members` of K candidates (K, N, L) for targets (N, L).

    Raises:
        DataError: no candidates, shapes that differ, or probabilities outside 0..1.
    """
    tables, actual = _checked(candidates, targets)
    members = _members(tables, actual, max_members, n_bags, seed)
    return Ensemble(members, _steps(tables, actual, members, metric, strategy))


def claimed(
    candidates: ArrayLike,
    targets: ArrayLike,
    metric: str = "f1_macro",
    *,
    strategy: str = DEFAULT_STRATEGY,
    max_members: int = MAX_MEMBERS,
    n_bags: int = N_BAGS,
    n_folds: int = 5,
    seed: int = 0,
) -> CrossFitted:
    """Decide each poster by members and thresholds that were chosen on the folds that it is not in.

    Raises:
        DataError: as `select`, or fewer posters than 2.
    """
    tables, actual = _checked(candidates, targets)
    if len(actual) < 2:
        raise DataError(f"cross-fitting needs 2 posters at least, got {len(actual)}: validate on a larger split.")
    folds = stratified_folds(actual, min(n_folds, len(actual)), seed)
    found = CrossFitted(np.empty(actual.shape), np.empty(actual.shape))
    for fold in np.unique(folds):
        out, seen = folds == fold, folds != fold
        average = _average(tables, _members(tables[:, seen], actual[seen], max_members, n_bags, seed))
        found.probabilities[out] = average[out]
        found.thresholds[out] = fit(strategy, average[seen], actual[seen], metric).values
    return found


def _checked(candidates: ArrayLike, targets: ArrayLike) -> tuple[Floats, Bools]:
    tables = np.asarray(candidates)
    if tables.ndim != 3 or not len(tables):
        raise DataError(
            f"candidates must have shape (trials, posters, labels) with at least one trial, got {tables.shape}: "
            "search until a trial is complete."
        )
    actual = checked(tables[0], targets)[1]
    for table in tables[1:]:
        checked(table, actual)
    return tables, actual


def _average(tables: Floats, members: tuple[Member, ...]) -> Floats:
    average: Floats = np.sum([member.weight * tables[member.candidate] for member in members], axis=0)
    return np.clip(average, 0.0, 1.0)  # weights sum to 1 up to rounding


def _members(tables: Floats, targets: Bools, max_members: int, n_bags: int, seed: int) -> tuple[Member, ...]:
    """Return the candidates that the bags chose most often, by how often."""
    rng = np.random.default_rng(seed)
    n_in_bag = max(1, round(len(tables) * _SHARE_OF_TRIALS))
    votes: Counter[int] = Counter()
    for _ in range(n_bags):
        bag = np.sort(rng.choice(len(tables), n_in_bag, replace=False))
        votes.update(bag[_greedy(tables[bag], targets)].tolist())
    chosen = sorted(votes.items(), key=lambda vote: (-vote[1], vote[0]))[:max_members]
    total = sum(times for _, times in chosen)
    return tuple(Member(candidate, times / total) for candidate, times in chosen)


def _greedy(tables: Floats, targets: Bools) -> list[int]:
    """Return the candidates in the order in which they were added, up to the best average on the way."""
    total, added, values = np.zeros(targets.shape), [], []
    for _ in range(_ADDITIONS):
        worth = [mean_average_precision(total + table, targets) for table in tables]
        best = int(np.argmax(worth))
        total = total + tables[best]
        added.append(best)
        values.append(worth[best])
    return added[: int(np.argmax(values)) + 1]


def mean_average_precision(scores: Floats, targets: Bools) -> float:
    """Return the mean over labels with a positive of the average precision of scores (N, L).

    Equal scores are taken in their order, not together as in `metrics.score`: averages of floats are hardly ever equal,
    and this is the inner loop of selection.
    """
    order: NDArray[np.intp] = np.argsort(-scores, axis=0)
    ranked = np.take_along_axis(targets, order, axis=0)
    precision = np.cumsum(ranked, axis=0) / np.arange(1, len(ranked) + 1)[:, None]
    positives = ranked.sum(axis=0)
    known = positives > 0
    return float(((precision * ranked).sum(axis=0)[known] / positives[known]).mean()) if known.any() else 0.0


def _steps(tables: Floats, targets: Bools, members: tuple[Member, ...], metric: str, strategy: str) -> tuple[Step, ...]:
    steps: list[Step] = []
    for n in range(1, len(members) + 1):
        total = sum(member.weight for member in members[:n])
        so_far = tuple(Member(member.candidate, member.weight / total) for member in members[:n])
        average = _average(tables, so_far)
        value = score(average, targets, fit(strategy, average, targets, metric).values).value(metric)
        steps.append(Step(members[n - 1].candidate, value, value - steps[-1].value if steps else value))
    return tuple(steps)
