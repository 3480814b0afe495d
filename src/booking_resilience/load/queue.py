"""The queue in front of a limit: who waits, who is next, and how to wake them, for threads, asyncio and trio alike.

Waiting needs no thread of its own and no polling: each waiter sleeps on a signal of its own kind, and whoever frees a
place wakes the next in line.
"""

from __future__ import annotations

import bisect
import sys
import threading
from contextvars import ContextVar
from typing import Any

from booking_resilience import clock
from booking_resilience.checks import check, check_type, is_number

_priority: ContextVar[float] = ContextVar("booking_resilience_priority", default=0)


class priority:  # noqa: N801 - it is used like a function: `with priority(10):`
    """Whoever waits for a limit inside of the block stands before waiters of a lower priority.

    Args:
        rank: A finite number; higher ones come first, 0 is everybody's who says nothing.

    Raises:
        TypeError: If `rank` isn't a number.
        ValueError: If it is infinite or NaN.

    >>> with priority(10):
    ...     current_priority()
    10
    """

    __slots__ = ("_before", "_rank")

    def __init__(self, rank: float) -> None:
        is_real = isinstance(rank, (int, float)) and not isinstance(rank, bool)
        check_type("priority", rank, is_real, "a finite number")
        check("priority", rank, is_number(abs(rank)), "a finite number")
        self._rank = rank
        self._before: list[float] = []

    def __enter__(self) -> None:
        self._before.append(_priority.get())
        _priority.set(self._rank)

    def __exit__(self, *_: object) -> None:
        _priority.set(self._before.pop())


def current_priority() -> float:
    """Return the priority that the calling code waits with."""
    return _priority.get()


class ThreadSignal:
    """Wakes a waiting thread."""

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event = threading.Event()

    def wake(self) -> bool:
        """Wake the thread."""
        self._event.set()
        return True

    def clear(self) -> None:
        """Forget that it was woken."""
        self._event.clear()

    def wait(self, seconds: float | None) -> None:
        """Block until woken, `seconds` at most; None for as long as it takes. Real time."""
        self._event.wait(None if seconds is None else min(seconds, threading.TIMEOUT_MAX))


class AsyncioSignal:
    """Wakes a waiting asyncio task."""

    __slots__ = ("_future", "_loop")

    def __init__(self) -> None:
        import asyncio

        self._loop = asyncio.get_running_loop()
        self._future: asyncio.Future[None] = self._loop.create_future()

    def wake(self) -> bool:
        """Wake the task."""
        try:
            self._loop.call_soon_threadsafe(self._arrive)
        except RuntimeError:  # the loop is closed
            return False
        return True

    async def wait(self, seconds: float | None) -> None:
        """Suspend until woken, `seconds` at most; None for as long as it takes. The loop's time."""
        timer = None if seconds is None else self._loop.call_later(seconds, self._arrive)
        try:
            await self._future
        finally:
            if timer is not None:
                timer.cancel()

    def _arrive(self) -> None:
        if not self._future.done():
            self._future.set_result(None)


class TrioSignal:
    """Wakes a waiting trio task."""

    __slots__ = ("_event", "_token")

    def __init__(self) -> None:
        import trio

        self._event = trio.Event()
        self._token = trio.lowlevel.current_trio_token()

    def wake(self) -> bool:
        """Wake the task."""
        trio = sys.modules["trio"]
        try:
            self._token.run_sync_soon(self._event.set)
        except trio.RunFinishedError:
            return False
        return True

    async def wait(self, seconds: float | None) -> None:
        """Suspend until woken, `seconds` at most; None for as long as it takes. Trio's time."""
        import trio

        with trio.move_on_after(float("inf") if seconds is None else seconds):
            await self._event.wait()


def async_signal() -> AsyncioSignal | TrioSignal:
    """Return a signal for the event loop that runs the calling task."""
    return TrioSignal() if clock.in_trio() else AsyncioSignal()


class Waiter:
    """Somebody who waits in line.

    Attributes:
        signal: Wakes it.
        place: What it was given; None as long as it waits.
    """

    __slots__ = ("key", "place", "signal")

    def __init__(self, signal: Any) -> None:
        self.signal = signal
        self.place: Any = None
        self.key: tuple[float, int] = (0.0, 0)  # where it stands: set by `Line.join`


class Line:
    """Who waits, in order: the highest priority first, within one the first who came. Its user holds a lock."""

    __slots__ = ("_arrivals", "waiting")

    def __init__(self) -> None:
        self.waiting: list[tuple[float, int, Waiter]] = []  # the next one stands last
        self._arrivals = 0

    def __len__(self) -> int:
        return len(self.waiting)

    def join(self, rank: float, waiter: Waiter) -> None:
        """Add a waiter."""
        self._arrivals += 1
        waiter.key = (rank, -self._arrivals)
        bisect.insort(self.waiting, (*waiter.key, waiter))

    def first(self) -> Waiter | None:
        """Return who is next; None if nobody waits."""
        return self.waiting[-1][2] if self.waiting else None

    def ahead_of(self, waiter: Waiter) -> int:
        """Return how many stand before the waiter."""
        return len(self.waiting) - 1 - self._index(waiter)

    def leave(self, waiter: Waiter) -> None:
        """Take the waiter out, if it is still there."""
        index = self._index(waiter)
        if index >= 0:
            del self.waiting[index]

    def _index(self, waiter: Waiter) -> int:
        index = bisect.bisect_left(self.waiting, waiter.key, key=_key_of)
        return index if index < len(self.waiting) and self.waiting[index][2] is waiter else -1


def _key_of(entry: tuple[float, int, Waiter]) -> tuple[float, int]:
    return entry[:2]
