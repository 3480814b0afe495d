"""This library's contestants: what is timed, for the function that is called through it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from measure import Target

from booking_resilience import CircuitBreaker, Pipeline, RetryPolicy, retrying
from booking_resilience.load import AdaptiveLimit, ConcurrencyLimit, RateLimit

if TYPE_CHECKING:
    from collections.abc import Callable

DEFAULT = RetryPolicy()
NO_DEADLINE = RetryPolicy(deadline=None)
AT_ONCE = RetryPolicy(base_delay=0.0)
AT_ONCE_NO_DEADLINE = RetryPolicy(base_delay=0.0, deadline=None)


def retried(policy: RetryPolicy) -> Callable[[Callable[..., Any]], Target]:
    """Return what decorates a function with a retry."""
    return lambda fn: Target(retrying(policy=policy)(fn))


def breaker(fn: Callable[..., Any]) -> Target:
    """Decorate with a breaker."""
    return Target(CircuitBreaker("benchmark")(fn))


def breaker_call(fn: Callable[..., Any]) -> Target:
    """Call through a breaker."""
    return Target(CircuitBreaker("benchmark").call, (fn,))


def breaker_call_async(fn: Callable[..., Any]) -> Target:
    """Call and await through a breaker."""
    return Target(CircuitBreaker("benchmark").call_async, (fn,))


def pipeline_call(fn: Callable[..., Any]) -> Target:
    """Call through a pipeline of retry and breaker."""
    return Target(Pipeline(breaker=CircuitBreaker("benchmark")).call, ("work", fn))


def pipeline_call_async(fn: Callable[..., Any]) -> Target:
    """Call and await through a pipeline of retry and breaker."""
    return Target(Pipeline(breaker=CircuitBreaker("benchmark")).call_async, ("work", fn))


def pipeline_protect(fn: Callable[..., Any]) -> Target:
    """Decorate with a pipeline of retry and breaker."""
    return Target(Pipeline(breaker=CircuitBreaker("benchmark")).protect("work")(fn))


def limit(fn: Callable[..., Any]) -> Target:
    """Decorate with a limit."""
    return Target(ConcurrencyLimit("benchmark", limit=10)(fn))


def adaptive(fn: Callable[..., Any]) -> Target:
    """Decorate with an adaptive limit."""
    return Target(AdaptiveLimit("benchmark")(fn))


def rate(fn: Callable[..., Any]) -> Target:
    """Decorate with a rate limit."""
    return Target(RateLimit("benchmark", rate=1e9)(fn))


def limit_call(fn: Callable[..., Any]) -> Target:
    """Call through a limit."""
    return Target(ConcurrencyLimit("benchmark", limit=10).call, (fn,))


def adaptive_call(fn: Callable[..., Any]) -> Target:
    """Call through an adaptive limit."""
    return Target(AdaptiveLimit("benchmark").call, (fn,))


def rate_call(fn: Callable[..., Any]) -> Target:
    """Call through a rate limit."""
    return Target(RateLimit("benchmark", rate=1e9).call, (fn,))


def new_breaker(name: str) -> object:
    """Make one breaker."""
    return CircuitBreaker(name)
