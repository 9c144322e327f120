"""Which epochs of a phase may become its outcome: the best one, the newest where its length was given, or a soup."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from hpo.data.shards import Array
from hpo.model.averaging import StateDict, greedy_soup
from hpo.model.epochs import EpochResult

SOUP_EPOCHS = 5  # candidates for a soup


@dataclass(frozen=True, eq=False)
class JudgedEpoch:
    """What an epoch is worth on the posters that it is judged on, and its probabilities of them."""

    value: float  # of the objective
    probabilities: Array  # (N_val, L)


@dataclass(frozen=True, eq=False)
class KeptEpoch:
    """An epoch with its weights."""

    value: float = -1.0  # of the objective
    epoch: int = 0  # from 1, in its phase
    probabilities: Array = field(default_factory=lambda: np.empty(0))  # (N_val, L)
    weights: StateDict = field(default_factory=dict)


class BestEpochs:
    """The epochs of a phase in progress whose weights are kept.

    Made of values alone, so that the epochs before a stop, told again, lead to the same choice.
    """

    def __init__(self, *, soup: bool, newest: bool) -> None:
        self._newest, self._n_candidates = newest, SOUP_EPOCHS if soup and not newest else 0
        self.best = KeptEpoch()
        self.judged: list[JudgedEpoch] = []  # every epoch, in order
        self._candidates: list[KeptEpoch] = []  # of a soup, best first

    def take(self, value: float, result: EpochResult) -> None:
        """Note what ``result`` is worth, and keep its weights if they may be wanted."""
        self.judged.append(JudgedEpoch(value, result.val_probabilities))
        better = value > self.best.value or self._newest
        if not better and not self._n_candidates:
            return
        kept = KeptEpoch(value, result.epoch, result.val_probabilities, result.weights())
        if better:
            self.best = kept
        if self._n_candidates:
            ranked = sorted([*self._candidates, kept], key=lambda candidate: -candidate.value)
            self._candidates = ranked[: self._n_candidates]

    def weights(self) -> Mapping[int, StateDict]:
        """Return those that are kept, by epoch."""
        return {kept.epoch: kept.weights for kept in (self.best, *self._candidates)}

    def outcome(self, last: EpochResult, value_of: Callable[[Array], float]) -> KeptEpoch:
        """Put the weights of the best epoch, or of the soup, into ``last.evaluated`` and return them."""
        best = self._soup(last, value_of) if self._candidates else self.best
        last.evaluated.load_state_dict(best.weights)
        return best

    def _soup(self, last: EpochResult, value_of: Callable[[Array], float]) -> KeptEpoch:
        """Average the best epochs for as long as that helps on val."""

        def value_with(weights: StateDict) -> float:
            last.evaluated.load_state_dict(weights)
            return value_of(last.predict_val())

        ingredients = [(candidate.value, candidate.weights) for candidate in self._candidates]
        value, weights, _ = greedy_soup(ingredients, value_with)
        last.evaluated.load_state_dict(weights)
        return replace(self.best, value=value, probabilities=last.predict_val(), weights=weights)
