"""Commands in processes of their own that need not import PyTorch and MLflow again, which takes seconds of a core each.

A server without threads imports them once, and forks a process for every command. Such a process has its own id,
folder, environment, output and signals, and ends by an exit code or a signal, as one that a shell has started.
"""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from multiprocessing.context import ForkServerContext
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]


def forking_context() -> ForkServerContext:
    """Python's context for processes that have imported hpo when they begin."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.preloaded"])
    return context


class ForkedCommand:
    """One command of hpo at work; as much of ``subprocess.Popen`` as tests ask of it.

    ``words`` follow ``hpo``; ``folder`` is the current one, and ``env`` the whole environment.
    """

    def __init__(self, words: tuple[str, ...], folder: Path, env: dict[str, str]) -> None:
        self._output = tempfile.TemporaryDirectory(prefix="hpo-output-")
        self._process = forking_context().Process(target=_run, args=(words, folder, env, Path(self._output.name)))
        with contextlib.chdir(REPOSITORY):  # from where the first of them starts the server
            self._process.start()

    @property
    def pid(self) -> int:
        """The id of the process."""
        pid = self._process.pid
        assert pid is not None
        return pid

    @property
    def returncode(self) -> int | None:
        """The exit code, or minus the signal that ended the process; None while it works."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """As ``returncode``."""
        return self.returncode

    def send_signal(self, blow: signal.Signals) -> None:
        """Send a signal, unless the process has ended."""
        if self.returncode is None:
            os.kill(self.pid, blow)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for the end, and return what was written to stdout and to stderr.

        Raises subprocess.TimeoutExpired after ``timeout`` seconds.
        """
        self._process.join(timeout)
        if self.returncode is None:
            assert timeout is not None
            raise subprocess.TimeoutExpired("hpo", timeout)
        folder = Path(self._output.name)
        return (folder / "stdout").read_text(encoding="utf-8"), (folder / "stderr").read_text(encoding="utf-8")


def _run(words: tuple[str, ...], folder: Path, env: dict[str, str], output: Path) -> None:
    """Be the command, in the new process."""
    os.environ.clear()
    os.environ.update(env)
    os.chdir(folder)
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(output / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), descriptor)
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - until the process ends
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)  # noqa: SIM115
    sys.argv = ["hpo", *words]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    from hpo.cli.app import main

    try:
        main()
    finally:
        atexit._run_exitfuncs()  # which multiprocessing leaves out
