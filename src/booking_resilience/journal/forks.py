"""This process among those that write a journal: its forks, and its end.

Over a fork everything pauses that writes or reads a journal, for a second at most; a child goes on with threads and
connections of its own. At the end of the process what waits is written, for up to two seconds.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

from booking_resilience import clock
from booking_resilience.locks import fork_safe_lock

FAREWELL = 2.0  # seconds that the end of the process waits for what is still to be written
PAUSE = 1.0  # seconds that a fork waits for what is being written or read

registry = fork_safe_lock()
writers: dict[int, Any] = {}
"""The writers by the ID of their journal, which they keep alive."""
journals: weakref.WeakSet[Any] = weakref.WeakSet()
fleets: weakref.WeakSet[Any] = weakref.WeakSet()


class _Life:
    """This process, from its start or fork on."""

    def __init__(self) -> None:
        self.id: bytes = os.urandom(8)
        self.started: float = clock.timestamp()
        self.end: float | None = None  # until when the end of the process waits


life = _Life()


def _at_exit() -> None:
    """Write what waits, for up to `FAREWELL` in all."""
    if life.end is None:
        life.end = time.monotonic() + FAREWELL
    for writer in list(writers.values()):
        writer.say_farewell(life.end)


_paused: list[Any] = []


def _before_fork() -> None:
    end = time.monotonic() + PAUSE
    things = (*list(writers.values()), *list(fleets), *list(journals))
    _paused[:] = [thing for thing in things if thing.pause(end)]


def _after_fork_here() -> None:
    for thing in _paused:
        thing.resume()
    _paused.clear()


def _after_fork() -> None:
    global life
    life = _Life()
    paused, _paused[:] = {id(thing) for thing in _paused}, []
    for writer in list(writers.values()):
        writer.begin()
    for thing in (*list(journals), *list(fleets)):
        thing.reborn(was_paused=id(thing) in paused)
    for fleet in list(fleets):
        fleet.start()


_register: Callable[..., Any] | None = getattr(threading, "_register_atexit", None)  # also runs in forked workers
for _when in (atexit.register, _register):
    if _when is not None:
        with contextlib.suppress(RuntimeError):  # the interpreter is about to end
            _when(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_here, after_in_child=_after_fork)
