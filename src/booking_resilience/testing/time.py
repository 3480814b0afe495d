"""Virtual time: sleeps that return at once and move a clock that you can move yourself."""

from __future__ import annotations

import datetime
import math
import time
from collections.abc import Callable
from types import TracebackType
from typing import ParamSpec, TypeVar

from booking_resilience import clock
from booking_resilience.awaitables import decorated
from booking_resilience.checks import check_number
from booking_resilience.locks import new_lock

P = ParamSpec("P")
R = TypeVar("R")


class VirtualClock(clock.SystemClock):
    """The clock inside `virtual_time()`. Safe to share between threads.

    Attributes:
        sleeps: The seconds of every sleep so far, in the order in which they ended.
    """

    def __init__(self) -> None:
        self.sleeps: list[float] = []
        self._elapsed = 0.0
        self._lock = new_lock()
        # A whole number of seconds at or after the real clock's: what was measured before still makes sense inside,
        # and sums of delays stay free of rounding.
        self._start = float(math.ceil(time.monotonic()))
        self._utc_start = datetime.datetime.now(datetime.UTC)

    def now(self) -> float:
        """Return the virtual seconds that have passed since the block began."""
        return self._elapsed

    def advance(self, seconds: float) -> None:
        """Move the clock forward without a sleep.

        Args:
            seconds: 0 or more, finite.

        Raises:
            TypeError: If `seconds` is not a number.
            ValueError: If `seconds` is negative or infinite.
        """
        check_number("seconds", seconds)
        with self._lock:
            self._elapsed += seconds

    def monotonic(self) -> float:
        """Return the virtual monotonic time, in seconds."""
        return self._start + self._elapsed

    def utc_now(self) -> datetime.datetime:
        """Return the virtual moment, aware, in UTC."""
        return self._utc_start + datetime.timedelta(seconds=self._elapsed)

    def sleep(self, seconds: float, /) -> None:
        """Note the sleep, move the clock, return at once."""
        self.advance(seconds)
        self.sleeps.append(seconds)

    async def sleep_async(self, seconds: float, /) -> None:
        """Do the same as `sleep`, and let other tasks run and a cancellation arrive."""
        self.sleep(seconds)
        await super().sleep_async(0)


class virtual_time:  # noqa: N801 - it reads as the function that it was at first
    """Give the whole process, all threads and tasks, a virtual clock for the length of the block.

    Retries, deadlines, breakers, batches and monitors, made inside or only used inside, run by it: a sleep returns
    at once and moves the clock. The cut-off of a hanging asynchronous call stays on the event loop's own clock, since
    the loop is what waits. Blocks nest; the inner one counts. It decorates test functions, too.

    >>> from booking_resilience import TransientError, with_retry
    >>> answers = iter([TransientError(), "done"])
    >>> def flaky():
    ...     if isinstance(answer := next(answers), Exception):
    ...         raise answer
    ...     return answer
    >>> with virtual_time() as time:
    ...     with_retry(flaky)
    ...     len(time.sleeps)
    'done'
    1
    """

    def __init__(self) -> None:
        self._before: list[clock.SystemClock | None] = []

    def __enter__(self) -> VirtualClock:
        virtual = VirtualClock()
        self._before.append(clock.install(virtual))
        return virtual

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        clock.install(self._before.pop())

    def __call__(self, fn: Callable[P, R]) -> Callable[P, R]:
        """Decorate a function or coroutine function: each call runs by a virtual clock of its own.

        Raises:
            TypeError: If it is a generator function, whose body runs after the call has returned.
        """
        return decorated(virtual_time, fn, "virtual_time")
