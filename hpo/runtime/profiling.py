"""Profile a search: stages with begin and end, in a file for a trace viewer.

The file is Chrome's *Trace Event Format* in its array form (read by ui.perfetto.dev and chrome://tracing), whose last
bracket may be missing: so that every process of a search appends its events, and what a kill leaves can be opened.
Where no timeline is kept, a stage costs nothing worth measuring.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from hpo.errors import DataError

SUPERVISING = "supervising"  # a process that only waits for others and does no work
_NOT_IN_A_STAGE = "the rest"

_file: int | None = None  # a descriptor; None where no timeline is kept


def begin(file: Path) -> None:
    """Begin a new timeline in ``file``; one that is there is replaced. Raises DataError where that cannot be."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("[\n")
    except OSError as error:
        raise DataError(
            f"Expected to write the timeline to {file}, got {error.strerror}: name another file with --profile."
        ) from error


def join(file: Path, who: str) -> None:
    """Append what this process does to ``file`` from now on; ``who`` is its name in the viewer."""
    global _file
    _file = os.open(file, os.O_WRONLY | os.O_APPEND)
    _append({"name": "process_name", "ph": "M", "pid": os.getpid(), "args": {"name": who}})
    born = psutil.Process().create_time()
    _append_stage("starting", born, time.time() - born, {})


def leave() -> None:
    """Append nothing any more."""
    global _file
    if _file is not None:
        os.close(_file)
        _file = None


@contextmanager
def joined(file: Path | None, who: str) -> Iterator[None]:
    """Append what this process does inside to the timeline in ``file``, where one is kept."""
    if file is not None:
        join(file, who)
    try:
        yield
    finally:
        leave()


@contextmanager
def stage(name: str, **facts: Any) -> Iterator[None]:
    """Note what happens inside as a stage of the search, however it ends; stages may lie within others."""
    if _file is None:
        yield
        return
    at, began = time.time(), time.perf_counter()
    try:
        yield
    finally:
        _append_stage(name, at, time.perf_counter() - began, facts)


def _append_stage(name: str, at: float, seconds: float, facts: Mapping[str, Any]) -> None:
    microseconds = {"ts": round(at * 1e6), "dur": round(seconds * 1e6)}
    whose = {"pid": os.getpid(), "tid": threading.get_native_id()}
    _append({"name": name, "ph": "X", **microseconds, **whose, "args": dict(facts)})


def _append(event: Mapping[str, Any]) -> None:
    if _file is not None:
        with suppress(OSError):  # a full disk: an event is not worth a trial
            os.write(_file, f"{json.dumps(event)},\n".encode())  # in one piece, so that processes do not mix theirs


def seconds_by_stage(file: Path) -> dict[str, float]:
    """Return for each stage the seconds that all workers spent in it and in no stage within it, longest first.

    A process counts from its start to its last event; what it spent outside all stages is ``the rest``.
    """
    lanes: dict[tuple[int, int], list[dict[str, Any]]] = defaultdict(list)
    for event in _events(file):
        if event["ph"] == "X":
            lanes[event["pid"], event["tid"]].append(event)
    seconds: dict[str, float] = defaultdict(float)
    for lane in lanes.values():
        for name, own in _own_microseconds(lane):
            seconds[name] += own / 1e6
    seconds.pop(SUPERVISING, None)
    return dict(sorted(seconds.items(), key=lambda item: -item[1]))


def in_a_sentence(seconds: Mapping[str, float]) -> str:
    """Return ``82 % training, 11 % features, 4 % MLflow, 3 % the rest``, of what ``seconds_by_stage`` returns."""
    total = sum(seconds.values()) or 1.0
    shares, so_far = [], 0.0
    for name, taken in seconds.items():
        if name != _NOT_IN_A_STAGE and taken / total >= 0.01:
            shares.append(f"{100 * taken / total:.0f} % {name}")
            so_far += taken
    rest = 1 - so_far / total
    return ", ".join([*shares, *([f"{100 * rest:.0f} % {_NOT_IN_A_STAGE}"] if rest >= 0.005 else [])])


def _events(file: Path) -> list[dict[str, Any]]:
    """Whole events only: a kill, or a full disk, may have cut off some."""
    events = []
    for line in file.read_text().splitlines()[1:]:
        with suppress(json.JSONDecodeError):
            events.append(json.loads(line.removesuffix(",")))
    return events


def _own_microseconds(lane: list[dict[str, Any]]) -> Iterator[tuple[str, float]]:
    """Yield the name of each stage of one thread with what it took without those within it; then the rest."""
    lane = sorted(lane, key=lambda event: (event["ts"], -event["dur"]))
    own = [float(event["dur"]) for event in lane]
    within: list[int] = []  # the stages that are open, by place
    covered = 0.0
    for at, event in enumerate(lane):
        while within and _end(lane[within[-1]]) <= event["ts"]:
            within.pop()
        if within:
            own[within[-1]] -= event["dur"]
        else:
            covered += event["dur"]
        within.append(at)
    yield from ((event["name"], max(0.0, mine)) for event, mine in zip(lane, own, strict=True))
    if lane:
        yield _NOT_IN_A_STAGE, max(0.0, max(map(_end, lane)) - lane[0]["ts"] - covered)


def _end(event: Mapping[str, Any]) -> float:
    return float(event["ts"] + event["dur"])
