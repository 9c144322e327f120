"""Greedy ensemble selection with replacement over stored predictions.

The trial whose addition makes the average best is added, repeatedly; a trial that is added twice weighs twice.
Unrestricted greedy selection overfits the posters it selects on: on 112 posters it was worse than the best trial alone
(`benchmarks/LOG.md`). So it begins with the best trials (sorted initialisation), adds only such as are among the best,
and is run on several random halves of these, whose selections are added up (bagging). A search ends with many trials of
one backbone, whose errors are correlated; so the best are taken from each kind in turn. What is maximised is the mean
average precision, whatever the study's metric: it needs no thresholds, which are fitted on the average afterwards.

Sources:
    Caruana, Niculescu-Mizil, Crew & Ksikes 2004, Ensemble selection from libraries of models.
    Caruana, Munson & Niculescu-Mizil 2006, Getting the most out of ensemble selection: bagging.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hpo.errors import DataError
from hpo.evaluation.counts import Bools, Floats
from hpo.evaluation.metrics import Scores, checked, score
from hpo.evaluation.thresholds import DEFAULT_STRATEGY, fit, stratified_folds

MAX_MEMBERS = 12
N_BAGS = 10
_BEST_TRIALS = 20  # that bags are drawn from
_LEAST_WORTH = 0.85  # of the best trial's mean average precision, below which one is not among them
_SHARE_OF_TRIALS = 0.5  # of these, in a bag
_SHARE_FIRST = 0.5  # of a bag, which its ensemble begins with
_ADDITIONS = 5  # to these


@dataclass(frozen=True)
class Limits:
    """How large an ensemble may be.

    A part that several members share, such as a frozen backbone, costs once.
    """

    max_members: int = MAX_MEMBERS
    max_cost: float = math.inf  # in the unit of ``costs``
    costs: tuple[Mapping[str, float], ...] = ()  # of each candidate's parts, by name; empty where cost does not matter

    def cost(self, candidates: Collection[int]) -> float:
        """Return what candidates cost together; 0 where costs do not matter."""
        paid: dict[str, float] = {}
        for candidate in candidates if self.costs else ():
            paid.update(self.costs[candidate])
        return sum(paid.values())

    def kind(self, candidate: int) -> Hashable:
        """Return the parts that a candidate is made of, which those of its kind share."""
        return frozenset(self.costs[candidate]) if self.costs else None

    def affords(self, candidates: Collection[int]) -> bool:
        """Say whether candidates do not cost too much together."""
        return self.cost(candidates) <= self.max_cost


UNLIMITED = Limits()


@dataclass(frozen=True)
class SelectedMember:
    """One of the candidates, and its weight in the average."""

    candidate: int  # index from 0
    weight: float  # all of them sum to 1


@dataclass(frozen=True)
class Step:
    """What adding a member did: the metric, in 0..1, at thresholds fitted on the average so far."""

    candidate: int
    value: float
    gain: float  # over the step before


@dataclass(frozen=True, eq=False)
class SelectedEnsemble:
    """Weighted members, heaviest first."""

    members: tuple[SelectedMember, ...]
    steps: tuple[Step, ...]  # in the order of the members

    def probabilities(self, candidates: ArrayLike) -> Floats:
        """Return the weighted average (N, L) in 0..1 of candidates (K, N, L)."""
        return _average(np.asarray(candidates), self.members)


@dataclass(frozen=True, eq=False)
class CrossFitted:
    """Probabilities and thresholds of posters, from ensembles and thresholds that were chosen without them."""

    probabilities: Floats  # (N, L)
    thresholds: Floats  # (N, L)

    def scores(self, targets: ArrayLike) -> Scores:
        """Score them against targets (N, L). Raises DataError: see `metrics.score`."""
        return score(self.probabilities, targets, self.thresholds)


def select(
    candidates: ArrayLike,
    targets: ArrayLike,
    metric: str = "f1_macro",
    *,
    strategy: str = DEFAULT_STRATEGY,
    limits: Limits = UNLIMITED,
    n_bags: int = N_BAGS,
    seed: int = 0,
) -> SelectedEnsemble:
    """Choose some of K candidates' probabilities (K, N, L) in 0..1 for targets (N, L), within `limits`.

    `metric` and `strategy` (see `thresholds.fit`) are for the values of the steps alone.

    Raises:
        DataError: no candidates, none that can be afforded, shapes that differ, or probabilities outside 0..1.
    """
    tables, actual = _checked(candidates, targets)
    members = _members(tables, actual, limits, n_bags, seed)
    return SelectedEnsemble(members, _steps(tables, actual, members, metric, strategy))


def cross_fit(
    candidates: ArrayLike,
    targets: ArrayLike,
    metric: str = "f1_macro",
    *,
    strategy: str = DEFAULT_STRATEGY,
    limits: Limits = UNLIMITED,
    n_bags: int = N_BAGS,
    n_folds: int = 5,
    seed: int = 0,
) -> CrossFitted:
    """Give each poster the probabilities and thresholds of an ensemble that was chosen on the folds it is not in.

    Arguments are those of `select`; folds are `thresholds.stratified_folds`.

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
        average = _average(tables, _members(tables[:, seen], actual[seen], limits, n_bags, seed))
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


