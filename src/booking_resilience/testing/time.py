"""Virtual time: sleeps that return at once and move a clock that you can move yourself."""

from __future__ import annotations

import datetime
import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from booking_resilience import clock
from booking_resilience.checks import check, is_number


class VirtualClock:
    """The clock inside `virtual_time()`. Safe to share between threads.

    Attributes:
        sleeps: The seconds of every sleep so far, in the order in which they ended.
    """

    def __init__(self) -> None:
        self.sleeps: list[float] = []
        self._elapsed = 0.0
        self._lock = threading.Lock()
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
            ValueError: If `seconds` is negative, infinite or not a number.
        """
        check("seconds", seconds, is_number(seconds), "a finite number, 0 or more")
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
        """Do as `sleep`, and let other tasks run and a cancellation arrive."""
        self.sleep(seconds)
        await clock.SystemClock().sleep_async(0)


@contextmanager
def virtual_time() -> Iterator[VirtualClock]:
    """Give the whole process, all threads and tasks, a virtual clock for the length of the block.

    Retries, deadlines, breakers, batches and monitors, made inside or only used inside, run by it: a sleep returns
    at once and moves the clock. The cut-off of a hanging asynchronous call stays on the event loop's own clock, since
    the loop is what waits. Blocks nest; the inner one counts.

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
    virtual = VirtualClock()
    before = clock.install(virtual)
    try:
        yield virtual
    finally:
        clock.install(before)
