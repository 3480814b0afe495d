"""The other retry libraries: how each is told to do what the row does, three attempts at `ConnectionError`.

Each function takes the function that is called and returns what is timed. The import is inside, so that a peer that
is not there, or does not work here, leaves its own cell empty and nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from measure import Target

if TYPE_CHECKING:
    from collections.abc import Callable


def tenacity(fn: Callable[..., Any], **changes: Any) -> Target:
    """Decorate with tenacity."""
    from tenacity import retry, retry_if_exception_type, stop_after_attempt

    kinds = retry_if_exception_type(ConnectionError)
    return Target(retry(stop=stop_after_attempt(3), retry=kinds, reraise=True, **changes)(fn))


def stamina(fn: Callable[..., Any], **changes: Any) -> Target:
    """Decorate with stamina."""
    from stamina import retry

    return Target(retry(on=ConnectionError, attempts=3, **changes)(fn))


def stamina_at_once(fn: Callable[..., Any]) -> Target:
    """Decorate with stamina, without waiting and without its logging of each retry."""
    from stamina import instrumentation

    instrumentation.set_on_retry_hooks([])
    return stamina(fn, wait_initial=0.0, wait_max=0.0, wait_jitter=0.0)


def backoff(fn: Callable[..., Any]) -> Target:
    """Decorate with backoff."""
    from backoff import expo, on_exception

    return Target(on_exception(expo, ConnectionError, max_tries=3)(fn))


def backoff_at_once(fn: Callable[..., Any]) -> Target:
    """Decorate with backoff, without waiting and without its log."""
    from backoff import constant, on_exception

    decorate = on_exception(constant, ConnectionError, max_tries=3, interval=0, jitter=None, logger=None)
    return Target(decorate(fn))


def retrying(fn: Callable[..., Any]) -> Target:
    """Decorate with retrying, which waits only when told to."""
    from retrying import retry

    return Target(retry(stop_max_attempt_number=3, retry_on_exception=(ConnectionError,))(fn))


def resilient_circuit(fn: Callable[..., Any]) -> Target:
    """Decorate with resilient-circuit, which waits only when told to."""
    from resilient_circuit import RetryWithBackoffPolicy

    policy = RetryWithBackoffPolicy(max_retries=2, should_handle=lambda error: isinstance(error, ConnectionError))
    return Target(policy(fn))


def tenaz(fn: Callable[..., Any], **changes: Any) -> Target:
    """Decorate with tenaz."""
    from tenaz import retry

    return Target(retry(max_attempts=3, retry_on=ConnectionError, **changes)(fn))


def tenaz_at_once(fn: Callable[..., Any]) -> Target:
    """Decorate with tenaz, without waiting."""
    return tenaz(fn, backoff=0.0, jitter=False)


def tenaz_breaker(fn: Callable[..., Any]) -> Target:
    """Decorate with tenaz's retry, with its breaker in it."""
    return tenaz(fn, circuit_threshold=5)


def pyresilience(fn: Callable[..., Any], **changes: Any) -> Target:
    """Decorate with pyresilience."""
    from pyresilience import RetryConfig, resilient

    return Target(resilient(retry=RetryConfig(max_attempts=3, retry_on=(ConnectionError,)), **changes)(fn))


def pyresilience_at_once(fn: Callable[..., Any]) -> Target:
    """Decorate with pyresilience, without waiting."""
    from pyresilience import RetryConfig, resilient

    config = RetryConfig(max_attempts=3, delay=0.0, jitter=False, retry_on=(ConnectionError,))
    return Target(resilient(retry=config)(fn))


def pyresilience_breaker(fn: Callable[..., Any]) -> Target:
    """Decorate with pyresilience's retry and breaker."""
    from pyresilience import CircuitBreakerConfig

    return pyresilience(fn, circuit_breaker=CircuitBreakerConfig())


def redress(fn: Callable[..., Any]) -> Target:
    """Decorate with redress."""
    from redress import default_classifier, retry
    from redress.strategies import decorrelated_jitter

    return Target(retry(classifier=default_classifier, strategy=decorrelated_jitter(), max_attempts=3)(fn))


def redress_at_once(fn: Callable[..., Any]) -> Target:
    """Decorate with redress, without waiting."""
    from redress import default_classifier, retry

    decorate = retry(classifier=default_classifier, strategy=lambda context: 0.0, max_attempts=3)
    return Target(decorate(fn))


def hyx(fn: Callable[..., Any]) -> Target:
    """Decorate with hyx."""
    from hyx.retry import retry

    return Target(retry(on=ConnectionError, attempts=3)(fn))


def nopanic(fn: Callable[..., Any], **changes: Any) -> Target:
    """Decorate with nopanic."""
    from nopanic import retry

    return Target(retry(attempts=3, on=ConnectionError, **changes)(fn))


def nopanic_at_once(fn: Callable[..., Any]) -> Target:
    """Decorate with nopanic, without waiting."""
    return nopanic(fn, backoff=0.0)
