"""Turn Ctrl-C into a request that is honoured between epochs and batches.

Python raises KeyboardInterrupt wherever it happens to be, also inside a database driver or a destructor, where it
tears a write apart or is swallowed. Here the first signal only leaves a note; a second one stops at once.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType

from hpo.runtime.progress import ProgressFactory, ProgressFn

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruptible:
    """While entered, Ctrl-C and SIGTERM make the next ``check`` raise KeyboardInterrupt.

    So does ``should_stop`` once it returns True: a worker does not outlive its search.
    """

    def __init__(self, should_stop: Callable[[], bool] = lambda: False) -> None:
        self._asked = False
        self._should_stop = should_stop
        self._handlers: dict[signal.Signals, signal._HANDLER] = {}

    def __enter__(self) -> Interruptible:
        if threading.current_thread() is threading.main_thread():  # Python allows handlers only there
            self._handlers = {number: signal.signal(number, self._ask) for number in _SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _ask(self, number: int, _frame: FrameType | None) -> None:
        self._asked = True
        signal.signal(number, signal.default_int_handler)

    def check(self) -> None:
        """Raise KeyboardInterrupt, once, when a stop was requested."""
        if self._asked or self._should_stop():
            self._asked = False
            raise KeyboardInterrupt

    def watching(self, phase: ProgressFactory) -> ProgressFactory:
        """Return ``phase`` with a check after every batch of posters."""

        @contextmanager
        def checked(what: str, total: int) -> Iterator[ProgressFn]:
            with phase(what, total) as progress:

                def advance(n_posters: int) -> None:
                    progress(n_posters)
                    self.check()

                yield advance

        return checked
