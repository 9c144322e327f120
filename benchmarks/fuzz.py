"""Hostile input, much of it: `python -m benchmarks.fuzz [--inputs N] [--seed S] [target ...]`, minutes on two cores.

What `tests/test_fuzz.py` runs a little of: tables, Parquet types, spaces, images, bundles and arguments, each in a
process that is bounded in memory and time. Whatever is neither accepted nor refused in one sentence is a finding.
"""

from __future__ import annotations

import argparse
import sys

from benchmarks.machine import log
from tests.fuzzing.harness import TARGETS, Counts, run


def main() -> None:
    """Try the inputs, log the counts and print each kind of finding once, with how to repeat it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="target", help=f"of {', '.join(TARGETS)}; default: all")
    parser.add_argument("--inputs", type=int, default=3000, help="over all targets")
    parser.add_argument("--seed", type=int, default=1, help="the tests take 0")
    asked = parser.parse_args()
    targets = asked.targets or list(TARGETS)
    if unknown := set(targets) - set(TARGETS):
        parser.error(f"expected targets of {', '.join(TARGETS)}, got {', '.join(sorted(unknown))}")
    lines = [
        "| target | inputs | accepted | refused in one sentence | findings | slowest, CPU s | peak memory, MB |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for target in targets:
        counts = run(target, max(1, asked.inputs // len(targets)), asked.seed)
        lines.append(_row(target, counts))
        _show(target, asked.seed, counts)
    words = " ".join(["python -m benchmarks.fuzz", f"--inputs {asked.inputs} --seed {asked.seed}", *asked.targets])
    log("hostile input", words, lines)


def _row(target: str, counts: Counts) -> str:
    kinds = ", ".join(f"{n} {kind}" for kind, n in counts.kinds.items()) or "none"
    cells = target, counts.inputs, counts.accepted, counts.refused, kinds
    return f"| {' | '.join(map(str, cells))} | {counts.slowest_seconds:.2f} | {counts.peak_bytes / 1e6:,.0f} |"


def _show(target: str, seed: int, counts: Counts) -> None:
    for found in {found["kind"]: found for found in reversed(counts.findings)}.values():
        again = f"python -m tests.fuzzing.harness {target} {seed} {found['index']} {found['index'] + 1}"
        print(f"{target}: {found['kind']} ({again})\n{found['text']}\n", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
