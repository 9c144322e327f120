"""What a program takes: seconds, the memory of its whole process tree, disk; and how many lines a script has."""

from __future__ import annotations

import ast
import io
import os
import subprocess
import time
import tokenize
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

_SAMPLE_SECONDS = 2.0
_SHARED_EVERY = 10  # samples: counting shared pages once means reading every page table
_MEASURED = "# measured"  # ends a line that a script has for the benchmark's sake


@dataclass
class Usage:
    """What one program took."""

    seconds: float = 0.0
    peak_rss_bytes: int = 0  # summed over the tree: pages that processes share count once for each
    peak_pss_bytes: int = 0  # the same, shared pages counted once
    code: int = 0
    in_time: bool = True

    def __add__(self, other: Usage) -> Usage:
        """Return what two programs took, one after the other."""
        return Usage(
            self.seconds + other.seconds,
            max(self.peak_rss_bytes, other.peak_rss_bytes),
            max(self.peak_pss_bytes, other.peak_pss_bytes),
            self.code or other.code,
            self.in_time and other.in_time,
        )


def watch(command: Sequence[str], folder: Path, environment: Mapping[str, str], limit_seconds: float) -> Usage:
    """Run a program in `folder`, its output in `output.txt` beside it; end it and its children after the limit."""
    usage, n_samples = Usage(), 0
    seen: dict[int, psutil.Process] = {}
    with (folder.parent / "output.txt").open("a") as output:
        program = psutil.Popen(command, cwd=folder, env=dict(environment), stdout=output, stderr=subprocess.STDOUT)
        started = program.create_time()
        while usage.in_time:
            tree = _tree(program)
            seen |= {process.pid: process for process in tree}
            usage.peak_rss_bytes = max(usage.peak_rss_bytes, _rss(tree))
            if n_samples % _SHARED_EVERY == 2:
                usage.peak_pss_bytes = max(usage.peak_pss_bytes, _pss(tree))
            n_samples += 1
            with suppress(psutil.TimeoutExpired):
                usage.code = program.wait(_SAMPLE_SECONDS)
                break
            usage.in_time = _since(started) < limit_seconds
        usage.seconds = _since(started)
        _end([program, *seen.values()])
    return usage


def _since(started: float) -> float:
    return time.time() - started


def _tree(program: psutil.Popen) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return [psutil.Process(program.pid), *program.children(recursive=True)]
    return []


def _rss(processes: list[psutil.Process]) -> int:
    total = 0
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            total += process.memory_info().rss
    return total


def _pss(processes: list[psutil.Process]) -> int:
    total = 0
    for process in processes:
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            total += process.memory_full_info().pss
    return total


def _end(processes: list[psutil.Process]) -> None:
    """End what a program left running; psutil knows a process by its time of birth as well, so none but these."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, timeout=10)


def disk_bytes(folder: Path) -> int:
    """Return what a folder takes on disk."""
    files = (Path(place) / name for place, _, names in os.walk(folder) for name in names)
    return sum(file.lstat().st_blocks * 512 for file in files if file.is_file())


def lines_of(script: Path) -> int:
    """Count a script's lines, without blank ones, comments, docstrings and what it has for the benchmark's sake."""
    text = script.read_text()
    lines = text.splitlines()
    docstrings = {line for node in ast.walk(ast.parse(text)) for line in _docstring_lines(node)}
    no_code = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    code = {line for token in tokens if token.type not in no_code for line in range(token.start[0], token.end[0] + 1)}
    return sum(not lines[line - 1].endswith(_MEASURED) for line in code - docstrings)


def _docstring_lines(node: ast.AST) -> range:
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node):
        return range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1)
    return range(0)
