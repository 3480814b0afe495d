"""Calling a function through a circuit breaker, in both colours.

A call through a healthy breaker takes no lock and makes no object: it reads the machine's `calm` before and after. As
long as it is the same epoch, closed, with no failure to forget, a success has nothing to say. Everything else goes
through a `Permit` (`watch`). `CircuitBreaker.call` and the wrappers here spell the same few lines: a shared function
would cost another call on each, which is more than all the rest of a healthy one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from booking_resilience import awaitables
from booking_resilience.awaitables import AWAITABLE_NEVER, refuse_awaitable, refuse_uncallable
from booking_resilience.breaker.permits import Permit
from booking_resilience.callbacks import is_awaitable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from booking_resilience.breaker.breaker import CircuitBreaker


def protect(breaker: CircuitBreaker, fn: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that calls `fn` through the breaker."""
    machine = breaker._machine

    def protected(*args: Any, **kwargs: Any) -> Any:
        epoch = machine.calm
        if epoch < 0:
            return watch(breaker._knock(), fn, args, kwargs)
        try:
            result = fn(*args, **kwargs) if kwargs else fn(*args)
        except BaseException as error:
            Permit(breaker, epoch).failure(error)
            raise
        if type(result) not in AWAITABLE_NEVER:
            refuse(result)
        if machine.calm != epoch:
            Permit(breaker, epoch).success()
        return result

    return protected


def protect_async(breaker: CircuitBreaker, fn: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Return a coroutine function that calls and awaits `fn` through the breaker."""
    machine = breaker._machine

    async def protected(*args: Any, **kwargs: Any) -> Any:
        epoch = machine.calm
        if epoch < 0:
            return await watch_async(breaker._knock(), fn, args, kwargs)
        try:
            result = await (fn(*args, **kwargs) if kwargs else fn(*args))
        except BaseException as error:
            Permit(breaker, epoch).failure(error)
            raise
        if machine.calm != epoch:
            Permit(breaker, epoch).success()
        return result

    return protected


def watch(permit: Permit, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Admit the permit, call and settle; whatever interrupts it, wherever, the permit comes back."""
    try:
        permit._admit()
        result = fn(*args, **kwargs)
        if type(result) not in AWAITABLE_NEVER and is_awaitable(result):
            permit.release()
            refuse(result)
        permit.success()
    except BaseException as error:
        permit.failure(error)
        refuse_uncallable(fn)
        raise
    return result


async def watch_async(
    permit: Permit, fn: Callable[..., Awaitable[Any]], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Do as `watch`, with an awaitable that is awaited."""
    try:
        permit._admit()
        awaitable = fn(*args, **kwargs)
        if not is_awaitable(awaitable):
            permit.release()
            raise not_awaitable(fn)
        result = await awaitable
        permit.success()
    except BaseException as error:
        permit.failure(error)
        refuse_uncallable(fn)
        raise
    return result


def refuse(result: object) -> None:
    """Raise `TypeError` if the result must be awaited."""
    refuse_awaitable(result, "CircuitBreaker.call", "call_async")


def not_awaitable(fn: object) -> TypeError:
    """Return the error of a function that should have given an awaitable."""
    return awaitables.not_awaitable(fn, "CircuitBreaker.call_async", "call, in an event loop by `asyncio.to_thread`")
