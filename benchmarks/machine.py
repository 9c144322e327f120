"""What the benchmarks share: the machine in a line, the real posters, and a dated entry in LOG.md."""

from __future__ import annotations

import datetime
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from hpo.runtime.progress import ProgressFn

ROOT = Path(__file__).parents[1]
LOG = ROOT / "benchmarks" / "LOG.md"


@dataclass(frozen=True)
class Gap:
    """A stage of a search beside a bare loop of the same work, in seconds of medians."""

    stage: str
    ours: float
    bare: float
    besides: str  # what ours does and the bare loop does not

    @property
    def speed(self) -> float:
        """How fast ours is, as a share of the bare loop."""
        return self.bare / self.ours


def median_seconds(act: Callable[[], object], repeats: int) -> float:
    """Return how long ``act`` takes, in the median of some repeats."""
    spent = []
    for _ in range(repeats):
        began = time.perf_counter()
        act()
        spent.append(time.perf_counter() - began)
    return statistics.median(spent)


@contextmanager
def phase(what: str, n_posters: int) -> Iterator[ProgressFn]:
    """Say what caches are filled with, once."""
    print(f"{what}: {n_posters:,}", file=sys.stderr, flush=True)
    yield lambda _: None


def shared_posters(name: str) -> tuple[Path, Path]:
    """Return the CSV and the image folder of a set of real posters; skip the benchmark where they are absent."""
    folder = Path(os.environ.get("HPO_SHARED_DATA", ROOT.parent / "shared" / "data")) / name
    if not folder.is_dir():
        skip(f"the shared posters are not at {folder} (HPO_SHARED_DATA names another place)")
    return next(folder.glob("*.csv")), folder / "images"


def skip(why: str) -> NoReturn:
    """End a benchmark that cannot be run here, without failing: `make bench` continues with the next."""
    print(f"skipped: {why}", file=sys.stderr)
    sys.exit(0)


def machine() -> str:
    """Describe the machine in a line."""
    cores = len(os.sched_getaffinity(0))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    busy = os.getloadavg()[0]
    return f"{_cpu()}, {cores} cores, {memory:.0f} GiB, load {busy:.1f} before, Python {platform.python_version()}"


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def log(title: str, command: str, lines: list[str]) -> None:
    """Print an entry and append it to LOG.md, with date, commit and machine."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout
    entry = [
        f"\n## {datetime.date.today()} · {title}\n",
        f"`{command}` at {commit.strip()}; {machine()}\n",
        *lines,
        "",
    ]
    print("\n".join(entry))
    with LOG.open("a") as file:
        file.write("\n".join(entry))
