"""Locks that a `with` statement leaves free however it ends, and that survive a fork."""

from __future__ import annotations

import os
import sys
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _thread import RLock
    from collections.abc import Callable


def new_lock() -> RLock:
    """Return a re-entrant lock that is free again after its `with`, also if a signal's handler raises at its beginning.

    CPython 3.14 alone leaves a lock of `threading` held then (in two of three strikes; 3.13 and 3.15 in none).
    """
    return _kind()  # type: ignore[no-any-return] # a class that only 3.14 has, or a function


def fork_safe_lock() -> RLock:
    """Return a lock for a module's whole life, which no child process ever finds held by a thread that it lacks.

    It is held over every fork, so that a child also finds what it guards in one piece. Re-entrant, since a signal
    handler may run between any two instructions of the thread that holds it; what it guards must therefore be
    changed in steps that each leave it sound.
    """
    lock = new_lock()
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release)
    return lock


def run_if_free(lock: Any, work: Callable[[], object], seconds: float = 0.0) -> bool:
    """Call a function under a lock of `new_lock`, if that can be had within so many seconds; tell whether it could.

    A thread that holds it already, because a signal's handler has interrupted it, can't have it again.
    """
    if lock._is_owned():
        return False
    try:
        if not lock.acquire(True, seconds):
            return False
        work()
        lock.release()
    except BaseException:  # a handler's, perhaps right after the lock was got or given back
        if lock._is_owned():
            lock.release()
        raise
    return True


_kind: Any = threading.RLock

if sys.version_info[:2] == (3, 14):

    class _Lock(type(threading.RLock())):  # type: ignore[misc] # the class of such locks has no public name
        """A lock whose beginning either gets it or leaves it."""

        def __enter__(self: Any) -> bool:
            held = self._recursion_count()
            try:
                return bool(self.acquire())
            except BaseException:  # the handler's; whether the lock was got before, nobody can tell otherwise
                while self._recursion_count() > held:
                    self.release()
                raise

    _kind = _Lock
