"""The queue in front of a limit: who waits and who is next, for threads, asyncio and trio alike.

Waiting needs no thread of its own and no polling: each waiter sleeps on a signal, and whoever frees a place wakes the
next in line, which takes it itself.
"""

from __future__ import annotations

import bisect
import contextlib
import operator
from contextvars import ContextVar
from typing import Any, TypeAlias

from booking_resilience.checks import check, check_type, is_number
from booking_resilience.signals import TaskSignal, ThreadSignal

_Block: TypeAlias = "tuple[priority, _Block | None]"
"""A block of `priority`, and the one around it."""

_innermost: ContextVar[_Block | None] = ContextVar("booking_resilience_priority", default=None)


class priority:  # noqa: N801 - it is used like a function: `with priority(10):`
    """Let calls that wait for a limit inside the block go before those of a lower priority.

    One object may be used again, and by several threads and tasks at once.

    Args:
        rank: A finite number; higher ranks go first. Without `priority` it is 0.

    Raises:
        TypeError: If `rank` isn't a number.
        ValueError: If it is infinite or NaN.

    >>> with priority(10):
    ...     current_priority()
    10
    """

    __slots__ = ("_rank",)

    def __init__(self, rank: float) -> None:
        is_real = isinstance(rank, (int, float)) and not isinstance(rank, bool)
        check_type("priority", rank, is_real, "a finite number")
        check("priority", rank, is_number(abs(rank)), "a finite number")
        self._rank = rank

    def __enter__(self) -> None:
        _innermost.set((self, _innermost.get()))

    def __exit__(self, *_: object) -> None:
        block = _innermost.get()
        while block is not None and block[0] is not self:
            block = block[1]
        if block is not None:  # else a generator's, which was closed in another context
            _innermost.set(block[1])


def current_priority() -> float:
    """Return the priority that the calling code waits with."""
    block = _innermost.get()
    return 0 if block is None else block[0]._rank


class Waiter:
    """Somebody who waits in line.

    Attributes:
        signal: Wakes it, to look whether it is its turn.
        place: What it has got; None as long as it waits.
        rank: Where it stands: its priority, then minus the number of its arrival; set by `Line.join`.
        is_late: Whether its last wait ended because the time was over.
        is_awake: Whether it was woken, and has not looked since. The lock is held where it changes.
    """

    __slots__ = ("is_awake", "is_late", "place", "rank", "signal")

    def __init__(self, *, is_async: bool) -> None:
        self.signal: Any = TaskSignal() if is_async else ThreadSignal()
        self.place: Any = None
        self.is_late: bool = False
        self.is_awake: bool = False
        self.rank: tuple[float, int] = (0, 0)


class Line(list[Waiter]):
    """Who waits, the next one last: the highest priority, within one the first who came. Its user holds a lock."""

    __slots__ = ("_arrivals",)

    def __init__(self) -> None:
        super().__init__()
        self._arrivals = 0

    def join(self, waiter: Waiter) -> None:
        """Add a waiter, with the priority of the calling code."""
        self._arrivals += 1
        waiter.rank = (current_priority(), -self._arrivals)
        bisect.insort(self, waiter, key=_RANK)

    def wake(self, count: int) -> None:
        """Have the first so many look whether it is their turn; who waits in an event loop that is gone leaves."""
        for waiter in reversed(self):  # such an iterator bears that a signal's handler takes waiters out
            if count <= 0:
                return
            if (waiter.is_awake and waiter.signal.is_there()) or waiter.signal.wake():
                waiter.is_awake = True
                count -= 1
            else:
                self.leave(waiter)

    def ahead_of(self, waiter: Waiter) -> int:
        """Return how many stand before the waiter."""
        return len(self) - bisect.bisect_right(self, waiter.rank, key=_RANK)

    def leave(self, waiter: Waiter) -> None:
        """Take the waiter out, if it is still there."""
        with contextlib.suppress(ValueError):
            self.remove(waiter)  # one step of the interpreter: a signal's handler may use the limit, too


_RANK = operator.attrgetter("rank")
