"""Fallbacks and whole stacks with limits and rates, ours and the others'; nothing is ever full."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from measure import Target
from rows import Row, of, succeeds, succeeds_async

from booking_resilience import CircuitBreaker, ErrorMonitor, Pipeline
from booking_resilience.load import ConcurrencyLimit, Fallback, RateLimit

if TYPE_CHECKING:
    from collections.abc import Callable

MANY, FAST = 1_000, 1e9
"""Places and calls per second that are never used up."""


def semaphore(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Do the least for a limit."""
    places = threading.BoundedSemaphore(MANY)

    def call() -> Any:
        if not places.acquire(blocking=False):
            raise RuntimeError("full")
        try:
            return fn()
        finally:
            places.release()

    return call


def counter(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Do the least for a limit of tasks."""
    taken = 0

    async def call() -> Any:
        nonlocal taken
        if taken >= MANY:
            raise RuntimeError("full")
        taken += 1
        try:
            return await fn()
        finally:
            taken -= 1

    return call


def caught(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Do the least for a fallback."""

    def call() -> Any:
        try:
            return fn()
        except ConnectionError:
            return None

    return call


def ours(**parts: Any) -> Callable[[Callable[..., Any]], Target]:
    """Return what decorates with a pipeline of these parts."""
    return lambda fn: Target(Pipeline(**parts).protect("work")(fn))


def all_of_ours() -> Callable[[Callable[..., Any]], Target]:
    """Return what decorates with everything that a call can go through."""
    return ours(
        breaker=CircuitBreaker("all"),
        monitor=ErrorMonitor(),
        limit=ConcurrencyLimit("all", limit=MANY),
        rate=RateLimit("all", rate=FAST, burst=MANY),
        fallback=Fallback(None),
    )


def nopanic_stack(*names: str) -> Callable[[Callable[..., Any]], Target]:
    """Return what decorates with nopanic's policies of these names."""

    def decorate(fn: Callable[..., Any]) -> Target:
        import nopanic

        policies = {
            "bulkhead": lambda: nopanic.bulkhead(MANY, max_wait=0),
            "rate": lambda: nopanic.rate_limit(FAST, per=1.0, burst=MANY),
            "fallback": lambda: nopanic.fallback(lambda error: None, on=ConnectionError),
            "breaker": nopanic.circuit_breaker,
            "deadline": lambda: nopanic.deadline(4.0),
            "retry": lambda: nopanic.retry(attempts=3, on=ConnectionError),
        }
        return Target(nopanic.compose(*(policies[name]() for name in names))(fn))

    return decorate


def interlock_stack() -> Callable[[Callable[..., Any]], Target]:
    """Return what decorates with interlock's pipeline of all that it has."""

    def decorate(fn: Callable[..., Any]) -> Target:
        import interlock

        builder = interlock.Pipeline.builder()
        builder.fallback(lambda error: None, on=(ConnectionError,))
        builder.retry(attempts=3).circuit_breaker(interlock.CircuitBreaker(name="all")).bulkhead(MANY)
        return Target(builder.build()(fn))

    return decorate


LOAD_ROWS = (
    Row(
        "fallback",
        "retry with a fallback, success, sync",
        succeeds,
        of(caught),
        {"ours": ours(fallback=Fallback(None))},
        {"nopanic": nopanic_stack("fallback", "deadline", "retry")},
    ),
    Row(
        "everything",
        "fallback + deadline + retry + limit + rate + breaker, sync",
        succeeds,
        of(semaphore),
        {"ours, with a monitor": all_of_ours()},
        {
            "nopanic": nopanic_stack("fallback", "deadline", "retry", "bulkhead", "rate", "breaker"),
            "interlock, no deadline, no rate": interlock_stack(),
        },
    ),
    Row(
        "everything_async",
        "fallback + deadline + retry + limit + rate + breaker, async",
        succeeds_async,
        of(counter),
        {"ours, with a monitor": all_of_ours()},
        {
            "nopanic": nopanic_stack("fallback", "deadline", "retry", "bulkhead", "rate", "breaker"),
            "interlock, no deadline, no rate": interlock_stack(),
        },
        "async",
    ),
)
