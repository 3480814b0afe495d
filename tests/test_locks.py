"""Locks that interrupts leave free."""

from __future__ import annotations

import threading
from typing import Any

from booking_resilience.locks import new_lock
from racing import Strikes, needs_timer


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


@needs_timer
def test_a_signal_that_raises_leaves_the_lock_free() -> None:
    """Wherever a handler raises in a `with`, the lock is free afterwards, also where it was held around it already."""
    lock = new_lock()

    def uses() -> None:
        for _ in range(300):
            with lock, lock:
                pass

    with Strikes() as strikes:
        for _ in range(20_000):
            if strikes.during(uses, 0.00002, 0.0003):
                assert is_free(lock)
            if strikes.count == 200:
                break
    assert strikes.count
    assert is_free(lock)


def test_a_lock_is_its_threads_alone() -> None:
    """The thread that holds it may take it again, and no other thread before it is given back as often."""
    lock = new_lock()
    with lock:
        with lock:
            assert not is_free(lock)
        assert not is_free(lock)
    assert is_free(lock)
