"""Locks that interrupts leave free."""

from __future__ import annotations

import random
import signal
import sys
import threading
from typing import Any

import pytest

from booking_resilience.locks import new_lock


class StrikeError(Exception):
    """What a signal's handler raises."""


def is_free(lock: Any) -> bool:
    """Tell whether another thread gets the lock."""
    found: list[bool] = []

    def look() -> None:
        found.append(lock.acquire(blocking=False))
        if found[0]:
            lock.release()

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    return found[0]


@pytest.mark.skipif(sys.platform == "win32", reason="there is no such alarm")
def test_a_signal_that_raises_leaves_the_lock_free() -> None:
    """Wherever a handler raises in a `with`, the lock is free afterwards, also where it was held around it already."""
    lock = new_lock()
    is_armed = False

    def strike(*_: object) -> None:
        nonlocal is_armed
        if is_armed:
            is_armed = False
            raise StrikeError

    before = signal.signal(signal.SIGALRM, strike)
    struck = 0
    try:
        for _ in range(20_000):
            try:
                signal.setitimer(signal.ITIMER_REAL, random.uniform(0.00002, 0.0003))
                is_armed = True
                for _ in range(300):
                    with lock, lock:
                        pass
                is_armed = False
            except StrikeError:
                struck += 1
                assert is_free(lock)
            if struck == 200:
                break
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert struck
    assert is_free(lock)


def test_a_lock_is_its_threads_alone() -> None:
    """The thread that holds it may take it again, and no other thread before it is given back as often."""
    lock = new_lock()
    with lock:
        with lock:
            assert not is_free(lock)
        assert not is_free(lock)
    assert is_free(lock)
