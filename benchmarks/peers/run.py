"""hpo beside what a user would pick instead, on the same posters, split, weights and cores.

`python -m benchmarks.peers.environments` makes the peers' environments; then

    python -m benchmarks.peers.run [--marks 5 15 45] [--peer plain --peer ray ...] [--data movie-posters]

Every entrant starts cold, has the machine to itself and is scored at so many minutes of wall-clock from the start of
its process. What must know its limit of time beforehand (AutoGluon) is run once for each mark. Of the others
one run holds all marks: hpo's search is stopped at each, its best exported, and the same study continued with, all of
it within the time. `--no-log` prints the table only.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.machine import log, machine, skip
from benchmarks.peers.entrants import EXPORT_SECONDS, PEERS, Outcome, run_hpo, run_peer
from benchmarks.peers.environments import python_of
from benchmarks.peers.inputs import prepare
from benchmarks.peers.scoring import CALIBRATED, METRICS, OWN

MARKS = (5.0, 15.0, 45.0)  # minutes
HPO = "hpo"


def main() -> None:
    """Measure, print and log."""
    asked = _asked()
    marks = sorted(asked.marks)
    spaces = {HPO: "auto"} | {f"{HPO} {space}": space for space in asked.space}
    peers = _installed(asked.peer or list(PEERS))
    if not peers:
        skip("no peer is installed (python -m benchmarks.peers.environments makes their environments)")
    outcomes: dict[str, Outcome] = {}
    with tempfile.TemporaryDirectory(prefix="peers") as temporary:
        folder = asked.keep.resolve() if asked.keep else Path(temporary)
        (folder / "inputs").mkdir(parents=True)
        inputs = prepare(asked.data, asked.posters, folder / "inputs")
        for name in peers:
            print(f"{name} ...", file=sys.stderr, flush=True)
            outcomes[name] = run_peer(name, inputs, marks, folder)
        for name, space in spaces.items() if not asked.without_hpo else ():
            print(f"{name} ...", file=sys.stderr, flush=True)
            outcomes[name] = run_hpo(space, asked.hpo_options, inputs, marks, folder)
    posters = ", ".join(f"{n:,} {part}" for part, n in inputs.n_posters.items())
    lines = [f"{asked.data}, {posters} posters.\n", *score_table(outcomes, marks), "", *_words(outcomes)]
    command = shlex.join(["python", "-m", "benchmarks.peers.run", *sys.argv[1:]])
    if asked.no_log:
        print(f"{machine()}\n", *lines, sep="\n")
    else:
        log("beside what a user would pick instead", command, lines)


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="hpo beside what a user would pick instead.")
    parser.add_argument("--marks", type=float, nargs="+", default=MARKS, metavar="MINUTES")
    parser.add_argument("--peer", action="append", choices=list(PEERS), help="default: all that are installed")
    parser.add_argument("--data", default="movie-posters", help="a folder of the shared posters")
    parser.add_argument("--posters", type=int, help="take the first so many rows only, to see that all runs")
    parser.add_argument("--space", action="append", default=[], help="also run hpo on this space")
    parser.add_argument("--hpo-options", default="", help="more words for hpo search, such as '--workers 2'")
    parser.add_argument("--without-hpo", action="store_true", help="run the peers alone")
    parser.add_argument("--keep", type=Path, help="a new folder to keep all that was made in")
    parser.add_argument("--no-log", action="store_true", help="print, and leave LOG.md alone")
    asked = parser.parse_args()
    if 60 * min(asked.marks) <= EXPORT_SECONDS:
        parser.error(f"--marks expects more than the {EXPORT_SECONDS} s that hpo keeps for its export")
    return asked


def _installed(names: list[str]) -> list[str]:
    absent = [name for name in names if python_of(name) is None]
    if absent:
        print(f"skipped, not installed: {', '.join(absent)}", file=sys.stderr)
    return [name for name in names if name not in absent]


def score_table(outcomes: dict[str, Outcome], marks: list[float]) -> list[str]:
    """Return a Markdown table of what each entrant reached at each mark, and of what it cost."""
    rows = [
        _row("trials an hour", outcomes, lambda outcome: outcome.trials_an_hour, ".1f"),
        *(
            _row(f"{metric} at {mark:g} min, {thresholds}", outcomes, _score_at(mark, thresholds, metric), ".3f")
            for mark in marks
            for metric in METRICS
            for thresholds in ((OWN, CALIBRATED) if metric != "mean_ap" else (OWN,))
        ),
        _row("peak memory, RSS summed, GB", outcomes, lambda outcome: outcome.usage.peak_rss_bytes / 2**30, ".2f"),
        _row(
            "peak memory, shared pages once, GB", outcomes, lambda outcome: outcome.usage.peak_pss_bytes / 2**30, ".2f"
        ),
        _row("disk left behind, GB", outcomes, lambda outcome: outcome.disk_bytes / 2**30, ".2f"),
        _row("lines that a user writes", outcomes, lambda outcome: float(outcome.n_lines), ".0f"),
    ]
    head = f"| on test | {' | '.join(outcomes)} |"
    ratios = ["", "After the dot: hpo's figure over this one."] if HPO in outcomes else []
    return [head, "| --- " * (len(outcomes) + 1) + "|", *rows, *ratios]


def _row(title: str, outcomes: dict[str, Outcome], figure: Callable[[Outcome], float | None], form: str) -> str:
    """Write a row of figures, each with the ratio of hpo's to it."""
    figures = {name: figure(outcome) for name, outcome in outcomes.items()}
    ours = figures.get(HPO)
    cells = [_cell(value, ours if name != HPO else None, form) for name, value in figures.items()]
    return f"| {title} | {' | '.join(cells)} |"


def _cell(value: float | None, ours: float | None, form: str) -> str:
    if value is None:
        return "none"
    if ours is None:
        return f"{value:{form}}"
    return f"{value:{form}} · {ours / value:.2f}" if value else f"{value:{form}} · ∞"


def _score_at(mark: float, thresholds: str, metric: str) -> Callable[[Outcome], float | None]:
    def value(outcome: Outcome) -> float | None:
        found = [result.scores[thresholds][metric] for result in outcome.results if result.mark == mark]
        return found[0] if found else None

    return value


def _words(outcomes: dict[str, Outcome]) -> list[str]:
    """Say of each entrant what it is, since when its best was there, and what it could not do."""
    lines = []
    for name, outcome in outcomes.items():
        peer = PEERS.get(name)
        reached = [f"{result.seconds / 60:.1f} min for the mark of {result.mark:g}" for result in outcome.results]
        said = [peer.what if peer else "", ", ".join(reached) or "nothing to show", peer.word if peer else ""]
        lines.append(f"- {name}: {'; '.join(filter(None, [*said, *outcome.words]))}")
    return lines


if __name__ == "__main__":
    main()
