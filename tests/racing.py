"""What the tests that race share: threads that take turns all the time, and signals that strike anywhere."""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
needs_timer = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="Windows has no timers that signal")


@contextmanager
def taking_turns(seconds: float = 1e-6) -> Iterator[None]:
    """Have the interpreter switch threads after so many seconds, by default as often as it can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(seconds)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def fork_while_threads(work: Callable[[], object]) -> None:
    """Fork again and again while threads do the work without end; each child must be able to do it, too."""
    stop = threading.Event()

    def go_on() -> None:
        while not stop.is_set():
            work()

    threads = [threading.Thread(target=go_on, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(20):
            pid = os.fork()
            if pid == 0:
                signal.alarm(20)
                work()
                os._exit(0)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join()


class StrikeError(BaseException):
    """What a signal's handler raises."""


class Strikes:
    """Within its `with`, `during` calls functions into which a signal's handler raises, between any two instructions.

    The signal is repeated until it strikes, and goes on after it: CPython 3.11 has a thread that is traced (coverage
    does) spin while a signal waits for the main thread; if that waits for a lock of the spinning one, only another
    signal gets it out.

    Attributes:
        count: How many calls were struck.
    """

    def __init__(self, rng: random.Random | None = None) -> None:
        self._rng = rng or random.Random()
        self._is_armed = False
        self.count = 0

    def __enter__(self) -> Strikes:
        self._before = signal.signal(signal.SIGALRM, self._strike)
        return self

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self._before)

    def during(self, work: Callable[[], Any], at_least: float, at_most: float) -> bool:
        """Call the function and strike it once, after a random time between these (in seconds), unless it ends before.

        Returns:
            Whether it was struck.
        """
        try:
            signal.setitimer(signal.ITIMER_REAL, self._rng.uniform(at_least, at_most), 0.02)
            self._is_armed = True
            work()
            self._is_armed = False
        except StrikeError:
            self.count += 1
            return True
        return False

    def _strike(self, *_: object) -> None:
        if self._is_armed:
            self._is_armed = False
            raise StrikeError
