"""Locks that interrupts leave free."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from booking_resilience.locks import new_lock, run_if_free
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


def strike(uses: Callable[[], object], lock: Any, times: int) -> None:
    """Strike a function that uses a lock so many times; after each the lock must be free."""
    with Strikes() as strikes:
        for _ in range(20_000):
            if strikes.during(uses, 0.00002, 0.0003):
                assert is_free(lock)
            if strikes.count == times:
                break
    assert strikes.count


@needs_timer
def test_a_signal_that_raises_leaves_the_lock_free() -> None:
    """Wherever a handler raises in a `with`, the lock is free afterwards, also where it was held around it already."""
    lock = new_lock()

    def uses() -> None:
        for _ in range(300):
            with lock, lock:
                pass

    strike(uses, lock, 200)
    assert is_free(lock)


@needs_timer
def test_a_signal_that_raises_leaves_a_lock_free_that_was_not_waited_for() -> None:
    """Wherever a handler raises while a function is run if the lock is free, the lock is free afterwards."""
    lock, ran = new_lock(), list[bool]()

    def uses() -> None:
        for _ in range(300):
            assert run_if_free(lock, lambda: ran.append(True))

    strike(uses, lock, 500)
    assert ran


def test_a_function_runs_only_if_the_lock_is_free() -> None:
    """It doesn't run while another thread holds the lock, nor if its own does; what it raises comes out."""
    lock, ran = new_lock(), list[int]()
    with lock:
        assert not run_if_free(lock, lambda: ran.append(1))
        thread = threading.Thread(target=lambda: ran.append(run_if_free(lock, lambda: ran.append(2), 0.001)))
        thread.start()
        thread.join()
    with pytest.raises(ZeroDivisionError):
        run_if_free(lock, lambda: 1 / 0)
    assert is_free(lock)
    assert run_if_free(lock, lambda: ran.append(3))
    assert ran == [False, 3]


def test_a_lock_is_its_threads_alone() -> None:
    """The thread that holds it may take it again, and no other thread before it is given back as often."""
    lock = new_lock()
    with lock:
        with lock:
            assert not is_free(lock)
        assert not is_free(lock)
    assert is_free(lock)
