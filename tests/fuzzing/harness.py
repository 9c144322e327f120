"""Runs a target's inputs in a process of its own, bounded in memory and time, and judges what happens.

``python -m tests.fuzzing.harness TARGET SEED FIRST LAST`` repeats inputs and prints a JSON line for each.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import random
import resource
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from hpo.data.decoding import UnreadablePoster
from hpo.errors import HpoError, SpaceError
from hpo.escaping import printable

ROOT = Path(__file__).parents[2]
TARGETS = {  # name → the function that prepares it
    "tables": "tests.fuzzing.tables:prepare_texts",
    "parquet": "tests.fuzzing.tables:prepare_parquet",
    "spaces": "tests.fuzzing.spaces:prepare",
    "images": "tests.fuzzing.images:prepare",
    "bundles": "tests.fuzzing.bundles:prepare",
    "arguments": "tests.fuzzing.arguments:prepare",
}
CPU_SECONDS = 30  # of one input, which other work on the machine does not use up; then the kernel ends the process
WALL_SECONDS = 600  # without a word from the process: it waits for something that never comes
MEMORY_BYTES = 3 * 2**30  # beyond what the process has reserved before its first input
MOST_CHARACTERS = 1000  # of a sentence

Attempt = Callable[[random.Random], object]


@dataclass
class Counts:
    """What became of a target's inputs."""

    inputs: int = 0
    accepted: int = 0
    refused: int = 0
    findings: list[dict[str, Any]] = field(default_factory=list)
    slowest_seconds: float = 0.0  # of CPU time
    peak_bytes: int = 0

    @property
    def kinds(self) -> dict[str, int]:
        """How many findings there are of each kind."""
        return dict(Counter(found["kind"] for found in self.findings))

    def add(self, told: dict[str, Any]) -> None:
        """Count one input."""
        self.inputs += 1
        self.accepted += told["outcome"] == "accepted"
        self.refused += told["outcome"] == "refused"
        if told["outcome"] == "finding":
            self.findings.append(told)
        self.slowest_seconds = max(self.slowest_seconds, told.get("seconds", 0.0))
        self.peak_bytes = max(self.peak_bytes, told.get("peak_bytes", 0))


def run(target: str, n_inputs: int, seed: int = 0) -> Counts:
    """Try ``n_inputs`` of a target. A process that dies is a finding, and another one takes the next input."""
    counts = Counts()
    while counts.inputs < n_inputs:
        before = counts.inputs
        for told in _worker(target, seed, before, n_inputs):
            counts.add(told)
        if counts.inputs == before:
            raise RuntimeError(f"the worker of {target} tried no input")
    return counts


def _worker(target: str, seed: int, first: int, last: int) -> Iterator[dict[str, Any]]:
    """Yield what a worker says of each input, and a finding for the one that it ended at."""
    words = [sys.executable, "-m", "tests.fuzzing.harness", target, f"{seed}", f"{first}", f"{last}"]
    with tempfile.TemporaryFile() as errors, subprocess.Popen(words, cwd=ROOT, stdout=-1, stderr=errors) as worker:
        assert worker.stdout is not None
        at: int | None = None
        silent, rest = False, b""
        while True:
            if not select.select([worker.stdout], [], [], WALL_SECONDS)[0]:
                silent = True
                worker.kill()
                break
            block = os.read(worker.stdout.fileno(), 2**16)
            if not block:
                break
            *lines, rest = (rest + block).split(b"\n")
            for told in map(json.loads, lines):
                at = told["index"] if told["outcome"] == "begun" else None
                if at is None:
                    yield told
        code = worker.wait()
        errors.seek(0)
        tail = errors.read()[-2000:].decode(errors="replace")
    if code == 0:
        return
    if at is None:
        raise RuntimeError(f"the worker of {target} failed outside of its inputs ({code}): {tail}")
    kind = "hung" if silent or code == -signal.SIGPROF else f"died ({code})"
    yield {"index": at, "outcome": "finding", "kind": kind, "text": tail, "seconds": 0.0}


def judge(attempt: Callable[[], object]) -> dict[str, str]:
    """Say whether an input was accepted, refused in one sentence, or is a finding."""
    try:
        attempt()
    except (HpoError, UnreadablePoster) as error:
        text = printable(str(error))
        if _is_one_sentence(text, error):
            return {"outcome": "refused", "text": text}
        return {"outcome": "finding", "kind": "more than one sentence", "text": text[:4000]}
    except Exception as error:
        ours = [frame for frame in traceback.extract_tb(error.__traceback__) if "/hpo/" in frame.filename]
        where = f" at {Path(ours[-1].filename).name}:{ours[-1].name}" if ours else ""
        text = "".join(traceback.format_exception(error, limit=-12))
        return {"outcome": "finding", "kind": f"{type(error).__name__}{where}", "text": text[-4000:]}
    return {"outcome": "accepted"}


def _is_one_sentence(text: str, error: Exception) -> bool:
    first, *others = text.split("\n")
    listed = isinstance(error, SpaceError) and all(line.startswith("  ") for line in others)
    return (
        bool(first.strip())
        and all(len(line) <= MOST_CHARACTERS for line in (first, *others))
        and (not others or listed)
    )


def _work(target: str, seed: int, first: int, last: int) -> None:
    """Try inputs one by one; the process's own stdout is for reports, so what hpo prints goes elsewhere."""
    reports = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)

    def tell(**told: object) -> None:
        print(json.dumps(told), file=reports, flush=True)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ |= {"HOME": name, "HPO_CACHE_DIR": f"{folder / 'cache'}", "MPLBACKEND": "agg", "COLUMNS": "120"}
        os.chdir(folder)
        module, _, function = TARGETS[target].partition(":")
        attempt: Attempt = getattr(importlib.import_module(module), function)(folder)
        socket.socket.connect = socket.getaddrinfo = _no_network  # type: ignore[assignment, method-assign]
        most = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE") + MEMORY_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        gc.set_threshold(100_000, 20, 100)
        for index in range(first, last):
            tell(index=index, outcome="begun")
            rng, began = random.Random(f"{target} {seed} {index}"), time.process_time()
            signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)  # unhandled, its signal ends the process
            told = judge(lambda rng=rng: attempt(rng))  # type: ignore[misc]
            signal.setitimer(signal.ITIMER_PROF, 0)
            os.chdir(folder)
            peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            tell(index=index, **told, seconds=time.process_time() - began, peak_bytes=peak)


def _no_network(*_: object, **__: object) -> NoReturn:
    raise ConnectionRefusedError(111, "Connection refused")


if __name__ == "__main__":
    _work(sys.argv[1], *map(int, sys.argv[2:]))
