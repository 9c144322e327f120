"""How even the splits are beside random ones, what grouping costs and prevents, and how far it all grows.

`python -m benchmarks.splits`
"""

from __future__ import annotations

import csv
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.machine import log, shared_posters
from hpo.data.dataset import DataOptions, PreparedData, prepare_data
from hpo.data.splits.split import Split, distribution, split_posters
from hpo.data.table.rules import CatalogueRules

SEEDS = range(10)
N_ROWS, N_LABELS = 100_000, 20


def prepared(name: str, cache_dir: Path) -> PreparedData:
    from contextlib import nullcontext

    table, images = shared_posters(name)
    options = DataOptions(csv=table, images=images, rules=CatalogueRules(), val_size=0.1, test_size=0.1, seed=0)
    return prepare_data(options, cache_dir, lambda *_: nullcontext(lambda _: None))


def random_split(n_posters: int, sizes: dict[str, int], seed: int) -> Split:
    rows = np.random.default_rng(seed).permutation(n_posters)
    return Split(*map(np.sort, np.split(rows, np.cumsum([sizes["train"], sizes["val"]]))))


def leaked(data: PreparedData, split: Split) -> float:
    """Return the share of test posters that have a group mate among the training posters."""
    groups = data.groups.of_poster
    return float(np.isin(groups[split.test], groups[split.train]).mean())


def evenness(name: str, cache_dir: Path) -> str:
    """Compare the largest deviation of a label's share with a random split's, over ten seeds."""
    data = prepared(name, cache_dir)
    names, targets = data.catalogue.label_names, data.catalogue.targets
    deviations: dict[str, list[float]] = {"grouped": [], "ungrouped": [], "random": []}
    leaks, off = [], 0
    for seed in SEEDS:
        grouped = split_posters(data.catalogue, 0.1, 0.1, seed, data.groups)
        ungrouped = split_posters(data.catalogue, 0.1, 0.1, seed)
        sizes = {part: len(rows) for part, rows in ungrouped.parts().items()}
        random = random_split(len(targets), sizes, seed)
        for kind, split in (("grouped", grouped), ("ungrouped", ungrouped), ("random", random)):
            deviations[kind].append(distribution(split, targets, names).largest_deviation)
        leaks.append(leaked(data, random))
        off = max(off, *(abs(len(rows) - sizes[part]) for part, rows in grouped.parts().items()))
    mean = {kind: float(np.mean(values)) for kind, values in deviations.items()}
    return (
        f"| {name} | {len(targets):,} | {data.groups.n_shared_posters:,} in {len(data.groups.shared):,} | "
        f"{mean['random']:.4f} | {mean['ungrouped']:.4f} ({mean['ungrouped'] / mean['random']:.2f}) | "
        f"{mean['grouped']:.4f} ({mean['grouped'] / mean['random']:.2f}) | {off} | {100 * np.mean(leaks):.0f} % |"
    )


def growth() -> list[str]:
    """Check and split a drawn table of 100,000 rows and 20 labels in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "drawn.csv"
        rng = np.random.default_rng(0)
        marks = rng.random((N_ROWS, N_LABELS)) < np.geomspace(0.5, 0.01, N_LABELS)
        syllables = ["ka", "no", "ri", "to", "mi", "sha", "len", "dor", "vek", "ul", "an", "the"]
        names = [" ".join(map("".join, rng.choice(syllables, (2, 4)))) for _ in range(N_ROWS // 2)]
        with table.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["id", "Title", "Genres", "Synopsis"])
            for row, marked in enumerate(marks):
                labels = ", ".join(f"label {at}" for at in np.flatnonzero(marked))
                writer.writerow([row, f"{names[row // 2]}: Part {row % 2 + 1}", labels, "words\nand words " * 20])
        words = [sys.executable, "-m", "hpo", "data", "check", str(table), "--labels", str(N_LABELS), "--json"]
        start = time.perf_counter()
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL, cwd=folder)
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    return [
        f"- `hpo data check` of {N_ROWS:,} rows × {N_LABELS} labels, start to end: {seconds:.1f} s, {peak:.2f} GiB "
        "(10 s and 1 GB are the goals)"
    ]


def main() -> None:
    lines = [
        "The largest deviation of a label's share in any part, mean of ten seeds; in brackets its ratio to random "
        "(a third is the goal). Leaked: random test posters with a group mate in train.\n",
        "| posters | | kept together | random | stratified | stratified by group | sizes off by | leaked |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    with tempfile.TemporaryDirectory() as cache_dir:
        lines += [evenness(name, Path(cache_dir)) for name in ("movie-posters", "anime-covers")]
    log("splits beside random ones", "python -m benchmarks.splits", [*lines, "", *growth()])


if __name__ == "__main__":
    main()
