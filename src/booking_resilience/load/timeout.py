"""A timeout for synchronous calls that have none of their own."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Literal, NoReturn, ParamSpec, TypeVar

from booking_resilience import clock
from booking_resilience.awaitables import AWAITABLE_NEVER, not_awaitable, refuse_awaitable, refuse_uncallable
from booking_resilience.callbacks import is_awaitable
from booking_resilience.checks import check_number, check_whole
from booking_resilience.cutoff import cut_off, is_within_cut_off
from booking_resilience.deadlines import get_node, in_force
from booking_resilience.errors import DeadlineExceededError, LimitExceededError
from booking_resilience.load.calls import ThreadCall, renewed_by_forks
from booking_resilience.signals import ThreadSignal

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

    >>> ThreadTimeout(2.0).call(str.upper, "fine")
    'FINE'
    """

    __slots__ = ("__weakref__", "_abandoned", "_max_abandoned", "_seconds")

    role: Literal["timeout"] = "timeout"

    def __init__(self, seconds: float, *, max_abandoned: int = 32) -> None:
        check_number("seconds", seconds, above=True)
        check_whole("max_abandoned", max_abandoned)
        self._seconds, self._max_abandoned = seconds, max_abandoned
        self._forked()
        renewed_by_forks.add(self)

    def __repr__(self) -> str:
        return f"ThreadTimeout({self._seconds:g}, max_abandoned={self._max_abandoned})"

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{self!r} can't be copied or pickled: each copy would count its own abandoned calls")

    def call(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call `fn` in a thread, and wait for it no longer than it may take.

        Raises:
            TimeoutError: If it takes longer; `DeadlineExceededError` if it was the deadline that ended the time.
            LimitExceededError: If too many abandoned calls still run; `fn` was not called.
            TypeError: If `fn` returns an awaitable, or is a generator function.
        """
        refuse_uncallable(fn)
        seconds, late = self._time()
        if len(self._abandoned) >= self._max_abandoned:
            raise LimitExceededError("ThreadTimeout")
        signal = ThreadSignal()
        running = ThreadCall(functools.partial(fn, *args, **kwargs), signal, self._abandoned)
        try:
            signal.wait(seconds)
        finally:
            is_abandoned = running.abandon()
        if is_abandoned:
            raise late or TimeoutError(f"the call took longer than {self._seconds:g} s; it goes on in its thread")
        result: T = running.result()
        if type(result) not in AWAITABLE_NEVER:
            refuse_awaitable(result, "ThreadTimeout.call", "call_async", fn)
        return result

    async def call_async(self, fn: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call and await `fn`, and cancel it if it takes too long; errors as of `call`, but nothing is abandoned.

        Raises:
            TypeError: If `fn` gives something that can't be awaited.
        """
        refuse_uncallable(fn)
        seconds, late = self._time()
        awaitable = fn(*args, **kwargs)
        if not is_awaitable(awaitable):
            raise not_awaitable(fn, "ThreadTimeout.call_async", "call")
        if late is not None and is_within_cut_off():
            return await awaitable  # what cuts it off at the deadline, or at the attempt's end, knows what to raise
        kind = TimeoutError if late is None else type(late)
        return await cut_off(awaitable, clock.monotonic() + seconds, kind, "ThreadTimeout", late is None)

    def _take_settings(self, other: ThreadTimeout) -> None:
        """Go on with the settings of another one; calls that were abandoned still count."""
        self._seconds, self._max_abandoned = other._seconds, other._max_abandoned

    def _forked(self) -> None:
        self._abandoned: set[ThreadCall] = set()

    def _time(self) -> tuple[float, TimeoutError | None]:
        """Return the seconds that a call may take; and what is raised then, if an end around it says so.

        Raises:
            TimeoutError: If that time is over already.
        """
        node = in_force(get_node())
        if node is None or (left := node[1] - clock.monotonic()) >= self._seconds:
            return self._seconds, None
        went_on = "; the call goes on in its thread" if left > 0 else ""
        late = TimeoutError(f"the attempt took too long{went_on}")
        if not node[3]:
            late = DeadlineExceededError(f"the deadline passed{went_on}")
            late.end = node[1]
        if left <= 0:
            raise late
        return left, late
