"""Retrying a function: called now (`with_retry`, `with_retry_async`) or decorated (`retrying`)."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Any, ParamSpec, TypeVar, cast, overload

from booking_resilience.awaitables import gives_coroutines, name_of, refuse_uncallable, within
from booking_resilience.events import Listener, RetryEvent
from booking_resilience.retry.plan import Plan, check_arguments
from booking_resilience.retry.policy import DEFAULT_RETRY, RetryPolicy
from booking_resilience.retry.run import drive, drive_async

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


def with_retry(
    fn: Callable[[], T],
    /,
    *,
    operation: str | None = None,
    policy: RetryPolicy = DEFAULT_RETRY,
    on_event: Listener[RetryEvent] | None = None,
) -> T:
    """Call `fn()` now, and again as the policy says, and return what it returns.

    When it gives up, the last attempt's own error comes out: the same object, with a note of what was tried, and with
    its attempts in reach of `attempts_of`. A synchronous attempt cannot be interrupted: one that hangs outlives the
    deadline unless it asks `remaining_time()`, and one that succeeds late is a success.

    Args:
        fn: Any callable without arguments; wrap others in a lambda or `functools.partial`.
        operation: Its name in events, logs and notes; by default the function's own.
        policy: When to try again.
        on_event: Told of each failed attempt, and of the recovery or the giving up.

    Raises:
        DeadlineExceededError: If an enclosing deadline had passed already; `fn` was not called.
        TypeError: If `fn` returns an awaitable.

    >>> with_retry(lambda: 6 * 7)
    42
    """
    check_arguments(policy, operation, on_event)
    try:
        return cast("T", drive(Plan(policy, operation or name_of(fn), on_event), fn)())
    except TypeError:
        refuse_uncallable(fn)
        raise


async def with_retry_async(
    fn: Callable[[], Awaitable[T]],
    /,
    *,
    operation: str | None = None,
    policy: RetryPolicy = DEFAULT_RETRY,
    on_event: Listener[RetryEvent] | None = None,
) -> T:
    """Do the same as `with_retry` for a function that gives an awaitable, under asyncio or trio.

    An attempt that takes too long is cut off: cancelled, with `TimeoutError` at the policy's `attempt_timeout` (which
    may be retried) and `DeadlineExceededError` at the deadline.

    Raises:
        TypeError: If `fn` gives something that cannot be awaited.
    """
    check_arguments(policy, operation, on_event)
    try:
        return cast("T", await drive_async(Plan(policy, operation or name_of(fn), on_event), fn)())
    except TypeError:
        refuse_uncallable(fn)
        raise


@overload
def retrying(fn: Callable[P, R], /) -> Callable[P, R]: ...


@overload
def retrying(
    *,
    policy: RetryPolicy = DEFAULT_RETRY,
    operation: str | None = None,
    on_event: Listener[RetryEvent] | None = None,
) -> Callable[[Callable[P, R]], Callable[P, R]]: ...


def retrying(
    fn: Callable[..., Any] | None = None,
    /,
    *,
    policy: RetryPolicy = DEFAULT_RETRY,
    operation: str | None = None,
    on_event: Listener[RetryEvent] | None = None,
) -> Any:
    """Decorate a function, a method or a coroutine function, so that each call is retried as the policy says.

    Type checkers see the function's own signature. Arguments as for `with_retry`; `@retrying` alone takes the defaults.

    Raises:
        TypeError: When it decorates a generator or asynchronous generator function, a context manager made of one, or
            an exception type.

    >>> @retrying(policy=RetryPolicy(max_attempts=5))
    ... def answer(question: str) -> int:
    ...     return len(question)
    >>> answer("why")
    3
    """
    check_arguments(policy, operation, on_event)
    if isinstance(fn, RetryPolicy):
        raise TypeError("retrying takes the policy as a keyword: @retrying(policy=...)")
    if isinstance(fn, tuple) or (isinstance(fn, type) and issubclass(fn, BaseException)):
        raise TypeError("retrying takes errors in a policy: @retrying(policy=RetryPolicy(retry_on=...))")

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        plan = Plan(policy, operation or name_of(function), on_event)
        if gives_coroutines(function, "retrying"):
            driver = drive_async(plan, function, "@retrying", "a function that returns awaitables only")
        else:
            driver = drive(plan, function, "@retrying", "an `async def` function")
        return functools.update_wrapper(driver, function)

    return functools.partial(within, decorate) if fn is None else within(decorate, fn)
