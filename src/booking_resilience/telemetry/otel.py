"""Hands on to OpenTelemetry what happens: metrics, and events on the active span. Extra `otel`.

It only listens. Attributes have this library's namespace, but for those that the semantic conventions name
(`error.type`, `exception.*`). They come from closed sets: names of operations, breakers and error types are taken as
they come up to a number, then `_OTHER` stands for the rest, as the conventions have it for `error.type`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import weakref
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from types import TracebackType
from typing import Any, NoReturn, ParamSpec, TypeVar, cast

from opentelemetry import metrics, trace
from opentelemetry.metrics import MeterProvider

from booking_resilience import clock
from booking_resilience.breaker import CircuitBreaker
from booking_resilience.checks import check_type, check_whole, has_method
from booking_resilience.deadlines import reset
from booking_resilience.events import BreakerEvent, RetryEvent, Subscription
from booking_resilience.monitor import DEFAULT_REDACTION, ErrorMonitor, ErrorRecord
from booking_resilience.pipeline import Pipeline
from booking_resilience.telemetry.observed import BREAKER, OPERATION, OTHER, OWN, Durable, Limit, Names, Observed

__all__ = ["Telemetry"]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

OUTCOME = f"{OWN}.outcome"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_ATTEMPTS = (1.0, 2.0, 3.0, 4.0, 5.0, 10.0)


class Telemetry:
    """Metrics and span events of pipelines, retries, breakers, limits and monitors. Make one, share it.

    Args:
        meter_provider: Where the metrics go; by default the global one.
        max_names: How many names of operations, breakers, limits and error types each become attributes; 1 or more.

    Raises:
        TypeError: If `max_names` is not a whole number.
        ValueError: If it is below 1.
    """

    def __init__(self, *, meter_provider: MeterProvider | None = None, max_names: int = 100) -> None:
        check_whole("max_names", max_names)
        meter = metrics.get_meter("booking_resilience", meter_provider=meter_provider)
        self._operations, self._types = Names(max_names), Names(max_names)
        self._observed = Observed(meter, self._operations, max_names)
        self._duration = meter.create_histogram(
            "booking_resilience.operation.duration", "s", "How long operations took, retries and pauses included.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )  # fmt: skip
        self._attempts = meter.create_histogram(
            "booking_resilience.operation.attempts", "{attempt}", "How many attempts operations took.",
            explicit_bucket_boundaries_advisory=_ATTEMPTS,
        )  # fmt: skip
        self._retries = meter.create_counter(
            "booking_resilience.retries", "{retry}", "Failed attempts that were followed by another."
        )
        self._transitions = meter.create_counter(
            "booking_resilience.breaker.transitions", "{transition}", "Transitions of circuit breakers."
        )
        self._errors = meter.create_counter(
            "booking_resilience.errors", "{error}", "Operations that failed or recovered, as the monitor records them."
        )

    def pipeline(self, pipeline: Pipeline) -> Pipeline:
        """Return a pipeline of the same parts whose calls, attempts, retries and hedges are measured."""
        check_type("pipeline", pipeline, isinstance(pipeline, Pipeline), "a Pipeline")
        measured = _MeasuredPipeline(self, pipeline)
        self._observed.pipelines.add(measured)
        return measured

    def on_event(self, event: RetryEvent) -> None:
        """Count a retry, as the `on_event=` of `with_retry` and the like. A measured pipeline does that by itself."""
        operation, kind = self._operations(event.operation), self._type_of(event.error)
        if event.outcome == "retrying":
            self._retries.add(1, {OPERATION: operation, "error.type": kind})
        facts = {
            OPERATION: event.operation, OUTCOME: event.outcome, f"{OWN}.retry.reason": event.reason,
            f"{OWN}.retry.attempt": event.attempt, f"{OWN}.retry.delay": event.delay,
            "error.type": None if event.error is None else kind,
        }  # fmt: skip
        _add_event(f"{OWN}.retry", facts)
        call = _current.get()
        if call is not None and call.operation == event.operation:
            call.attempts, call.outcome = max(1, event.attempt), event.outcome
            if event.outcome == "gave_up" and event.error is not None:
                call.outcome = "fell_back"  # if the call returns all the same: then a fallback took the error's place

    def watch_breaker(self, breaker: CircuitBreaker) -> Subscription:
        """Count a breaker's transitions and show its state, until the subscription is closed."""
        check_type("breaker", breaker, isinstance(breaker, CircuitBreaker), "a CircuitBreaker")
        return self._until_closed(self._observed.breakers, breaker, breaker.subscribe(self._on_transition))

    def watch_monitor(self, monitor: ErrorMonitor) -> Subscription:
        """Count a monitor's records and show its error rate, until the subscription is closed.

        A record also becomes an `exception` event of the active span, redacted as the record is.
        """
        check_type("monitor", monitor, has_method(monitor, "subscribe"), "an ErrorMonitor")
        return self._until_closed(self._observed.monitors, monitor, monitor.subscribe(self._on_record))

    def watch_limit(self, limit: Limit) -> Subscription:
        """Show how full a limit or rate is, and count the calls that it rejects, until the subscription is closed."""
        check_type("limit", limit, has_method(limit, "snapshot"), "a limit, which has a snapshot")
        return self._until_closed(self._observed.limits, limit)

    def watch_durable(self, durable: Durable) -> Subscription:
        """Show how many durable workflows wait, and since when, until the subscription is closed.

        The database is asked whenever metrics are collected, on the thread that collects them.
        """
        check_type("durable", durable, has_method(durable, "waiting"), "a Durable")
        return self._until_closed(self._observed.durables, durable)

    def _until_closed(
        self, watched: weakref.WeakSet[Any], what: object, subscription: Subscription | None = None
    ) -> Subscription:
        watched.add(what)

        def close() -> None:
            watched.discard(what)
            if subscription is not None:
                subscription.close()

        return Subscription(close)

    def _on_transition(self, event: BreakerEvent) -> None:
        name = DEFAULT_REDACTION.clean(event.name)
        states = {f"{BREAKER}.state.old": event.old.value, f"{BREAKER}.state.new": event.new.value}
        self._transitions.add(1, {f"{BREAKER}.name": self._observed.breaker_names(name), **states})
        reason = DEFAULT_REDACTION.clean(event.reason)
        _add_event(BREAKER, {f"{BREAKER}.name": name, **states, f"{BREAKER}.reason": reason})

    def _on_record(self, record: ErrorRecord) -> None:
        facts = {
            OPERATION: self._operations(record.operation), f"{OWN}.category": record.category.value,
            f"{OWN}.severity": record.severity.value, OUTCOME: record.outcome,
            "error.type": self._types(record.error_type),
        }  # fmt: skip
        self._errors.add(1, facts)
        if trace.get_current_span().is_recording():
            exception = {
                "exception.type": record.error_type, "exception.message": record.message,
                "exception.stacktrace": record.stacktrace, OPERATION: record.operation, OUTCOME: record.outcome,
            }  # fmt: skip
            _add_event("exception", exception)

    def _type_of(self, error: BaseException | None) -> str:
        return OTHER if error is None else self._types(_name_of(type(error)))


