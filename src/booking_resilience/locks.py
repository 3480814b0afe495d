"""Locks that survive a fork."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _thread import RLock


def fork_safe_lock() -> RLock:
    """Return a lock for a module's whole life, which no child process ever finds held by a thread that it lacks.

    It is held over every fork, so that a child also finds what it guards in one piece. Re-entrant, since a signal
    handler may run between any two instructions of the thread that holds it; what it guards must therefore be
    changed in steps that each leave it sound.
    """
    lock = threading.RLock()
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release)
    return lock
