"""Posters on disk with everything that preparing has to deal with."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hpo.data.dataset import DataOptions, PreparedData, prepare_data
from hpo.data.table.rules import CatalogueRules

N_POSTERS = 90


def noise(seed: int) -> Image.Image:
    """A poster that looks like no other."""
    coarse = np.random.default_rng(seed).integers(0, 256, (9, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((60, 90), Image.Resampling.BICUBIC)


@pytest.fixture(scope="session")
def wild(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """90 posters with titles, among them a franchise, a copy, two broken files and five that share a file."""
    folder = tmp_path_factory.mktemp("prepare")
    images = folder / "images"
    images.mkdir()
    rng = np.random.default_rng(0)
    rows = []
    for at in range(N_POSTERS):
        noise(at).save(images / f"{at}.png")
        labels = [
            name for name, present in zip(("Drama", "Comedy", "War"), rng.random(3) < 0.5, strict=True) if present
        ]
        title = f"Galaxy Rangers Season {at}" if at < 4 else f"{chr(97 + at % 26)}{at}x{at * 7}"
        rows.append(f'{at},{title},"{", ".join(labels) or "War"}"')
    noise(10).resize((30, 45)).save(images / "11.png")
    (images / "12.png").write_bytes(b"not an image")
    (images / "13.png").write_bytes((images / "14.png").read_bytes()[:400])
    for at in range(21, 25):
        shutil.copy(images / "20.png", images / f"{at}.png")
    (folder / "posters.csv").write_text("\n".join(["id,Name,Genres", *rows]))
    return folder


@pytest.fixture(scope="session")
def prepared(wild: Path) -> Callable[..., PreparedData]:
    """Prepare the wild posters, with other options where they are named."""

    def prepare(**changed: Any) -> PreparedData:
        values = {
            "csv": wild / "posters.csv",
            "images": wild / "images",
            "rules": CatalogueRules(),
            "val_size": 15,
            "test_size": 15,
            "seed": 0,
        } | changed
        return prepare_data(DataOptions(**values), wild / "cache", lambda *_: nullcontext(lambda _: None))

    return prepare


@pytest.fixture(scope="session")
def data(prepared: Callable[..., PreparedData]) -> PreparedData:
    """The wild posters, prepared as they are."""
    return prepared()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with ``images/1.jpg`` to ``9.jpg``: files that are named like posters and decode to none."""
    images = tmp_path / "images"
    images.mkdir()
    for name in range(1, 10):
        (images / f"{name}.jpg").write_bytes(b"%d" % name)
    return tmp_path
