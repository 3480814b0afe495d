"""Cutting off an awaitable that takes too long, under asyncio and trio, and telling a cut-off from a cancellation."""

from __future__ import annotations

import sys
import types
from collections.abc import Awaitable, Coroutine, Generator
from contextvars import ContextVar
from typing import Any, TypeVar

from booking_resilience import clock
from booking_resilience.checks import is_a, leaves
from booking_resilience.errors import DeadlineExceededError

T = TypeVar("T")

_COUNTS_EXACTLY = sys.version_info >= (3, 13)  # asyncio's cancellations (python/cpython#133747)


class _Scope:
    """What tells whether a cut-off around the calling code has struck; it is over once it has no timer any more."""

    __slots__ = ("is_deadline", "is_own", "outer", "timer")

    def __init__(self, timer: Any, is_own: bool, error: type[TimeoutError]) -> None:
        self.timer, self.is_own = timer, is_own  # the timer is asyncio's or trio's
        self.is_deadline: bool = issubclass(error, DeadlineExceededError)
        self.outer: _Scope | None = _scope()

    def has_struck(self) -> bool:
        timer = self.timer
        return timer is not None and bool(timer.expired() if hasattr(timer, "expired") else timer.cancel_called)


_innermost: ContextVar[_Scope | None] = ContextVar("booking_resilience_cut_off", default=None)


def _scope() -> _Scope | None:
    """Return the innermost cut-off around the calling code that is not over."""
    scope = _innermost.get()
    while scope is not None and scope.timer is None:
        scope = scope.outer
    return scope


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
    steps = awaitable if isinstance(awaitable, types.CoroutineType) else _awaited(awaitable)
    try:
        first = steps.send(None)
    except StopIteration as stop:
        value: T = stop.value
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
    timer = asyncio.timeout_at(now + end - clock.monotonic())
    scope = _Scope(timer, is_own, error)
    requests = None if _COUNTS_EXACTLY else _Requests(asyncio.current_task(), timer)
    try:
        _innermost.set(scope)
        async with timer:
            return await _rest(steps, first, requests)
    except TimeoutError:
        if not timer.expired():
            raise
    except asyncio.CancelledError as cancelled:
        if requests is None or not timer.expired() or requests.are_somebody_elses(cancelled):
            raise
    finally:
        scope.timer = None
    raise _late(error, operation, end)


async def _trio_cut_off(
    awaitable: Awaitable[T], end: float, error: type[TimeoutError], operation: str, is_own: bool
) -> T:
    import trio

    with trio.move_on_after(max(0.0, end - clock.monotonic())) as timer:
        scope = _Scope(timer, is_own, error)
        try:
            _innermost.set(scope)
            return await awaitable
        finally:
            scope.timer = None
    raise _late(error, operation, end)


def _is_cancellation(error: BaseException) -> bool:
    """Tell whether an error is asyncio's or trio's cancellation, or a group of them, as trio's nurseries raise.

    None of them is an `Exception`.
    """
    return not is_a(error, Exception) and all(
        type(leaf).__name__ in ("CancelledError", "Cancelled") for leaf in leaves(error)
    )


def timeout_behind(error: BaseException, *, at_deadline: bool = True) -> BaseException:
    """Return the `TimeoutError` that a cancellation stands for, or the error itself if it isn't one.

    What `cut_off` cuts off is cancelled, and whatever stands between sees the cancellation: a breaker, say, to which a
    call that took longer than its operation's own limit is a failure. A cancellation from elsewhere, and the end of an
    enclosing deadline, say nothing of what was called.

    Args:
        error: What came out.
        at_deadline: Whether the operation's own deadline counts, or only the limit of an attempt.
    """
    if not _is_cancellation(error):
        return error
    scope = _scope()
    is_ours = scope is not None and scope.is_own and scope.has_struck() and (at_deadline or not scope.is_deadline)
    return TimeoutError("the attempt took too long") if is_ours else error


def is_within_cut_off() -> bool:
    """Tell whether the calling code will be cut off at its deadline."""
    return _scope() is not None


def is_cut_off(error: BaseException) -> bool:
    """Tell whether a cancellation comes from `cut_off`, the innermost or one around it, and from nobody else."""
    if not _is_cancellation(error):
        return False
    struck, scope = 0, _innermost.get()
    while scope is not None:
        struck += scope.has_struck()
        scope = scope.outer
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
