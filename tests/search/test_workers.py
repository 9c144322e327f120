"""What worker processes are started with."""

from __future__ import annotations

import signal
import subprocess
import sys
from multiprocessing import resource_tracker

from hpo.search.workers import _without_ctrl_c

ASK = "import signal; print(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, []))"


def test_a23_a_process_is_deaf_to_ctrl_c_while_it_imports() -> None:
    with _without_ctrl_c():
        resource_tracker.getfd()  # as multiprocessing does before it spawns: its first call lets Ctrl-C through
        started = subprocess.run([sys.executable, "-c", ASK], capture_output=True, text=True, check=True)
    assert started.stdout.strip() == "True"
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
