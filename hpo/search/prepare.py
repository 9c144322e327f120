"""From a CSV and a folder to what every trial shares: clean posters in three parts, and a word about each decision."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hpo.data.catalogue import Catalogue, CleaningReport, check_trainable, read_catalogue
from hpo.data.images import DecodedImages, Phase, Posters, read_posters
from hpo.data.splits import Distribution, Split, distribution, split_posters
from hpo.search.options import DataOptions
from hpo.search.trial import Part


@dataclass(frozen=True, eq=False)
class PreparedData:
    """Clean posters, their targets and their split."""

    catalogue: Catalogue
    posters: Posters
    split: Split
    cleaning: CleaningReport
    broken: tuple[Path, ...]  # could not be decoded: left out
    distribution: Distribution

    def part(self, name: str) -> Part:
        """Return ``train``, ``val`` or ``test``."""
        rows = self.split.parts()[name]
        return Part(self.posters.take(rows), self.catalogue.targets[rows])

    @property
    def fingerprints(self) -> dict[str, str]:
        """What a study is bound to: the posters with their labels, and who is in which part."""
        images = hashlib.sha256(b"".join(sorted(self.posters.digests))).hexdigest()[:16]
        return {
            "labels": self.catalogue.fingerprint,
            "images": images,
            "split": self.split.fingerprint(self.catalogue.ids),
        }


def prepare_data(options: DataOptions, cache_dir: Path, image_size: int, phase: Phase) -> PreparedData:
    """Read, clean, decode and split. Raises DataError.

    Every poster is decoded once here, so that a broken one is known before the split and the sizes are exact.
    """
    catalogue, cleaning = read_catalogue(options.csv, options.images, options.rules)
    check_trainable(catalogue)
    posters = read_posters(catalogue.image_paths)
    broken = _decode(posters, DecodedImages(cache_dir, image_size), phase)
    if broken:
        whole = np.setdiff1d(np.arange(len(posters)), broken)
        broken_paths = tuple(posters.paths[row] for row in broken)
        catalogue, posters = catalogue.take(whole), posters.take(whole)
        check_trainable(catalogue)
    else:
        broken_paths = ()
    split = split_posters(catalogue, options.val_size, options.test_size, options.seed)
    shares = distribution(split, catalogue.targets, catalogue.label_names)
    return PreparedData(catalogue, posters, split, cleaning, broken_paths, shares)


def _decode(posters: Posters, images: DecodedImages, phase: Phase) -> list[int]:
    missing = images.missing(posters)
    if not missing:
        return images.ensure(posters)
    with phase("decoding posters", missing) as progress:
        return images.ensure(posters, progress)
