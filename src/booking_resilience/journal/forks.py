"""This process among those that write a journal: its forks, and its end.

Over a fork everything pauses that writes or reads a journal, for a second at most; a child goes on with threads and
connections of its own. At the end of the process what waits is written, for up to two seconds.
"""

from __future__ import annotations

import abc
import atexit
import contextlib
import os
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

from booking_resilience import clock
from booking_resilience.locks import new_lock

FAREWELL = 2.0  # seconds that the end of the process waits for what is still to be written
PAUSE = 1.0  # seconds that a fork waits for what is being written or read


class Pausing(abc.ABC):
    """Something that a fork must not catch in the middle of its work.

    Attributes:
        fork_locks: What is held over a fork.
    """

    fork_locks: tuple[Any, ...]

    def paused(self) -> None:
        """Do what is to be done before a fork, once the locks are held."""
        return

    @abc.abstractmethod
    def reborn(self, *, was_paused: bool) -> None:
        """Go on in a child process, with new locks. Unless they were held, a thread that it lacks was at work."""


registry: Any = new_lock()  # held while these change, and over a fork: two threads fork one after the other
fleets: weakref.WeakSet[Any] = weakref.WeakSet()
writers: dict[int, Any] = {}  # by the ID of their journal, which they keep alive
connections: weakref.WeakSet[Any] = weakref.WeakSet()


_paused: dict[Pausing, list[Any]] = {}  # by a fork that is under way: the locks of each


class _Life:
    """This process, from its start or fork on."""

    def __init__(self) -> None:
        self.id: bytes = os.urandom(8)
        self.started: float = clock.timestamp()
        self.end: float | None = None  # until when the end of the process waits


life: _Life = _Life()


def _things() -> list[Pausing]:
    """Return all that pauses; each may use those after it."""
    return [*fleets, *writers.values(), *connections]


def _before_fork() -> None:
    registry.acquire()
    end = time.monotonic() + PAUSE
    for thing in _things():
        locks = _paused[thing] = []
        for lock in thing.fork_locks:
            if not lock.acquire(timeout=max(0.0, end - time.monotonic())):
                _release(_paused.pop(thing))
                break
            locks.append(lock)
        else:
            thing.paused()


def _after_fork_here() -> None:
    for locks in _paused.values():
        _release(locks)
    _paused.clear()
    registry.release()


def _after_fork() -> None:
    global life
    life = _Life()
    for thing in reversed(_things()):
        thing.reborn(was_paused=thing in _paused)
    _paused.clear()
    registry.release()


def _release(locks: list[Any]) -> None:
    for lock in reversed(locks):
        lock.release()


def _at_exit() -> None:
    """Write what waits, for up to `FAREWELL` in all."""
    if life.end is None:
        life.end = time.monotonic() + FAREWELL
    for writer in list(writers.values()):
        writer.say_farewell(life.end)


_register: Callable[..., Any] | None = getattr(threading, "_register_atexit", None)  # also runs in forked workers
for _when in (atexit.register, _register):
    if _when is not None:
        with contextlib.suppress(RuntimeError):  # the interpreter is about to end
            _when(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_here, after_in_child=_after_fork)
