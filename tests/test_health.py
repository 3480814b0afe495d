"""`health`: when a process is ready for requests."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import Any

import pytest

from booking_resilience import CircuitBreaker, ErrorMonitor
from booking_resilience.dashboard import Health, HealthCheck, health
from booking_resilience.load import ConcurrencyLimit, RateLimit
from booking_resilience.testing import virtual_time


def broken(name: str = "appwrite") -> CircuitBreaker:
    """Return a breaker that is open for 30 seconds."""
    breaker = CircuitBreaker(name, failure_threshold=1, cooldown=30.0)
    breaker.acquire().failure(ConnectionError())
    return breaker


@dataclass
class Places:
    """A limit as `health` sees it."""

    in_flight: int
    limit: int = 5
    name: str = "rows"

    def snapshot(self) -> Any:
        return self


def test_without_anything_it_is_ok() -> None:
    """Nothing to look at is nothing wrong."""
    assert health() == Health("ok", 200, ())


def test_an_essential_breaker_is_down_while_it_cools() -> None:
    """A breaker of a mapping that is open means 503 until its cooldown is over, then it needs calls: degraded."""
    with virtual_time() as clock:
        breaker = broken()
        down = health(breakers={"rows": breaker})
        assert (down.status, down.http_status) == ("down", 503)
        assert down.checks == (HealthCheck("rows", "down", "open, next trial in 30 s"),)
        clock.advance(30.0)
        ready = health(breakers={"rows": breaker})
        assert (ready.status, ready.http_status) == ("degraded", 200)
        breaker.acquire().success()
        assert health(breakers={"rows": breaker}).status == "ok"


def test_an_isolated_essential_breaker_is_down() -> None:
    """Isolated is down for as long as it lasts."""
    breaker = CircuitBreaker("appwrite")
    breaker.isolate("maintenance")
    assert health(breakers={"appwrite": breaker}).http_status == 503
    breaker.reset()
    assert health(breakers={"appwrite": breaker}).http_status == 200


def test_a_half_open_breaker_is_degraded() -> None:
    """While a trial is out the process can work."""
    with virtual_time() as clock:
        breaker = broken()
        clock.advance(30.0)
        with breaker.guard():
            assert health(breakers={"appwrite": breaker}).checks[0] == HealthCheck("appwrite", "degraded", "half-open")


@pytest.mark.parametrize("collection", [list, tuple, iter])
def test_other_breakers_only_degrade(collection: Any) -> None:
    """Breakers of an iterable aren't essential, whatever their state."""
    isolated = CircuitBreaker("chat")
    isolated.isolate("maintenance")
    found = health(breakers=collection([broken(), isolated]))
    assert (found.status, found.http_status) == ("degraded", 200)
    assert [check.name for check in found.checks] == ["appwrite", "chat"]


@pytest.mark.parametrize(("in_flight", "status"), [(4, "ok"), (5, "degraded"), (6, "degraded")])
def test_a_full_limit_is_degraded(in_flight: int, status: str) -> None:
    """A limit whose places are all taken degrades."""
    assert health(limits=[Places(in_flight)]).status == status
    assert health(limits={"database": Places(in_flight)}).checks[0].name == "database"


def test_real_limits_are_asked() -> None:
    """A limit with all places taken degrades, and so does a rate for whose next turn somebody waits."""
    rows, mails = ConcurrencyLimit("rows", limit=1), RateLimit("mails", rate=1, per=3600.0, max_queue=1)
    assert health(limits=[rows, mails]).status == "ok"
    with rows.guard():
        (check, _) = health(limits=[rows, mails]).checks
        assert check == HealthCheck("rows", "degraded", "1 of 1 in flight")
    assert mails.try_acquire()

    async def wait() -> str:
        waiting = asyncio.create_task(mails.call_async(asyncio.sleep, 0))
        await asyncio.sleep(0)
        (check,) = health(limits=[mails]).checks
        waiting.cancel()
        return check.detail

    assert asyncio.run(wait()) == "0 of 1 in flight, 1 queued"


def test_a_firing_alert_is_degraded() -> None:
    """The eleventh error within a minute degrades, and a minute of quiet afterwards restores."""
    with virtual_time() as clock:
        monitor = ErrorMonitor()
        for number in range(11):
            assert health(monitor=monitor).status == "ok"
            monitor.log_network_error("lookUp", ConnectionError(str(number)))
        assert health(monitor=monitor).checks == (HealthCheck("monitor", "degraded", "11 errors per minute"),)
        clock.advance(130.0)
        assert health(monitor=monitor).status == "ok"


def test_the_worst_check_counts() -> None:
    """Down wins over degraded, degraded over ok."""
    monitor = ErrorMonitor()
    found = health(breakers={"a": CircuitBreaker("a"), "b": broken()}, monitor=monitor, limits=[Places(5)])
    assert found.status == "down"
    assert [check.status for check in found.checks] == ["ok", "down", "degraded", "ok"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"breakers": 5}, "breakers must be an iterable or a mapping of breakers, not 5"),
        ({"breakers": [5]}, "each of breakers must be a CircuitBreaker, not 5"),
        ({"breakers": {"rows": None}}, "each of breakers must be a CircuitBreaker, not None"),
        ({"breakers": "rows"}, "each of breakers must be a CircuitBreaker, not 'r'"),
        ({"limits": None}, "limits must be an iterable or a mapping of limits, not None"),
        ({"limits": ["rows"]}, "each of limits must be a limit, which has a snapshot, not 'rows'"),
        ({"limits": [ConcurrencyLimit]}, "each of limits must be a limit, which has a snapshot, not "),
        ({"limits": [CircuitBreaker("rows")]}, "each of limits must be a limit, which has a snapshot, not "),
        ({"limits": {"rows": ErrorMonitor()}}, "each of limits must be a limit, which has a snapshot, not "),
        ({"monitor": 5}, "monitor must be an ErrorMonitor, a FleetMonitor or None, not 5"),
        ({"monitor": ErrorMonitor}, "monitor must be an ErrorMonitor, a FleetMonitor or None, not "),
        ({"monitor": ConcurrencyLimit("rows", limit=1)}, "monitor must be an ErrorMonitor, a FleetMonitor or None, "),
    ],
)
def test_what_is_something_else_is_named(arguments: Any, told: str) -> None:
    """A wrong argument, or thing in one, is a TypeError that says what it must be."""
    with pytest.raises(TypeError, match=f"^{re.escape(told)}"):
        health(**arguments)