def _average(tables: Floats, members: tuple[SelectedMember, ...]) -> Floats:
    average: Floats = np.sum([member.weight * tables[member.candidate] for member in members], axis=0)
    return np.clip(average, 0.0, 1.0)  # weights sum to 1 up to rounding


def _members(tables: Floats, targets: Bools, limits: Limits, n_bags: int, seed: int) -> tuple[SelectedMember, ...]:
    """Return the candidates that the bags chose most often, by how often."""
    affordable = np.array([candidate for candidate in range(len(tables)) if limits.affords([candidate])], np.intp)
    if not len(affordable):
        cheapest = min(limits.cost([candidate]) for candidate in range(len(tables)))
        raise DataError(
            f"an ensemble that costs at most {limits.max_cost:g} was asked for, and the cheapest trial alone costs "
            f"{cheapest:.3g}: allow more."
        )
    worth = np.array([mean_average_precision(tables[candidate], targets) for candidate in affordable])
    able = worth >= _LEAST_WORTH * worth.max()
    order = np.argsort(-worth[able], kind="stable")
    best = _best_of_each_kind(affordable[able][order].tolist(), limits)[:_BEST_TRIALS]
    rng = np.random.default_rng(seed)
    n_in_bag = max(1, round(len(best) * _SHARE_OF_TRIALS))
    votes: Counter[int] = Counter()
    for _ in range(n_bags):
        bag = [best[at] for at in np.sort(rng.choice(len(best), n_in_bag, replace=False))]
        votes.update(_greedy(tables, targets, bag, limits))
    chosen: dict[int, int] = {}
    for candidate, times in sorted(votes.items(), key=lambda vote: (-vote[1], best.index(vote[0]))):
        if len(chosen) < limits.max_members and limits.affords([*chosen, candidate]):
            chosen[candidate] = times
    total = sum(chosen.values())
    return tuple(SelectedMember(candidate, times / total) for candidate, times in chosen.items())


def _best_of_each_kind(best_first: list[int], limits: Limits) -> list[int]:
    """Return the best of each kind, then the second best of each, and so on: correlated errors do not average out."""
    by_kind: dict[Hashable, list[int]] = {}
    for candidate in best_first:
        by_kind.setdefault(limits.kind(candidate), []).append(candidate)
    return [candidate for rank in zip_longest(*by_kind.values()) for candidate in rank if candidate is not None]


def _greedy(tables: Floats, targets: Bools, bag: list[int], limits: Limits) -> list[int]:
    """Return candidates of a bag, which come best first, in the order in which they were added, up to the best average.

    The first few are added whatever they add.
    """
    added: list[int] = []
    for candidate in bag[: max(1, round(len(bag) * _SHARE_FIRST))]:
        if limits.affords([*added, candidate]):
            added.append(candidate)
    n_first = len(added)
    total = tables[added].sum(axis=0)
    values = [mean_average_precision(total, targets)]
    for _ in range(_ADDITIONS):
        possible = [candidate for candidate in bag if limits.affords({*added, candidate})]
        worth = [mean_average_precision(total + tables[candidate], targets) for candidate in possible]
        best = int(np.argmax(worth))
        total = total + tables[possible[best]]
        added.append(possible[best])
        values.append(worth[best])
    return added[: n_first + int(np.argmax(values))]


def mean_average_precision(scores: Floats, targets: Bools) -> float:
    """Return the mean over labels with a positive of the average precision of scores (N, L), 0 where there is none.

    Equal scores are taken in their order, not together as in `metrics.score`: averages of floats are hardly ever equal,
    and this is the inner loop of selection.
    """
    order: NDArray[np.intp] = np.argsort(-scores, axis=0)
    ranked = np.take_along_axis(targets, order, axis=0)
    precision = np.cumsum(ranked, axis=0) / np.arange(1, len(ranked) + 1)[:, None]
    positives = ranked.sum(axis=0)
    known = positives > 0
    return float(((precision * ranked).sum(axis=0)[known] / positives[known]).mean()) if known.any() else 0.0


def _steps(
    tables: Floats, targets: Bools, members: tuple[SelectedMember, ...], metric: str, strategy: str
) -> tuple[Step, ...]:
    steps: list[Step] = []
    for n in range(1, len(members) + 1):
        total = sum(member.weight for member in members[:n])
        so_far = tuple(SelectedMember(member.candidate, member.weight / total) for member in members[:n])
        average = _average(tables, so_far)
        value = score(average, targets, fit(strategy, average, targets, metric).values).value(metric)
        steps.append(Step(members[n - 1].candidate, value, value - steps[-1].value if steps else value))
    return tuple(steps)
