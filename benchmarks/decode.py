"""Decoding posters beside a bare Pillow loop: `python -m benchmarks.decode [movie-posters|anime-covers]`.

Three ways, in turn, three times, on files that are in the page cache: ours (`DecodedImages.ensure` into an empty cache,
so with checks, digests looked up and shards written), a bare loop of Pillow's calls in as many threads that keeps
nothing, and a torch DataLoader with torchvision's transforms in as many processes, which is what most would write.
The median of the ratios within a turn counts.
"""

from __future__ import annotations

import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from benchmarks.machine import Gap, log, shared_posters
from hpo.data.decoding import Framing
from hpo.data.images import DecodedImages, Posters, read_posters
from hpo.runtime.progress import n_cores

SIZE, REPEATS = 224, 3


def main() -> None:
    """Measure and log."""
    name = sys.argv[1] if len(sys.argv) > 1 else "movie-posters"
    paths, turns = _turns(name)
    lines = [
        f"{name}: {len(paths):,} posters to {SIZE} px, {n_cores()} threads, median of {REPEATS} turns.\n",
        f"- ours {_speed(turns, len(paths), 1)}, bare Pillow loop {_speed(turns, len(paths), 2)}, "
        f"torch DataLoader with torchvision {_speed(turns, len(paths), 3)}",
        f"- ours : bare loop = {_ratio(turns, 2):.2f} (speed; 0.85 is the goal)",
        f"- ours : DataLoader = {_ratio(turns, 3):.2f}",
        f"- reading every file for its digest first takes {statistics.median(t[0] / t[1] for t in turns):.1%} as long",
    ]
    log("decoding beside a bare Pillow loop", f"python -m benchmarks.decode {name}", lines)


def gap() -> Gap:
    """Return the gap to the bare Pillow loop."""
    paths, turns = _turns("movie-posters")
    ours, bare = (statistics.median(turn[way] for turn in turns) for way in (1, 2))
    return Gap(f"decode and resize, {len(paths):,} posters", ours, bare, "checks of every file, shards written")


def _turns(name: str) -> tuple[list[Path], list[list[float]]]:
    paths = sorted(shared_posters(name)[1].iterdir())
    posters = read_posters(paths)  # once without the clock, so that every file is in the page cache
    with tempfile.TemporaryDirectory() as folder:
        return paths, [_turn(posters, Path(folder, f"{turn}")) for turn in range(REPEATS)]


def _turn(posters: Posters, cache: Path) -> list[float]:
    """Return the seconds of digests alone, of ours, of the bare loop and of the DataLoader."""
    ways = (
        lambda: read_posters(posters.paths),
        lambda: DecodedImages(cache, Framing(SIZE)).ensure(posters),
        lambda: _bare(posters.paths),
        lambda: _data_loader(posters.paths),
    )
    seconds = [_seconds(way) for way in ways]
    shutil.rmtree(cache)
    return seconds


def _bare(paths: Sequence[Path]) -> None:
    with ThreadPoolExecutor(n_cores()) as pool:
        for _ in pool.map(bare_decode, paths):
            pass


def bare_decode(path: Path, size: int = SIZE) -> np.ndarray:
    """Return a poster (size, size, 3) by Pillow's calls alone."""
    with Image.open(path) as image:
        image.draft("RGB", (2 * size, 2 * size))
        upright = ImageOps.exif_transpose(image)
        return np.asarray(upright.convert("RGB").resize((size, size), Image.Resampling.BICUBIC))


class _Files(Dataset[Tensor]):
    transform = v2.Compose([v2.Resize((SIZE, SIZE), v2.InterpolationMode.BICUBIC), v2.PILToTensor()])

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> Tensor:
        with Image.open(self.paths[row]) as image:
            return self.transform(image.convert("RGB"))


def _data_loader(paths: Sequence[Path]) -> None:
    for _ in DataLoader(_Files(paths), batch_size=64, num_workers=n_cores()):
        pass


def _seconds(way: Callable[[], object]) -> float:
    started = time.perf_counter()
    way()
    return time.perf_counter() - started


def _speed(turns: list[list[float]], n_posters: int, way: int) -> str:
    return f"{n_posters / statistics.median(turn[way] for turn in turns):,.0f}/s"


def _ratio(turns: list[list[float]], other: int) -> float:
    """Return how many times as fast as another way ours is, within each turn."""
    return statistics.median(turn[other] / turn[1] for turn in turns)


if __name__ == "__main__":
    main()
