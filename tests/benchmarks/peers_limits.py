"""The other limits of concurrency and rate, with room for every call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from measure import Target

if TYPE_CHECKING:
    from collections.abc import Callable

MANY = 1_000_000_000


def nopanic_bulkhead(fn: Callable[..., Any]) -> Target:
    """Decorate with nopanic's bulkhead."""
    import nopanic

    return Target(nopanic.bulkhead(10)(fn))


def nopanic_rate(fn: Callable[..., Any]) -> Target:
    """Decorate with nopanic's rate limit."""
    import nopanic

    return Target(nopanic.rate_limit(MANY)(fn))


def pyresilience_bulkhead(fn: Callable[..., Any]) -> Target:
    """Decorate with pyresilience's bulkhead."""
    from pyresilience import BulkheadConfig, resilient

    return Target(resilient(bulkhead=BulkheadConfig(max_concurrent=10))(fn))


def pyresilience_rate(fn: Callable[..., Any]) -> Target:
    """Decorate with pyresilience's rate limiter."""
    from pyresilience import RateLimiterConfig, resilient

    return Target(resilient(rate_limiter=RateLimiterConfig(max_calls=MANY))(fn))


def hyx_bulkhead(fn: Callable[..., Any]) -> Target:
    """Decorate with hyx's bulkhead."""
    from hyx.bulkhead import bulkhead

    return Target(bulkhead(max_concurrency=10, max_capacity=20)(fn))


def hyx_rate(fn: Callable[..., Any]) -> Target:
    """Decorate with hyx's token bucket."""
    from hyx.ratelimit import tokenbucket

    return Target(tokenbucket(MANY, 1.0, MANY)(fn))


def aiolimiter(fn: Callable[..., Any]) -> Target:
    """Call in a block of aiolimiter's."""
    from aiolimiter import AsyncLimiter

    limiter = AsyncLimiter(MANY, 1.0)

    async def call() -> Any:
        async with limiter:
            return await fn()

    return Target(call)


def limits_fixed_window(fn: Callable[..., Any]) -> Target:
    """Ask a fixed window of limits, in memory, before the call."""
    from limits import RateLimitItemPerSecond
    from limits.storage import MemoryStorage
    from limits.strategies import FixedWindowRateLimiter

    limiter, item = FixedWindowRateLimiter(MemoryStorage()), RateLimitItemPerSecond(MANY)

    def call() -> Any:
        if not limiter.hit(item, "benchmark"):
            raise RuntimeError("refused")
        return fn()

    return Target(call)
