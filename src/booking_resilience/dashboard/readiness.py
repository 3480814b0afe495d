"""Whether a process is ready for requests, by its breakers, its limits and its monitor."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias

from booking_resilience.breaker import CircuitBreaker
from booking_resilience.checks import check_type, has_method
from booking_resilience.events import BreakerState
from booking_resilience.monitor import ErrorStats
from booking_resilience.monitor.reading import MonitorReader

Status: TypeAlias = Literal["ok", "degraded", "down"]


class Monitor(Protocol):
    """What is asked of a monitor; an `ErrorMonitor` and a `FleetMonitor` both answer."""

    def stats(self) -> ErrorStats:
        """Return the numbers."""
        ...


class Limit(Protocol):
    """What is asked of a limit."""

    def snapshot(self) -> Any:
        """Return a `LimitSnapshot`."""
        ...


Breakers: TypeAlias = Iterable[CircuitBreaker] | Mapping[str, CircuitBreaker]
Limits: TypeAlias = Iterable[Limit] | Mapping[str, Limit]


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """One part of the answer.

    Attributes:
        name: The breaker's or limit's name, its key in a mapping, or `monitor`.
        status: `ok`, `degraded` or `down`.
        detail: Why, in a few words.
    """

    name: str
    status: Status
    detail: str


@dataclass(frozen=True, slots=True)
class Health:
    """What a readiness endpoint answers.

    Attributes:
        status: The worst status of the checks; `ok` without any.
        http_status: 503 if `down`, else 200.
        checks: One for each breaker, each limit and the monitor.
    """

    status: Status
    http_status: int
    checks: tuple[HealthCheck, ...]


def health(*, breakers: Breakers = (), monitor: Monitor | None = None, limits: Limits = ()) -> Health:
    """Return whether the process is ready for requests. For readiness endpoints, not for liveness.

    It is `down` if an essential breaker is isolated, or open with its cooldown not over; `degraded` if any breaker
    isn't closed, a limit is full or the alert is firing; else `ok`.

    Args:
        breakers: The breakers to look at. Those of a mapping are essential: the process can't work without them.
        monitor: An `ErrorMonitor` or `FleetMonitor` whose alert to look at.
        limits: The limits to look at.

    Raises:
        TypeError: If an argument is of the wrong type, or holds something that is.

    >>> health(breakers={"appwrite": CircuitBreaker("appwrite")})
    Health(status='ok', http_status=200, checks=(HealthCheck(name='appwrite', status='ok', detail='closed'),))
    """
    essential = isinstance(breakers, Mapping)
    checks = [_of_breaker(name, breaker, essential=essential) for name, breaker in breakers_of(breakers)]
    checks += [_of_limit(name, limit.snapshot()) for name, limit in limits_of(limits)]
    if monitor is not None:
        is_monitor = has_method(monitor, "stats")
        check_type("monitor", monitor, is_monitor, "an ErrorMonitor, a FleetMonitor or None")
        stats = monitor.stats()
        detail = f"{stats.error_rate:g} errors per minute"
        checks.append(HealthCheck("monitor", "ok" if stats.alert is None else "degraded", detail))
    found = {check.status for check in checks}
    status: Status = "down" if "down" in found else "degraded" if "degraded" in found else "ok"
    return Health(status, 503 if status == "down" else 200, tuple(checks))


def breakers_of(given: Any) -> list[tuple[str, CircuitBreaker]]:
    """Return breakers with their names, in a mapping the keys; `TypeError` if there is anything else."""
    found = _named("breakers", given)
    for _, each in found:
        check_type("each of breakers", each, isinstance(each, CircuitBreaker), "a CircuitBreaker")
    return [(breaker.name if name is None else name, breaker) for name, breaker in found]


def limits_of(given: Any) -> list[tuple[str | None, Any]]:
    """Return limits with the names that a mapping gives them, else None; `TypeError` if there is anything else."""
    found = _named("limits", given)
    for _, each in found:
        is_limit = callable(getattr(each, "snapshot", None))
        is_other = isinstance(each, (type, CircuitBreaker, MonitorReader))  # these have a snapshot, too
        check_type("each of limits", each, is_limit and not is_other, "a limit, which has a snapshot")
    return found


def is_full(found: Any) -> bool:
    """Tell whether a limit has no place left; callers that wait for a rate's next turn show it, too."""
    return bool(found.in_flight >= found.limit or getattr(found, "queued", 0) > 0)


def _named(name: str, given: Any) -> list[tuple[str | None, Any]]:
    check_type(name, given, isinstance(given, Iterable), f"an iterable or a mapping of {name}")
    if isinstance(given, Mapping):
        return [(str(key), thing) for key, thing in given.items()]
    return [(None, thing) for thing in given]


def _of_breaker(name: str, breaker: CircuitBreaker, *, essential: bool) -> HealthCheck:
    found = breaker.snapshot()
    if found.state is BreakerState.CLOSED:
        return HealthCheck(name, "ok", "closed")
    cooling = found.state is BreakerState.OPEN and bool(found.retry_after)
    refuses = cooling or found.state is BreakerState.ISOLATED
    detail = found.state.value.replace("_", "-")
    if cooling:
        detail += f", next trial in {found.retry_after:.0f} s"
    return HealthCheck(name, "down" if essential and refuses else "degraded", detail)


def _of_limit(name: str | None, found: Any) -> HealthCheck:
    detail = f"{found.in_flight} of {found.limit:g} in flight"
    if queued := getattr(found, "queued", 0):
        detail += f", {queued} queued"
    return HealthCheck(name or found.name, "degraded" if is_full(found) else "ok", detail)
