"""Telling what must be awaited from what need not be, and cutting off what takes too long."""

from __future__ import annotations

import functools
import inspect
import sys
import types
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar

from booking_resilience import clock
from booking_resilience.callbacks import is_awaitable, is_coroutine_function, is_generator_function
from booking_resilience.deadlines import reset
from booking_resilience.errors import DeadlineExceededError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Generator

T = TypeVar("T")

AWAITABLE_NEVER = frozenset({type(None), bool, int, float, str, bytes, list, tuple, dict, set})
"""The most frequent types of results; asking for membership is cheaper than asking whether one can be awaited."""

_is_over: ContextVar[Callable[[], bool] | None] = ContextVar("booking_resilience_cut_off", default=None)
"""Tells whether the innermost cut-off around the calling code has struck, if its limit is an operation's own."""

_CANCELLATIONS = frozenset({"CancelledError", "Cancelled"})  # asyncio's and trio's
_PLUMBING = tuple(f"booking_resilience.{part}" for part in ("retry.", "breaker.", "pipeline", "batch", "awaitables"))


def refuse_awaitable(value: object, called: str, instead: str) -> type | None:
    """Raise `TypeError` if the value must be awaited, naming what to call instead; a coroutine is closed.

    Returns:
        The value's type, if no other value of that type must be awaited either: comparing the next result's type with
        it is cheaper than asking again. None where it depends on the value (some generators can be awaited).
    """
    kind = type(value)
    if kind not in AWAITABLE_NEVER and is_awaitable(value):
        if inspect.iscoroutine(value):
            value.close()
        raise TypeError(f"{called} was given a function that returns an awaitable; use {instead}")
    return None if kind is types.GeneratorType else kind


def refuse_uncallable(fn: object) -> None:
    """Raise `TypeError` if what was to be called is no function; a coroutine, made by a call too early, is closed."""
    if not callable(fn):
        if inspect.iscoroutine(fn):
            fn.close()
        raise TypeError(
            f"fn must be a function, not {fn!r}; give the function, not what a call of it returned"
        ) from None


def gives_coroutines(fn: Callable[..., Any], decorator: str) -> bool:
    """Tell whether the function that is being decorated is a coroutine function.

    Raises:
        TypeError: If it is a generator or asynchronous generator function, whose body runs after it has returned, or
            if it cannot be called.
    """
    if not callable(fn):
        raise TypeError(f"{decorator} decorates functions, not {fn!r}")
    if is_generator_function(fn):
        raise TypeError(f"{decorator} cannot decorate the generator function {fn!r}: its body runs after it returned")
    return is_coroutine_function(fn)


def within(decorate: Callable[[Callable[..., Any]], Callable[..., Any]], fn: Any) -> Any:
    """Decorate a function, or the one in a `classmethod` or `staticmethod`; those may stand on either side."""
    if isinstance(fn, (classmethod, staticmethod)):
        return type(fn)(decorate(fn.__func__))
    return decorate(fn)


def name_of(fn: Callable[..., Any]) -> str:
    """Return a name for the function: its qualified name, that of what a partial calls, or its type's."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    return getattr(fn, "__qualname__", None) or type(fn).__qualname__


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
    scope = asyncio.timeout_at(now + end - clock.monotonic())
    token = _is_over.set(scope.expired if is_own else None)
    try:
        async with scope:
            return await _rest(steps, first)
    except TimeoutError:
        if not scope.expired():
            raise
    finally:
        reset(token)
    raise _late(error, operation, end)


async def _trio_cut_off(
    awaitable: Awaitable[T], end: float, error: type[TimeoutError], operation: str, is_own: bool
) -> T:
    import trio

    with trio.move_on_after(max(0.0, end - clock.monotonic())) as scope:
        token = _is_over.set((lambda: scope.cancel_called) if is_own else None)
        try:
            return await awaitable
        finally:
            reset(token)
    raise _late(error, operation, end)


def timeout_behind(error: BaseException) -> BaseException:
    """Return the `TimeoutError` that a cancellation stands for, or the error itself if it is no such cancellation.

    What `cut_off` cuts off is cancelled, and whatever stands between sees the cancellation: a breaker, say, to which a
    call that took longer than its operation's own limit is a failure. A cancellation from elsewhere, and the end of an
    enclosing deadline, say nothing of what was called.
    """
    is_over = _is_over.get()
    if is_over is None or type(error).__name__ not in _CANCELLATIONS or not is_over():
        return error
    return TimeoutError("the attempt took too long")


@types.coroutine
def _rest(steps: Coroutine[Any, Any, T], outgoing: object) -> Generator[Any, Any, T]:
    """Await the rest of a coroutine that has given its first step already (PEP 380 spells out `yield from`)."""
    try:
        while True:
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


def hide_plumbing(error: BaseException | None) -> None:
    """Take this library's own frames out of the error's traceback, but for the first: they tell nothing of what failed.

    An error that is raised again and again, a constant, brings the frames of each time; so does a nested operation.
    """
    tb = None if error is None else error.__traceback__
    while tb is not None:
        after = tb.tb_next
        # Whoever calls `exec` may have put anything there.
        while after is not None and str(after.tb_frame.f_globals.get("__name__")).startswith(_PLUMBING):
            after = after.tb_next
        if after is not tb.tb_next:
            tb.tb_next = after
        tb = after
