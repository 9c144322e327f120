"""What more time buys: scores on test after so many minutes from empty caches, by space.

`python -m benchmarks.time_to_quality [--marks 5 15 45 120] [--space auto default] [--data movie-posters]`

Every space has the machine to itself and one run, which is stopped at each mark, exported, and continued. The peers at
the same marks are in `benchmarks.peers.run`. `--no-log` prints the table only.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import tempfile
from pathlib import Path

from benchmarks.machine import log, machine
from benchmarks.peers.entrants import Outcome, run_hpo
from benchmarks.peers.inputs import prepare
from benchmarks.peers.run import score_table

MARKS = [5.0, 15.0, 45.0, 120.0]  # minutes


def main() -> None:
    """Measure, print and log."""
    asked = _asked()
    outcomes: dict[str, Outcome] = {}
    with tempfile.TemporaryDirectory(prefix="time_to_quality") as temporary:
        folder = asked.keep.resolve() if asked.keep else Path(temporary)
        (folder / "inputs").mkdir(parents=True)
        inputs = prepare(asked.data, None, folder / "inputs")
        for space in asked.space:
            print(f"{space} ...", file=sys.stderr, flush=True)
            outcomes[space] = run_hpo(space, asked.hpo_options, inputs, sorted(asked.marks), folder)
    lines = [f"{asked.data}.\n", *score_table(outcomes, sorted(asked.marks))]
    if asked.no_log:
        print(f"{machine()}\n", *lines, sep="\n")
    else:
        log("what more time buys", shlex.join(["python", "-m", "benchmarks.time_to_quality", *sys.argv[1:]]), lines)


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--marks", type=float, nargs="+", default=MARKS, help="minutes")
    parser.add_argument("--space", nargs="+", default=["auto", "default"], help="spaces, in this order")
    parser.add_argument("--data", default="movie-posters", choices=["movie-posters", "anime-covers"])
    parser.add_argument("--hpo-options", default="", help="more words for hpo search, such as '--workers 2'")
    parser.add_argument("--keep", type=Path, help="a new folder for all that is left behind")
    parser.add_argument("--no-log", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
