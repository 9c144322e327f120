"""Iterative stratification of groups, corrected to the sizes asked for.

Iterative stratification (Sechidis, Tsoumakas & Vlahavas 2011, "On the Stratification of Multi-Label Data",
ECML PKDD) deals the groups, rarest label first. It trades exact sizes for even labels, takes every group for one
poster, and gives a rare label to the largest part only. Its answer is therefore corrected, each time by the move
that disturbs the labels least: until the sizes are as asked, then by swaps for as long as they help. What disturbs
is one number, the badness: Pearson's chi-square of the label counts (P, L) against those that even shares would
give, and far above it every part without a poster of a label that has enough groups for all parts.

The trade-off: the parts are more alike than chance would make them, so that the spread of a metric between two of
them is smaller than between two samples of new posters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import permutations, product
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from iterstrat.ml_stratifiers import IterativeStratification

Rows: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]

_CAUTION = 16  # of many surplus posters a sixteenth moves at once, and then the costs are looked at again
_MOST_FOR_SEVERAL = 64  # posters: a larger group would take as many moves
_MISSING = 1e9  # the badness of a part without a label that it should show: above any chi-square


class Assignment:
    """Which part each of G groups is in, and how badly the labels are spread over the P parts."""

    def __init__(self, counts: Rows, n_posters: Rows, sizes: Rows, rng: np.random.Generator) -> None:
        """Deal G groups with `counts` (G, L) posters by label and `n_posters` (G,) into `sizes` (P,) posters."""
        self.sizes = sizes
        self._n_posters = n_posters
        self._counts = counts.astype(np.float64)  # (G, L)
        self._squares = self._counts**2
        self._groups_of_size = {int(n): np.flatnonzero(n_posters == n) for n in np.unique(n_posters)}
        self._n_parts = len(sizes)
        self.part: Rows = IterativeStratification(labels=counts > 0, r=sizes / sizes.sum(), random_state=rng)  # (G,)
        self._held = np.stack([self._counts[self.part == at].sum(axis=0) for at in range(self._n_parts)])  # (P, L)
        self._expected = np.maximum(np.outer(sizes / sizes.sum(), self._counts.sum(axis=0)), 1e-9)  # safe to divide by
        self._is_owed: npt.NDArray[np.bool_] = (counts > 0).sum(axis=0) >= self._n_parts  # (L,)

    def improve(self) -> None:
        """Bring the sizes to those asked for, or as near as the groups allow, then the labels to even shares."""
        while self._come_closer_to_the_sizes():
            pass
        while self._swap_each_way(self._swap_for_one):
            pass
        while not self._is_even() and self._swap_each_way(self._swap_for_several):
            pass

    def surplus(self) -> Rows:
        """Return how many posters (P,) each part has above the size asked for."""
        held: Rows = np.bincount(self.part, weights=self._n_posters, minlength=self._n_parts).astype(np.int64)
        return held - self.sizes

    def missing(self) -> npt.NDArray[np.bool_]:
        """Return (P, L) which parts show no poster of a label that has enough groups for all of them."""
        is_absent: npt.NDArray[np.bool_] = self._held == 0
        return is_absent & self._is_owed

    def _come_closer_to_the_sizes(self) -> bool:
        surplus = self.surplus()
        for source, goal, there, back in self._steps(surplus):
            change = there - back
            after = abs(surplus[source] - change) + abs(surplus[goal] + change)
            if after < abs(surplus[source]) + abs(surplus[goal]):
                at_once = min(surplus[source], -surplus[goal]) // (_CAUTION * there) if back == 0 else 1
                self._move_best(source, goal, (there,), max(1, int(at_once)))
                if back:
                    self._move_best(goal, source, (back,))
                return True
        return False

    def _steps(self, surplus: Rows) -> Iterator[tuple[int, int, int, int]]:
        """Yield (source, goal, size of a group there, size of one back or 0), the smallest exchange first."""
        if not surplus.any():
            return
        sizes = list(self._groups_of_size)
        exchanges = sorted(product(sizes, [0, *sizes]), key=sum)
        for there, back in exchanges:
            for source, goal in permutations(np.argsort(-surplus).tolist(), 2):
                enough = self._has(source, there) and (back == 0 or self._has(goal, back))
                if surplus[source] > 0 > surplus[goal] and there > back and enough:
                    yield source, goal, there, back

    def _has(self, part: int, size: int) -> bool:
        return bool((self.part[self._groups_of_size[size]] == part).any())

    def _is_even(self) -> bool:
        """Return whether no label is off by more than a poster in any part, which is all that one can ask."""
        return bool((np.abs(self._held - self._expected) <= 1).all())

    def _swap_each_way(self, swap: Callable[[int, int, int], list[int]]) -> bool:
        """Try a swap between any two parts for each size of group, and return whether one helped."""
        helped = False
        for (source, goal), size in product(permutations(range(self._n_parts), 2), self._groups_of_size):
            helped |= self._has(source, size) and self._helps(swap, source, goal, size)
        return helped

    def _helps(self, swap: Callable[[int, int, int], list[int]], source: int, goal: int, size: int) -> bool:
        """Swap a group of `size` posters for as many, and undo it unless the labels are more even then."""
        before = self._badness()
        there = self._move_best(source, goal, (size,))
        back = swap(goal, source, size)
        is_whole = sum(self._n_posters[group] for group in back) == size
        if is_whole and self._badness() < before - 1e-6:  # beyond rounding, or swaps could take turns for ever
            return True
        for group in back:
            self._move(group, goal)
        self._move(there, source)
        return False

    def _swap_for_one(self, source: int, goal: int, n_posters: int) -> list[int]:
        """Move a group of just so many posters."""
        return [self._move_best(source, goal, (n_posters,))] if self._has(source, n_posters) else []

    def _swap_for_several(self, source: int, goal: int, n_posters: int) -> list[int]:
        """Move groups of so many posters altogether, or of as many as there are; none in place of a very large one."""
        moved: list[int] = []
        while 0 < n_posters <= _MOST_FOR_SEVERAL:
            sizes = [size for size in self._groups_of_size if size <= n_posters and self._has(source, size)]
            if not sizes:
                break
            moved.append(self._move_best(source, goal, sizes))
            n_posters -= int(self._n_posters[moved[-1]])
        return moved

    def _badness(self) -> float:
        chi_square = ((self._held - self._expected) ** 2 / self._expected).sum()
        return float(chi_square + _MISSING * self.missing().sum())

    def _move_best(self, source: int, goal: int, sizes: Sequence[int], at_once: int = 1) -> int:
        """Move the groups of these sizes whose moves cost least for each poster, and return the best."""
        groups = np.concatenate([self._groups_of_size[size] for size in sizes])
        groups = groups[self.part[groups] == source]
        # Rounded, so that the number of threads in the products cannot decide between equals.
        costs = (self._costs(groups, source, goal) / self._n_posters[groups]).round(4)
        best = groups[costs.argsort(kind="stable")[:at_once]] if at_once > 1 else groups[[costs.argmin()]]
        for group in best:
            self._move(int(group), goal)
        return int(best[0])

    def _costs(self, groups: Rows, source: int, goal: int) -> Floats:
        """Return what the move of each of the `groups` (M,) would add to the badness."""
        excess = self._held - self._expected  # (P, L); c posters leave: ((e - c)² - e²) / expected, and so on
        linear = 2 * (excess[goal] / self._expected[goal] - excess[source] / self._expected[source])
        square = 1 / self._expected[goal] + 1 / self._expected[source]
        costs: Floats = self._counts[groups] @ linear + self._squares[groups] @ square
        filled = np.flatnonzero(self.missing()[goal])
        if len(filled):
            costs -= _MISSING * (self._counts[np.ix_(groups, filled)] > 0).sum(axis=1)
        emptied = np.flatnonzero(self._is_owed & (self._held[source] > 0))
        emptied = emptied[self._held[source, emptied] <= self._counts[groups][:, emptied].max(axis=0)]
        if len(emptied):
            is_last = self._counts[np.ix_(groups, emptied)] >= self._held[source, emptied]
            costs += _MISSING * is_last.sum(axis=1)
        return costs

    def _move(self, group: int, goal: int) -> None:
        self._held[self.part[group]] -= self._counts[group]
        self._held[goal] += self._counts[group]
        self.part[group] = goal
