"""What a search is asked to do."""

from __future__ import annotations

from dataclasses import dataclass

from hpo.data.options import DataOptions
from hpo.search.places import Places
from hpo.search.space.space import SearchSpace


@dataclass(frozen=True)
class SearchOptions:
    """Everything that ``hpo search`` is told."""

    data: DataOptions
    space: SearchSpace
    study: str
    metric: str
    trials: int
    timeout_seconds: float | None
    places: Places
    skip_unavailable: bool = False  # leave out backbones whose weights cannot be had, instead of refusing to begin
    synthetic: bool = False  # the built-in sample: said wherever its numbers stand

    @property
    def seed(self) -> int:
        """Of the split, the sampler and the training."""
        return self.data.seed
