"""What is looked at whenever metrics are collected: breakers, monitors, limits, hedges and durable bookings."""

from __future__ import annotations

import contextlib
import weakref
from collections import Counter
from collections.abc import Iterator
from typing import Any, Protocol

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from booking_resilience import clock
from booking_resilience.breaker import CircuitBreaker
from booking_resilience.events import BreakerState
from booking_resilience.locks import fork_safe_lock
from booking_resilience.monitor import DEFAULT_REDACTION, ErrorMonitor

OTHER = "_OTHER"
OWN = "booking_resilience"
OPERATION, BREAKER, LIMIT = f"{OWN}.operation", f"{OWN}.breaker", f"{OWN}.limit"
_MOST_WAITING = 10_000
_LOCK = fork_safe_lock()  # one for all names: it is held for the look at a set


class Limit(Protocol):
    """What is asked of a limit."""

    def snapshot(self) -> Any:
        """Return a `LimitSnapshot`."""
        ...


class Durable(Protocol):
    """What is asked of durable bookings."""

    def waiting(self, limit: int) -> list[Any]:
        """Return what waits, oldest first, at most `limit`."""
        ...


class Names:
    """Names as they come, up to a number; then all others are one."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: frozenset[str] = frozenset()

    def __call__(self, name: str) -> str:
        """Return the name, or `_OTHER` for one too many."""
        if name not in self._known:
            with _LOCK:
                if len(self._known | {name}) > self._most:
                    return OTHER
                self._known |= {name}
        return name


class Observed:
    """The things that are watched, and the instruments that look at them. It keeps none of them alive.

    Args:
        meter: Makes the instruments.
        operations: The names of operations.
        most: How many names of breakers, and of limits, become attributes.
    """

    def __init__(self, meter: Meter, operations: Names, most: int) -> None:
        self._operations, self._limit_names = operations, Names(most)
        self.breaker_names: Names = Names(most)
        self.breakers: weakref.WeakSet[CircuitBreaker] = weakref.WeakSet()
        self.monitors: weakref.WeakSet[ErrorMonitor] = weakref.WeakSet()
        self.limits: weakref.WeakSet[Any] = weakref.WeakSet()
        self.pipelines: weakref.WeakSet[Any] = weakref.WeakSet()
        self.durables: weakref.WeakSet[Any] = weakref.WeakSet()
        level, gauge = meter.create_observable_up_down_counter, meter.create_observable_gauge
        level(f"{BREAKER}.state", [self._states], "{breaker}", "How many breakers are in a state, by name.")
        gauge(f"{OWN}.error_rate", [self._rates], "{error}/min", "Errors per minute, of all monitors.")
        level(f"{LIMIT}.in_flight", [self._of_limits("in_flight")], "{call}", "Calls that run within a limit.")
        level(f"{LIMIT}.queued", [self._of_limits("queued")], "{call}", "Callers that wait for a limit.")
        level(f"{LIMIT}.max", [self._of_limits("limit")], "{call}", "Calls that a limit lets run; a rate's burst.")
        meter.create_observable_counter(
            f"{LIMIT}.refused", [self._of_limits("refused")], "{call}", "Calls that a limit rejected."
        )
        meter.create_observable_counter(f"{OWN}.hedges", [self._hedges], "{call}", "Second calls of hedged operations.")
        gauge(f"{OWN}.durable.waiting", [self._waiting], "{workflow}", "Durable workflows that wait, in all processes.")
        gauge(f"{OWN}.durable.oldest", [self._oldest], "s", "How long the oldest of them has been waiting.")

    def _states(self, options: CallbackOptions) -> Iterator[Observation]:  # noqa: ARG002 - that is how it is called
        counts: Counter[tuple[str, BreakerState]] = Counter()
        for breaker in tuple(self.breakers):
            name, current = self.breaker_names(DEFAULT_REDACTION.clean(breaker.name)), breaker.state
            counts.update({(name, state): int(current is state) for state in BreakerState})
        for (name, state), count in counts.items():
            yield Observation(count, {f"{BREAKER}.name": name, f"{BREAKER}.state": state.value})

    def _rates(self, options: CallbackOptions) -> Iterator[Observation]:  # noqa: ARG002 - as above
        monitors = tuple(self.monitors)
        if monitors:
            yield Observation(sum(monitor.error_rate for monitor in monitors))

    def _of_limits(self, fact: str) -> Any:
        def look(options: CallbackOptions) -> Iterator[Observation]:  # noqa: ARG001 - as above
            counts: Counter[str] = Counter()
            for limit in tuple(self.limits):
                found = limit.snapshot()
                counts[self._limit_names(DEFAULT_REDACTION.clean(found.name))] += getattr(found, fact)
            for name, count in counts.items():
                yield Observation(count, {f"{LIMIT}.name": name})

        return look

    def _hedges(self, options: CallbackOptions) -> Iterator[Observation]:  # noqa: ARG002 - as above
        hedges = {id(hedge): hedge for each in tuple(self.pipelines) if (hedge := each._parts.get("hedge"))}
        if hedges:
            yield Observation(sum(hedge._made for hedge in hedges.values()))

    def _waiting(self, options: CallbackOptions) -> Iterator[Observation]:  # noqa: ARG002 - as above
        for waiting in self._all_waiting():
            counts = Counter(self._operations(item.operation) for item in waiting)
            for operation, count in (counts or {"": 0}).items():
                yield Observation(count, {OPERATION: operation})

    def _oldest(self, options: CallbackOptions) -> Iterator[Observation]:  # noqa: ARG002 - as above
        for waiting in self._all_waiting():
            since = min((item.since for item in waiting), default=None)
            yield Observation(0.0 if since is None else max(0.0, (clock.utc_now() - since).total_seconds()))

    def _all_waiting(self) -> list[list[Any]]:
        found = []
        for durable in tuple(self.durables):
            with contextlib.suppress(Exception):  # not started, or its database can't be read: nothing is known
                found.append(durable.waiting(_MOST_WAITING))
        return found
