"""A timeout for synchronous calls that have none of their own."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import ParamSpec, TypeVar

from booking_resilience.checks import check_number, check_whole
from booking_resilience.clock import monotonic
from booking_resilience.cutoff import cut_off
from booking_resilience.deadlines import remaining_time
from booking_resilience.errors import DeadlineExceededError, LimitExceededError
from booking_resilience.load.queue import ThreadSignal
from booking_resilience.load.threads import Abandoned, start_call

P = ParamSpec("P")
T = TypeVar("T")


class ThreadTimeout:
    """Gives each call at most `seconds`: `Pipeline(timeout=ThreadTimeout(2.0))`.

    A synchronous call runs in a daemon thread. When its time is over it is abandoned: it goes on, unobserved, and what
    it returns is dropped. Context variables reach it; thread-locals and Ctrl-C don't. Prefer the timeouts of the
    client that you call: they end the call itself. An asynchronous call needs no thread: it is cancelled.

    Args:
        seconds: For each call, or what the deadline leaves, if that is less; above 0.
        max_abandoned: Abandoned calls that may still run; with as many, a call is rejected. 1 or more.

    Raises:
        TypeError: If a setting has the wrong type.
        ValueError: If a setting is out of its range.
    """

    __slots__ = ("_abandoned", "_max_abandoned", "_seconds")

    def __init__(self, seconds: float, *, max_abandoned: int = 32) -> None:
        check_number("seconds", seconds, above=True)
        check_whole("max_abandoned", max_abandoned)
        self._seconds, self._max_abandoned = seconds, max_abandoned
        self._abandoned = Abandoned()

    def __repr__(self) -> str:
        return f"ThreadTimeout({self._seconds:g}, max_abandoned={self._max_abandoned})"

    def wrap(self, fn: Callable[P, T], /) -> Callable[P, T]:
        """Return what calls `fn`, within its time."""

        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            seconds, ends_operation = self._time()
            if self._abandoned.running >= self._max_abandoned:
                raise LimitExceededError("ThreadTimeout")
            signal = ThreadSignal()
            running = start_call(functools.partial(fn, *args, **kwargs), signal, self._abandoned)
            try:
                signal.wait(seconds)
            finally:
                running.abandon()
            if not running.is_over:
                raise self._late(ends_operation)
            if running.error is not None:
                try:
                    raise running.error
                finally:
                    running.error = None  # its traceback leads back to this frame
            result: T = running.value
            return result

        return call

    def wrap_async(self, fn: Callable[P, Awaitable[T]], /) -> Callable[P, Awaitable[T]]:
        """Return what calls and awaits `fn`, within its time."""

        async def call(*args: P.args, **kwargs: P.kwargs) -> T:
            seconds, ends_operation = self._time()
            if ends_operation:
                return await fn(*args, **kwargs)  # the operation's own cut-off is as near
            return await cut_off(fn(*args, **kwargs), monotonic() + seconds, TimeoutError, "ThreadTimeout", True)

        return call

    def _time(self) -> tuple[float, bool]:
        """Return the seconds that a call may take, and whether it is the operation's deadline that says so."""
        left = remaining_time()
        return (left, True) if left is not None and left < self._seconds else (self._seconds, False)

    def _late(self, ends_operation: bool) -> TimeoutError:
        if ends_operation:
            return DeadlineExceededError("the deadline passed during a call, which goes on in its thread")
        return TimeoutError(f"the call took longer than {self._seconds:g} s; it goes on in its thread")
