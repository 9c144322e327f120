"""Feature extraction beside bare loops of the same forward passes: `python -m benchmarks.features`.

Everything runs on the same decoded posters in one process, in turn, three times; the median of the ratios counts.
"""

from __future__ import annotations

import dataclasses
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from benchmarks.machine import Gap, log, shared_posters
from hpo.data.images import DecodedImages, read_posters
from hpo.model.backbones.backbone import load_backbone
from hpo.model.backbones.feature_cache import feature_cache
from hpo.model.backbones.inference import fastest_forward

BACKBONE, SIZE, POSTERS, REPEATS = "tf_efficientnet_lite0", 224, 512, 3


def main() -> None:
    """Measure and log."""
    rows = _measure()
    lines = [
        f"{BACKBONE}, {SIZE} px, {POSTERS} posters, median of {REPEATS}; building the graph is paid once a backbone.\n"
    ]
    building = statistics.median(row[1] for row in rows)
    ratio = statistics.median(row[2] / (row[0] - building) for row in rows)
    torch_ratio = statistics.median(row[3] / (row[0] - building) for row in rows)
    speed = POSTERS / statistics.median(row[0] - building for row in rows)
    lines += [
        f"- ours {speed:.0f} posters/s; building the graph {building:.1f} s",
        f"- ours : bare loop of the same forward passes = {ratio:.2f} (speed; 0.85 is the goal)",
        f"- ours : PyTorch fp32, batch 32, as in most examples = {torch_ratio:.2f}",
    ]
    log("feature extraction beside bare loops", "python -m benchmarks.features", lines)


def gap() -> Gap:
    """Return the gap to bare forward passes."""
    ours, build, bare, _ = (statistics.median(column) for column in zip(*_measure(), strict=True))
    return Gap(f"backbone forward, {POSTERS} posters", ours - build, bare, "decoded posters read, features written")


def _measure() -> list[list[float]]:
    """Return, for each turn, the seconds of ours, of building the graph, of bare passes and of plain PyTorch."""
    _, images = shared_posters("movie-posters")
    posters = read_posters(sorted(images.iterdir())[:POSTERS])
    backbone = load_backbone(BACKBONE, SIZE)
    forward = fastest_forward(backbone, SIZE)
    with tempfile.TemporaryDirectory() as cache:
        decoded = DecodedImages(Path(cache), backbone.framing())
        decoded.ensure(posters)
        pixels = decoded.load(posters)

        def ours() -> None:
            with tempfile.TemporaryDirectory(dir=cache) as fresh:
                dataclasses.replace(feature_cache(Path(fresh), backbone), images=decoded).ensure(posters)

        def bare() -> None:
            starts = range(0, POSTERS, forward.batch_posters)
            with ThreadPoolExecutor(forward.at_once) as pool:
                list(pool.map(lambda start: forward.run(pixels[start : start + forward.batch_posters]), starts))

        def build() -> None:
            fastest_forward(backbone, SIZE)

        ways = (ours, build, bare, _plain_torch(backbone, pixels))
        return [[_seconds(way) for way in ways] for _ in range(REPEATS)]


def _plain_torch(backbone: torch.nn.Module, pixels: np.ndarray) -> Callable[[], None]:
    def run() -> None:
        with torch.inference_mode():
            for start in range(0, POSTERS, 32):
                backbone(torch.from_numpy(pixels[start : start + 32]))

    return run


def _seconds(run: Callable[[], None]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
