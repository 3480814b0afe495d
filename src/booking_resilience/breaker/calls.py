"""Calling a function through a circuit breaker, in both colours.

A call through a healthy breaker takes no lock and makes no object: as long as the `Calm` that it began in isn't over,
its success has nothing to say. Everything else goes through a `Permit` (`watch`). `CircuitBreaker.call` and the
wrappers here spell the same few lines: a shared function would cost another call on each, which is more than all the
rest of a healthy one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from booking_resilience import awaitables
from booking_resilience.awaitables import AWAITABLE_NEVER, refuse_awaitable, refuse_uncallable
from booking_resilience.breaker.core import Core
from booking_resilience.breaker.permits import Permit, admitted
from booking_resilience.callbacks import is_awaitable


def protect(core: Core, fn: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that calls `fn` through the breaker."""

    def protected(*args: Any, **kwargs: Any) -> Any:
        calm = core.calm
        if calm.is_over:
            return watch(core, core.knock(), fn, args, kwargs)
        try:
            result = fn(*args, **kwargs) if kwargs else fn(*args) if args else fn()
        except BaseException as error:
            Permit(core, calm.epoch).failure(error)
            raise
        if type(result) not in AWAITABLE_NEVER:
            refuse(fn, result)
        if calm.is_over:
            Permit(core, calm.epoch).success()
        return result

    return protected


def protect_async(core: Core, fn: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Return a coroutine function that calls and awaits `fn` through the breaker."""

    async def protected(*args: Any, **kwargs: Any) -> Any:
        calm = core.calm
        if calm.is_over:
            return await watch_async(core, core.knock(), fn, args, kwargs)
        try:
            result = await (fn(*args, **kwargs) if kwargs else fn(*args) if args else fn())
        except BaseException as error:
            Permit(core, calm.epoch).failure(error)
            raise
        if calm.is_over:
            Permit(core, calm.epoch).success()
        return result

    return protected


def watch(core: Core, asked: float, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Admit, call and settle; the permit comes back, whatever interrupts it: one that is dropped does so by itself."""
    permit = admitted(core, asked)
    try:
        result = fn(*args, **kwargs)
        if type(result) not in AWAITABLE_NEVER:
            try:
                refuse(fn, result)
            except TypeError:
                permit.release()
                raise
        permit.success()
    except BaseException as error:
        failed(permit, fn, error)
        raise
    return result


async def watch_async(
    core: Core, asked: float, fn: Callable[..., Awaitable[Any]], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Do the same as `watch`, with an awaitable that is awaited."""
    permit = admitted(core, asked)
    try:
        awaitable = fn(*args, **kwargs)
        if not is_awaitable(awaitable):
            permit.release()
            raise not_awaitable(fn)
        result = await awaitable
        permit.success()
    except BaseException as error:
        failed(permit, fn, error)
        raise
    return result


def failed(permit: Permit, fn: object, error: BaseException) -> None:
    """Settle the permit of a call that raised; what isn't a function was never called, which says nothing."""
    if callable(fn):
        permit.failure(error)
    else:
        permit.release()
        refuse_uncallable(fn)


def refuse(fn: object, result: object) -> None:
    """Raise `TypeError` if the call isn't over with its result."""
    refuse_awaitable(result, "CircuitBreaker.call", "call_async", fn)


def not_awaitable(fn: object) -> TypeError:
    """Return the error of a function that should have given an awaitable."""
    return awaitables.not_awaitable(fn, "CircuitBreaker.call_async", "call, in an event loop with `asyncio.to_thread`")
