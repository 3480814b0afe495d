"""Cutting off an awaitable that takes too long, under asyncio and trio, and telling a cut-off from a cancellation."""

from __future__ import annotations

import sys
import types
import weakref
from collections.abc import Awaitable, Coroutine, Generator
from contextvars import ContextVar
from typing import Any, TypeVar

from booking_resilience import clock
from booking_resilience.checks import is_a
from booking_resilience.errors import DeadlineExceededError

T = TypeVar("T")

_COUNTS_EXACTLY = sys.version_info >= (3, 13)  # asyncio's cancellations (python/cpython#133747)


class _Scope:
    """What tells whether a cut-off around the calling code has struck.

    The context variable refers to it weakly, so that it never outlives the cut-off, whatever ends that.
    """

    __slots__ = ("__weakref__", "is_own", "outer", "timer")

    def __init__(self, timer: Any, outer: weakref.ref[_Scope] | None, is_own: bool) -> None:
        self.timer, self.outer, self.is_own = timer, outer, is_own  # the timer is asyncio's or trio's

    def has_struck(self) -> bool:
        timer = self.timer
        return bool(timer.expired() if hasattr(timer, "expired") else timer.cancel_called)


_innermost: ContextVar[weakref.ref[_Scope] | None] = ContextVar("booking_resilience_cut_off", default=None)


@types.coroutine
def cut_off(
    awaitable: Awaitable[T], end: float, error: type[TimeoutError], operation: str, is_own: bool
) -> Generator[Any, Any, T]:
    """Await, but not beyond `end`.

    The timer is only set once the awaitable really waits: most calls that succeed at once never pay for it. (Under
    trio the scope must be open before, since trio's scopes nest strictly.) Without asyncio or trio nothing is cut off.

    Args:
        awaitable: What to await.
        end: When to stop, on the monotonic clock; what is left of the time is measured on the event loop's own.
        error: What to raise then.
        operation: Its name, for the error's text.
        is_own: Whether `end` is the operation's own limit, and not only what an enclosing one has left: see
            `timeout_behind`.
    """
    if "trio" in sys.modules and clock.in_trio():
        return (yield from _trio_cut_off(awaitable, end, error, operation, is_own).__await__())
    value: T
    steps = awaitable if isinstance(awaitable, types.CoroutineType) else _awaited(awaitable)
    try:
        first = steps.send(None)
    except StopIteration as stop:
        value = stop.value
    else:
        value = yield from _asyncio_cut_off(steps, first, end, error, operation, is_own).__await__()
    return value


async def _awaited(awaitable: Awaitable[T]) -> T:
    """Be a coroutine: what can be awaited need not have the methods of one."""
    return await awaitable


async def _asyncio_cut_off(
    steps: Coroutine[Any, Any, T], first: object, end: float, error: type[TimeoutError], operation: str, is_own: bool
) -> T:
    import asyncio

    try:
        now = asyncio.get_running_loop().time()
    except RuntimeError:  # an event loop of another kind
        return await _rest(steps, first)
    timer, outer = asyncio.timeout_at(now + end - clock.monotonic()), _innermost.get()
    inner = _Scope(timer, outer, is_own)
    requests = None if _COUNTS_EXACTLY else _Requests(asyncio.current_task(), timer)
    try:
        _innermost.set(weakref.ref(inner))
        async with timer:
            return await _rest(steps, first, requests)
    except TimeoutError:
        if not timer.expired():
            raise
    except asyncio.CancelledError as cancelled:
        if requests is None or not timer.expired() or requests.are_somebody_elses(cancelled):
            raise
    finally:
        _leave(inner, outer)
    raise _late(error, operation, end)


async def _trio_cut_off(
    awaitable: Awaitable[T], end: float, error: type[TimeoutError], operation: str, is_own: bool
) -> T:
    import trio

    outer = _innermost.get()
    with trio.move_on_after(max(0.0, end - clock.monotonic())) as scope:
        inner = _Scope(scope, outer, is_own)
        try:
            _innermost.set(weakref.ref(inner))
            return await awaitable
        finally:
            _leave(inner, outer)
    raise _late(error, operation, end)


