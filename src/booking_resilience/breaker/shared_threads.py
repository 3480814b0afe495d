"""Threads of a shared breaker, in the main interpreter, in subinterpreters and beside forks."""

from __future__ import annotations

import atexit
import sys
import threading
import time
from typing import TYPE_CHECKING

from booking_resilience.locks import new_lock

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE = 0.1  # seconds that a fork waits for a connection that is being made
LONGEST_IMPORT = 5.0  # seconds that it waits for an import


def start_thread(target: Callable[[], object], name: str) -> threading.Thread:
    """Start a daemon thread; where there can be none, in a subinterpreter, one that its end waits for."""
    try:
        thread = threading.Thread(target=target, name=name, daemon=True)
    except RuntimeError:
        thread = threading.Thread(target=target, name=name, daemon=False)
    thread.start()
    return thread


def at_end(function: Callable[[], object]) -> None:
    """Call the function when the interpreter ends; in a subinterpreter, before it waits for threads."""
    try:
        threading.Thread(daemon=True)
    except RuntimeError:
        # There is no public hook that comes before that wait; `concurrent.futures` uses this one.
        threading._register_atexit(function)  # type: ignore[attr-defined] # not in the stubs
    else:
        atexit.register(function)


class ForkGate:
    """Held while connecting, and so over a fork.

    A client imports modules when it first connects, and a child that is forked in the middle of an import has a module
    that nobody will ever finish. So a fork waits for an import, but only a moment for a Redis that does not answer.
    """

    def __init__(self) -> None:
        self._lock = new_lock()
        self._thread = 0  # that connects
        self._is_held = False  # by a fork

    def __enter__(self) -> None:
        self._lock.acquire()
        self._thread = threading.get_ident()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def before_fork(self) -> None:
        """Wait until it is safe to fork."""
        begin = time.monotonic()
        while not self._lock.acquire(timeout=0.005):
            limit = LONGEST_IMPORT if self._imports() else PATIENCE
            if time.monotonic() - begin > limit:
                return
        self._is_held = True

    def after_fork(self) -> None:
        """Go on, in the parent."""
        if self._is_held:
            self._is_held = False
            self._lock.release()

    def _imports(self) -> bool:
        frame = sys._current_frames().get(self._thread)
        while frame is not None:
            if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
                return True
            frame = frame.f_back
        return False
