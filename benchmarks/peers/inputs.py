"""What all are given: packaged weights, and hpo's own split, as its file and as a CSV of paths, parts and labels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from safetensors.torch import save_file

from benchmarks.machine import shared_posters
from hpo.data.dataset import DataOptions, PreparedData, prepare_data, save_split
from hpo.data.table.rules import CatalogueRules
from hpo.model.backbones.architectures import find_architecture
from hpo.model.backbones.weights import PACKAGES, load_network
from hpo.runtime.progress import ProgressFn


@dataclass(frozen=True)
class Inputs:
    """Files for the entrants, and the targets (N, L) that only the driver scores by."""

    csv: Path  # as hpo is given it
    images: Path
    split: Path
    posters: Path  # as a peer is given them
    weights: Path
    targets: dict[str, NDArray[np.bool_]]  # of val and test, in the order of the CSV

    @property
    def n_posters(self) -> dict[str, int]:
        """How many posters are in val and test."""
        return {part: len(targets) for part, targets in self.targets.items()}


def prepare(name: str, n_posters: int | None, folder: Path) -> Inputs:
    """Split the posters as `hpo search` does without options; of the first `n_posters` rows where that is given."""
    csv, images = shared_posters(name)
    if n_posters is not None:
        short = folder / csv.name
        pd.read_csv(csv, dtype=str, nrows=n_posters).to_csv(short, index=False)
        csv = short
    options = DataOptions(csv=csv, images=images, rules=CatalogueRules(), val_size=0.1, test_size=0.1, seed=0)
    data = prepare_data(options, folder / "thumbnails", _phase)
    return Inputs(
        csv=csv,
        images=images,
        split=save_split(data, folder).file,
        posters=_write_table(data, folder / "posters.csv"),
        weights=_write_weights(folder / "weights"),
        targets={part: data.part(part).targets for part in ("val", "test")},
    )


@contextmanager
def _phase(what: str, n_posters: int) -> Iterator[ProgressFn]:
    yield lambda done: None


def _write_table(data: PreparedData, file: Path) -> Path:
    parts = []
    for name in ("train", "val", "test"):
        part = data.part(name)
        labels = pd.DataFrame(part.targets.astype(int), columns=list(data.catalogue.label_names))
        labels.insert(0, "path", [str(path.resolve()) for path in part.posters.paths])
        labels.insert(1, "part", name)
        parts.append(labels)
    pd.concat(parts).to_csv(file, index=False)
    return file


def _write_weights(folder: Path) -> Path:
    """Write the packaged weights under timm's own names, as a user of timm would want them."""
    folder.mkdir()
    for name in PACKAGES:
        architecture = find_architecture(name)
        network, _ = load_network(architecture, architecture.image_size, "auto")
        save_file(network.state_dict(), folder / f"{name}.safetensors")
    return folder