def _leave(inner: _Scope, outer: weakref.ref[_Scope] | None) -> None:
    innermost = _innermost.get()
    if innermost is not None and innermost() is inner:  # else it is closed in another context
        _innermost.set(outer)


def _is_cancellation(error: BaseException) -> bool:
    """Tell whether an error is asyncio's or trio's cancellation, neither of which is an `Exception`."""
    return not is_a(error, Exception) and type(error).__name__ in ("CancelledError", "Cancelled")


def timeout_behind(error: BaseException) -> BaseException:
    """Return the `TimeoutError` that a cancellation stands for, or the error itself if it is no such cancellation.

    What `cut_off` cuts off is cancelled, and whatever stands between sees the cancellation: a breaker, say, to which a
    call that took longer than its operation's own limit is a failure. A cancellation from elsewhere, and the end of an
    enclosing deadline, say nothing of what was called.
    """
    innermost = _innermost.get()
    if innermost is None or not _is_cancellation(error):
        return error
    scope = innermost()
    if scope is None or not scope.is_own or not scope.has_struck():
        return error
    return TimeoutError("the attempt took too long")


def is_within_cut_off() -> bool:
    """Tell whether the calling code will be cut off at its deadline."""
    innermost = _innermost.get()
    return innermost is not None and innermost() is not None


def is_cut_off(error: BaseException) -> bool:
    """Tell whether a cancellation comes from `cut_off`, the innermost or one around it, and from nobody else."""
    if not _is_cancellation(error):
        return False
    struck, outer = 0, _innermost.get()
    while outer is not None and (scope := outer()) is not None:
        struck += scope.has_struck()
        outer = scope.outer
    if not struck or clock.in_trio():
        return struck > 0  # trio delivers a cancellation from elsewhere once more
    import asyncio

    task = asyncio.current_task()
    return task is None or task.cancelling() <= struck


class _Requests:
    """Tells whose request ended an asyncio task that its own timer has cancelled as well.

    asyncio's timeouts count a task's requests to cancel, and leave the task to whoever else has asked. Until Python
    3.13 a `TaskGroup` whose child fails while it waits for the others never takes its own request back, and from then
    on every timeout takes it for somebody else's.
    """

    __slots__ = ("_known", "_task", "_timer")

    def __init__(self, task: Any, timer: Any) -> None:
        self._task, self._timer, self._known = task, timer, 0

    def look(self) -> None:
        """Note the requests made so far, all of them delivered: the task is about to wait."""
        if not self._timer.expired():
            self._known = self._task.cancelling()

    def are_somebody_elses(self, cancelled: BaseException) -> bool:
        """Tell whether somebody else's request is open; the timer has taken its own back."""
        if self._task.cancelling() > self._known:
            return True
        earlier = cancelled.__context__
        while earlier is not None and not _is_cancellation(earlier):
            earlier = earlier.__context__
        return earlier is not None  # the task was still cleaning up after a request


@types.coroutine
def _rest(steps: Coroutine[Any, Any, T], outgoing: object, requests: _Requests | None = None) -> Generator[Any, Any, T]:
    """Await the rest of a coroutine that has given its first step already (PEP 380 spells out `yield from`)."""
    try:
        while True:
            if requests is not None:
                requests.look()
            try:
                incoming = yield outgoing
            except GeneratorExit:
                steps.close()
                raise
            except BaseException as error:  # noqa: BLE001 - it is handed on, not handled
                outgoing = steps.throw(error)
            else:
                outgoing = steps.send(incoming)
    except StopIteration as stop:
        value: T = stop.value
        return value


def _late(kind: type[TimeoutError], operation: str, end: float) -> TimeoutError:
    if issubclass(kind, DeadlineExceededError):
        error = kind(f"{operation}: the deadline passed during an attempt")
        error.end = end
        return error
    return kind(f"{operation}: the attempt took too long")