class _Call:
    """A call of a measured pipeline that is under way; a context manager around it."""

    __slots__ = ("_began", "_telemetry", "_token", "attempts", "operation", "outcome")

    def __init__(self, telemetry: Telemetry, operation: str) -> None:
        self._telemetry = telemetry
        self.operation, self.attempts, self.outcome = operation, 1, "succeeded"

    def __enter__(self) -> None:
        self._token = _current.set(self)
        self._began = clock.monotonic()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        taken, telemetry = clock.monotonic() - self._began, self._telemetry
        reset(self._token)
        with contextlib.suppress(Exception):  # telemetry must not hurt
            if kind is not None:
                self.outcome = "failed" if issubclass(kind, Exception) else "cancelled"
            facts = {OPERATION: telemetry._operations(self.operation), OUTCOME: self.outcome}
            if kind is not None:
                facts["error.type"] = telemetry._types(_name_of(kind))
            telemetry._duration.record(taken, facts)
            telemetry._attempts.record(self.attempts, facts)


_current: ContextVar[_Call | None] = ContextVar("booking_resilience_measured_call", default=None)


class _MeasuredPipeline(Pipeline):
    """A pipeline that measures its calls."""

    __slots__ = ("__weakref__", "_telemetry")

    def __init__(self, telemetry: Telemetry, parts: Pipeline) -> None:
        super().__init__(
            retry=parts.retry, breaker=parts.breaker, monitor=parts.monitor, category=parts.category, **parts._parts
        )
        self._telemetry = telemetry
        self._plan = dataclasses.replace(self._plan, listener=self._watch)

    def call(self, operation: str, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        with _Call(self._telemetry, operation):
            return super().call(operation, fn, *args, **kwargs)

    async def call_async(
        self, operation: str, fn: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        with _Call(self._telemetry, operation):
            return await super().call_async(operation, fn, *args, **kwargs)

    def protect(self, operation: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
        inner = super().protect(operation)
        return lambda fn: functools.update_wrapper(self._around(operation, inner(fn)), fn)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a pipeline with telemetry cannot be pickled or copied; pickle the one that it was made from")

    def _bind(
        self,
        operation: str,
        fn: Callable[..., Any],
        on_event: Any,
        *,
        is_async: bool,
        max_attempts: int | None = None,
    ) -> Callable[[Any], Any]:
        inner = super()._bind(operation, fn, on_event, is_async=is_async, max_attempts=max_attempts)
        return self._around(operation, inner, is_async=is_async)

    def _watch(self, event: RetryEvent) -> None:
        with contextlib.suppress(Exception):  # telemetry must not hurt
            self._telemetry.on_event(event)
        if self._records is not None:
            self._records.on_event(event)

    def _around(self, operation: str, fn: Callable[P, R], *, is_async: bool | None = None) -> Callable[P, R]:
        if inspect.iscoroutinefunction(fn) if is_async is None else is_async:

            async def measured_async(*args: Any, **kwargs: Any) -> Any:
                with _Call(self._telemetry, operation):
                    return await cast("Any", fn)(*args, **kwargs)

            return cast("Callable[P, R]", measured_async)

        def measured(*args: P.args, **kwargs: P.kwargs) -> R:
            with _Call(self._telemetry, operation):
                return fn(*args, **kwargs)

        return measured


def _add_event(name: str, facts: dict[str, Any]) -> None:
    span = trace.get_current_span()
    if span.is_recording():
        span.add_event(name, {key: value for key, value in facts.items() if value is not None})


def _name_of(kind: type) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def __dir__() -> list[str]:
    return sorted(__all__)
