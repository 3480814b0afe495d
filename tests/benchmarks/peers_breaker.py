"""The other circuit breakers, five failures in a row where they can count so, and retries around them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import peers_retry
from measure import Target

if TYPE_CHECKING:
    from collections.abc import Callable


def circuitbreaker(fn: Callable[..., Any]) -> Target:
    """Decorate with circuitbreaker."""
    from circuitbreaker import CircuitBreaker

    return Target(CircuitBreaker(failure_threshold=5, name="benchmark")(fn))


def pybreaker(fn: Callable[..., Any]) -> Target:
    """Decorate with pybreaker."""
    from pybreaker import CircuitBreaker

    return Target(CircuitBreaker(fail_max=5)(fn))


def aiobreaker(fn: Callable[..., Any]) -> Target:
    """Decorate with aiobreaker."""
    from aiobreaker import CircuitBreaker

    return Target(CircuitBreaker(fail_max=5)(fn))


def aiobreaker_call(fn: Callable[..., Any]) -> Target:
    """Call through aiobreaker."""
    from aiobreaker import CircuitBreaker

    return Target(CircuitBreaker(fail_max=5).call, (fn,))


def purgatory(fn: Callable[..., Any]) -> Target:
    """Decorate with purgatory."""
    from purgatory import SyncCircuitBreakerFactory

    return Target(SyncCircuitBreakerFactory(default_threshold=5)("benchmark")(fn))


def purgatory_async(fn: Callable[..., Any]) -> Target:
    """Decorate a coroutine function with purgatory."""
    from purgatory import AsyncCircuitBreakerFactory

    return Target(AsyncCircuitBreakerFactory(default_threshold=5)("benchmark")(fn))


def purgatory_block(fn: Callable[..., Any]) -> Target:
    """Call in a block of purgatory's breaker."""
    from purgatory import SyncCircuitBreakerFactory

    breaker = SyncCircuitBreakerFactory(default_threshold=5).get_breaker("benchmark")

    def call(fn: Callable[..., Any]) -> Any:
        with breaker:
            return fn()

    return Target(call, (fn,))


def interlock(fn: Callable[..., Any]) -> Target:
    """Decorate with interlock, which judges by rates."""
    from interlock import CircuitBreaker

    return Target(CircuitBreaker(name="benchmark")(fn))


def hyx(fn: Callable[..., Any]) -> Target:
    """Decorate with hyx."""
    from hyx.circuitbreaker import consecutive_breaker

    return Target(consecutive_breaker(failure_threshold=5)(fn))


def fluxgate(fn: Callable[..., Any]) -> Target:
    """Decorate with fluxgate, which judges by rates."""
    from fluxgate import CircuitBreaker
    from fluxgate.trippers import FailureRate, MinRequests

    return Target(CircuitBreaker(tripper=MinRequests(5) & FailureRate(0.5))(fn))


def pyresilience(fn: Callable[..., Any]) -> Target:
    """Decorate with pyresilience's breaker alone."""
    from pyresilience import CircuitBreakerConfig, resilient

    return Target(resilient(circuit_breaker=CircuitBreakerConfig(failure_threshold=5))(fn))


def tenaz(fn: Callable[..., Any]) -> Target:
    """Decorate with tenaz' breaker, with one attempt."""
    from tenaz import retry

    return Target(retry(max_attempts=1, circuit_threshold=5)(fn))


def resilient_circuit(fn: Callable[..., Any]) -> Target:
    """Decorate with resilient-circuit's breaker."""
    from fractions import Fraction

    from resilient_circuit import CircuitProtectorPolicy

    return Target(CircuitProtectorPolicy(resource_key="benchmark", failure_limit=Fraction(5, 5))(fn))


def redress_call(fn: Callable[..., Any]) -> Target:
    """Call through redress' breaker."""
    from redress import CircuitBreaker, Policy

    return Target(Policy(circuit_breaker=CircuitBreaker(failure_threshold=5)).call, (fn,))


def backoff_circuitbreaker(fn: Callable[..., Any]) -> Target:
    """Retry with backoff around circuitbreaker."""
    return peers_retry.backoff(circuitbreaker(fn).function)


def stamina_circuitbreaker(fn: Callable[..., Any]) -> Target:
    """Retry with stamina around circuitbreaker."""
    return peers_retry.stamina(circuitbreaker(fn).function)


def tenacity_pybreaker(fn: Callable[..., Any]) -> Target:
    """Retry with tenacity around pybreaker."""
    return peers_retry.tenacity(pybreaker(fn).function)


def hyx_both(fn: Callable[..., Any]) -> Target:
    """Retry with hyx around its breaker."""
    return peers_retry.hyx(hyx(fn).function)


def new_circuitbreaker(name: str) -> object:
    """Make a circuitbreaker."""
    from circuitbreaker import CircuitBreaker

    return CircuitBreaker(name=name)


def new_pybreaker(name: str) -> object:
    """Make a pybreaker."""
    from pybreaker import CircuitBreaker

    return CircuitBreaker(name=name)


def new_interlock(name: str) -> object:
    """Make an interlock breaker."""
    from interlock import CircuitBreaker

    return CircuitBreaker(name=name)


def new_hyx(name: str) -> object:
    """Make a hyx breaker, which has no name."""
    from hyx.circuitbreaker import consecutive_breaker

    return consecutive_breaker()


def new_aiobreaker(name: str) -> object:
    """Make an aiobreaker."""
    from aiobreaker import CircuitBreaker

    return CircuitBreaker(name=name)


def new_fluxgate(name: str) -> object:
    """Make a fluxgate breaker, which has no name."""
    from fluxgate import CircuitBreaker

    return CircuitBreaker()


def nopanic(fn: Callable[..., Any]) -> Target:
    """Decorate with nopanic's breaker, which judges by rates."""
    from nopanic import circuit_breaker

    return Target(circuit_breaker()(fn))


def nopanic_call(fn: Callable[..., Any]) -> Target:
    """Call through nopanic's breaker."""
    from nopanic import circuit_breaker

    return Target(circuit_breaker().call, (fn,))


def nopanic_both(fn: Callable[..., Any]) -> Target:
    """Retry with nopanic around its breaker, in one stack."""
    from nopanic import circuit_breaker, compose, retry

    return Target(compose(retry(attempts=3, on=ConnectionError), circuit_breaker())(fn))


def interlock_both(fn: Callable[..., Any]) -> Target:
    """Retry with interlock's pipeline around its breaker."""
    from interlock import CircuitBreaker, Pipeline

    return Target(Pipeline.builder().retry(attempts=3).circuit_breaker(CircuitBreaker(name="both")).build()(fn))


def new_nopanic(name: str) -> object:
    """Make a nopanic breaker."""
    from nopanic import circuit_breaker

    return circuit_breaker(name=name)
