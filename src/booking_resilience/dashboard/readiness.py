"""Whether a process is ready for requests, by its breakers, its limits and its monitor."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias

from booking_resilience.breaker import BreakerSnapshot, CircuitBreaker
from booking_resilience.checks import check_type
from booking_resilience.events import BreakerState
from booking_resilience.monitor import ErrorStats

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


def health(
    *,
    breakers: Iterable[CircuitBreaker] | Mapping[str, CircuitBreaker] = (),
    monitor: Monitor | None = None,
    limits: Iterable[Limit] | Mapping[str, Limit] = (),
) -> Health:
    """Return whether the process is ready for requests. For readiness endpoints, not for liveness.

    It is `down` if an essential breaker is isolated, or open with its cooldown not over; `degraded` if any breaker
    isn't closed, a limit is full or the alert is firing; else `ok`.

    Args:
        breakers: The breakers to look at. Those of a mapping are essential: the process can't work without them.
        monitor: An `ErrorMonitor` or `FleetMonitor` whose alert to look at.
        limits: The limits to look at.

    Raises:
        TypeError: If `breakers` or `limits` is neither an iterable nor a mapping of such things.

    >>> health(breakers={"appwrite": CircuitBreaker("appwrite")})
    Health(status='ok', http_status=200, checks=(HealthCheck(name='appwrite', status='ok', detail='closed'),))
    """
    essential = isinstance(breakers, Mapping)
    checks = [_of_breaker(name, each.snapshot(), essential=essential) for name, each in checked_breakers(breakers)]
    checks += [_of_limit(name, each.snapshot()) for name, each in checked_limits(limits)]
    if monitor is not None:
        checks.append(_of_monitor(monitor.stats()))
    found = {check.status for check in checks}
    status: Status = "down" if "down" in found else "degraded" if "degraded" in found else "ok"
    return Health(status, 503 if status == "down" else 200, tuple(checks))


def named(things: Any) -> list[tuple[str | None, Any]]:
    """Return things with the names that a mapping gives them; without one, None."""
    if isinstance(things, Mapping):
        return [(str(name), thing) for name, thing in things.items()]
    return [(None, thing) for thing in things]


def checked_breakers(breakers: Any) -> list[tuple[str | None, CircuitBreaker]]:
    """Return breakers with their names; `TypeError` if there is something else among them."""
    check_type("breakers", breakers, isinstance(breakers, Iterable), "an iterable or a mapping of breakers")
    found = named(breakers)
    for _, breaker in found:
        check_type("each of breakers", breaker, isinstance(breaker, CircuitBreaker), "a CircuitBreaker")
    return found


def checked_limits(limits: Any) -> list[tuple[str | None, Any]]:
    """Return limits with their names; `TypeError` if there is something else among them."""
    check_type("limits", limits, isinstance(limits, Iterable), "an iterable or a mapping of limits")
    found = named(limits)
    for _, limit in found:
        is_right = callable(getattr(limit, "snapshot", None)) and not isinstance(limit, (type, CircuitBreaker))
        check_type("each of limits", limit, is_right, "a limit, which has a snapshot")
    return found


def _of_breaker(name: str | None, found: BreakerSnapshot, *, essential: bool) -> HealthCheck:
    name = found.name if name is None else name
    if found.state is BreakerState.CLOSED:
        return HealthCheck(name, "ok", "closed")
    cooling = found.state is BreakerState.OPEN and bool(found.retry_after)
    refuses = cooling or found.state is BreakerState.ISOLATED
    detail = found.state.value.replace("_", "-")
    if cooling:
        detail += f", next trial in {found.retry_after:.0f} s"
    return HealthCheck(name, "down" if essential and refuses else "degraded", detail)


def is_full(found: Any) -> bool:
    """Tell whether a limit has no place left; callers that wait for a rate's next turn show it, too."""
    return found.in_flight >= found.limit or getattr(found, "queued", 0) > 0


def _of_limit(name: str | None, found: Any) -> HealthCheck:
    detail = f"{found.in_flight} of {found.limit:g} in flight"
    if queued := getattr(found, "queued", 0):
        detail += f", {queued} queued"
    return HealthCheck(found.name if name is None else name, "degraded" if is_full(found) else "ok", detail)


def _of_monitor(stats: ErrorStats) -> HealthCheck:
    detail = f"{stats.error_rate:g} errors per minute"
    return HealthCheck("monitor", "ok" if stats.alert is None else "degraded", detail)
