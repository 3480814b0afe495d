"""Telemetry: what OpenTelemetry's own SDK is told, and that nothing of it is needed without it."""

from __future__ import annotations

import asyncio
import contextvars
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from booking_resilience import (
    BreakerState,
    CircuitBreaker,
    CircuitOpenError,
    ErrorMonitor,
    Pipeline,
    RetryPolicy,
    TransientError,
    clock,
    run_batch,
    run_batch_async,
    with_retry,
)
from booking_resilience.load import ConcurrencyLimit, Fallback, Hedge, RateLimit
from booking_resilience.testing import VirtualClock

pytest.importorskip("opentelemetry.sdk", reason="needs opentelemetry-sdk")

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from booking_resilience.telemetry import otel
from booking_resilience.telemetry.observed import Names
from booking_resilience.telemetry.otel import Telemetry

NAMES = {
    "error_type": "error.type", "operation": "booking_resilience.operation", "outcome": "booking_resilience.outcome",
    "breaker": "booking_resilience.breaker.name", "state": "booking_resilience.breaker.state",
}  # fmt: skip


class Metrics:
    """A telemetry whose metrics are kept in memory."""

    def __init__(self, **settings: Any) -> None:
        self.reader = InMemoryMetricReader()
        self.provider = MeterProvider([self.reader])
        self.telemetry = Telemetry(meter_provider=self.provider, **settings)

    def points(self, name: str) -> list[tuple[dict[str, Any], Any]]:
        """Return attributes and value of each point of a metric; of a histogram, count and sum."""
        data = self.reader.get_metrics_data()
        if data is None:
            return []
        return [
            (dict(point.attributes), point.value if hasattr(point, "value") else (point.count, point.sum))
            for metric in data.resource_metrics[0].scope_metrics[0].metrics
            if metric.name == f"booking_resilience.{name}"
            for point in metric.data.data_points
        ]

    def value(self, name: str, **attributes: str) -> Any:
        """Return the value of the one point that has the attributes."""
        wanted = {NAMES[key]: value for key, value in attributes.items()}
        (found,) = [value for facts, value in self.points(name) if wanted.items() <= facts.items()]
        return found


@pytest.fixture
def metrics() -> Iterator[Metrics]:
    """A telemetry whose metrics are kept in memory."""
    made = Metrics()
    yield made
    made.provider.shutdown()


@pytest.fixture
def spans() -> Iterator[tuple[Any, InMemorySpanExporter]]:
    """A tracer, and where its spans end up."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield provider.get_tracer("test"), exporter
    provider.shutdown()


def failing(times: int, error: type[Exception] = TransientError) -> Any:
    """Return a function that fails so many times before it succeeds."""
    left = times

    def call() -> str:
        nonlocal left
        if left:
            left -= 1
            raise error("no")
        return "done"

    return call


def test_calls_attempts_and_retries_are_measured(metrics: Metrics, virtual_clock: VirtualClock) -> None:
    """A measured pipeline counts its calls by outcome, how long they took, their attempts and retries."""
    monitor = ErrorMonitor()
    pipeline = metrics.telemetry.pipeline(Pipeline(retry=RetryPolicy(jitter=0), monitor=monitor))
    for times in (0, 0, 1):
        assert pipeline.call("lookUp", failing(times)) == "done"
    with pytest.raises(TransientError):
        pipeline.call("lookUp", failing(9))
    with pytest.raises(ValueError, match="no"):
        pipeline.call("other", failing(1, ValueError))
    failed = {"outcome": "failed", "error_type": "booking_resilience.errors.TransientError"}
    assert metrics.value("operation.duration", operation="lookUp", outcome="succeeded") == (2, 0)
    assert metrics.value("operation.duration", operation="lookUp", outcome="recovered") == (1, pytest.approx(0.3))
    assert metrics.value("operation.duration", operation="lookUp", **failed) == (1, pytest.approx(0.9))
    assert metrics.value("operation.attempts", operation="lookUp", outcome="succeeded") == (2, 2)
    assert metrics.value("operation.attempts", operation="lookUp", outcome="recovered") == (1, 2)
    assert metrics.value("operation.attempts", operation="lookUp", **failed) == (1, 3)
    assert metrics.value("operation.attempts", operation="other", error_type="ValueError") == (1, 1)
    assert metrics.value("retries", operation="lookUp", error_type=failed["error_type"]) == 3
    assert [record.outcome for record in monitor.recent()] == ["failed", "failed", "recovered"]


def test_a_call_that_fell_back_is_no_failure(metrics: Metrics, virtual_clock: VirtualClock) -> None:
    """A call whose fallback took the place of its error fell back, whichever way it was called; others failed."""
    policy = RetryPolicy(max_attempts=2, base_delay=0.0)
    pipeline = metrics.telemetry.pipeline(Pipeline(retry=policy, fallback=Fallback("instead", on=TransientError)))

    def down() -> str:
        raise TransientError("down")

    def mistaken() -> str:
        raise KeyError("mistaken")

    assert (pipeline.call("op", down), pipeline.protect("op")(down)()) == ("instead", "instead")
    with pytest.raises(KeyError):
        pipeline.call("op", mistaken)
    points = metrics.points("operation.attempts")
    assert [(facts[NAMES["outcome"]], value) for facts, value in points] == [("fell_back", (2, 4)), ("failed", (1, 1))]


def test_every_way_to_call_is_measured(metrics: Metrics, virtual_clock: VirtualClock) -> None:
    """Asynchronous calls, decorated functions and batches are measured like calls."""
    pipeline = metrics.telemetry.pipeline(Pipeline(retry=RetryPolicy(jitter=0)))

    async def work(item: int = 0) -> int:
        return item

    @pipeline.protect("decorated")
    def decorated(item: int) -> int:
        return item

    @pipeline.protect("decorated")
    async def decorated_async(item: int) -> int:
        return item

    assert asyncio.run(pipeline.call_async("called", work)) == 0
    assert decorated(1) == 1
    assert asyncio.run(decorated_async(2)) == 2
    assert run_batch(decorated.__wrapped__, range(3), pipeline=pipeline, operation="batch").values() == [0, 1, 2]  # type: ignore[attr-defined] # functools sets it

    async def batch() -> list[int]:
        return (await run_batch_async(work, range(4), pipeline=pipeline, operation="batch")).values()

    assert asyncio.run(batch()) == [0, 1, 2, 3]
    assert decorated.__name__ == "decorated"
    counts = {
        facts["booking_resilience.operation"]: count for facts, (count, _) in metrics.points("operation.attempts")
    }
    assert counts == {"called": 1, "decorated": 2, "batch": 7}


def test_cancelled_call_is_neither_success_nor_failure(metrics: Metrics) -> None:
    """A call that is cancelled or interrupted is measured as cancelled."""
    pipeline = metrics.telemetry.pipeline(Pipeline())
    with pytest.raises(KeyboardInterrupt):
        pipeline.call("x", failing(1, KeyboardInterrupt))  # type: ignore[arg-type] # that is the point
    assert metrics.value("operation.attempts", outcome="cancelled", error_type="KeyboardInterrupt") == (1, 1)


def test_the_error_that_comes_out_is_the_original(metrics: Metrics, virtual_clock: VirtualClock) -> None:
    """A measured pipeline lets the very same error out, also one that ends iterations."""
    pipeline = metrics.telemetry.pipeline(Pipeline())
    for error in (ValueError("x"), StopIteration(3), TransientError("y")):

        def fail(error: Exception = error) -> None:
            raise error

        with pytest.raises(type(error)) as caught:
            pipeline.call("x", fail)
        assert caught.value is error


def test_retries_without_a_pipeline_are_counted(metrics: Metrics, virtual_clock: VirtualClock) -> None:
    """`on_event` counts the retries of `with_retry`."""
    with_retry(failing(2), operation="direct", on_event=metrics.telemetry.on_event)
    assert metrics.value("retries", operation="direct") == 2


def test_breaker_is_watched_until_closed(metrics: Metrics, virtual_clock: VirtualClock) -> None:
    """A breaker's transitions are counted and its state is shown, until the subscription is closed."""
    breaker = CircuitBreaker("backend", failure_threshold=1)
    subscription = metrics.telemetry.watch_breaker(breaker)
    assert metrics.value("breaker.state", breaker="backend", state="closed") == 1
    with pytest.raises(ValueError, match="no"):
        breaker.call(failing(1, ValueError))
    assert metrics.value("breaker.transitions") == 1
    assert metrics.points("breaker.transitions")[0][0] == {
        "booking_resilience.breaker.name": "backend", "booking_resilience.breaker.state.old": "closed",
        "booking_resilience.breaker.state.new": "open",
    }  # fmt: skip
    states = {facts["booking_resilience.breaker.state"]: value for facts, value in metrics.points("breaker.state")}
    assert states == {state.value: int(state is BreakerState.OPEN) for state in BreakerState}
    subscription.close()
    breaker.reset()
    assert metrics.value("breaker.transitions") == 1
    assert metrics.points("breaker.state") == []


def test_breakers_of_one_name_are_counted_together(metrics: Metrics) -> None:
    """Of two breakers of one name the metric says how many are in each state: an isolated one isn't hidden."""
    breakers = [CircuitBreaker("backend"), CircuitBreaker("backend"), CircuitBreaker("https://me:hunter2@host")]
    for breaker in breakers:
        metrics.telemetry.watch_breaker(breaker)
    breakers[0].isolate("password=hunter2")
    found = {state: metrics.value("breaker.state", breaker="backend", state=state) for state in ("isolated", "closed")}
    assert found == {"isolated": 1, "closed": 1}
    assert metrics.value("breaker.state", breaker="https://<redacted>@host", state="closed") == 1


def test_every_attribute_has_a_namespace(metrics: Metrics, virtual_clock: VirtualClock) -> None:
    """Attributes are this library's own, or named by OpenTelemetry's conventions."""
    monitor, breaker = ErrorMonitor(), CircuitBreaker("backend", failure_threshold=1)
    metrics.telemetry.watch_monitor(monitor)
    metrics.telemetry.watch_breaker(breaker)
    pipeline = metrics.telemetry.pipeline(Pipeline(breaker=breaker, monitor=monitor))
    with pytest.raises(TransientError):
        pipeline.call("lookUp", failing(9))
    data = metrics.reader.get_metrics_data()
    assert data is not None
    names = {
        name
        for metric in data.resource_metrics[0].scope_metrics[0].metrics
        for point in metric.data.data_points
        for name in point.attributes or {}
    }
    assert all(name == "error.type" or name.startswith("booking_resilience.") for name in names)


def sorted_points(metrics: Metrics, name: str) -> Any:
    """Return the points of a metric, by their attributes."""
    return sorted(metrics.points(name), key=str)


def test_limits_are_watched_until_closed(metrics: Metrics) -> None:
    """How full a limit is, who waits and what it rejected is told by its name, until the subscription is closed."""
    telemetry, rows = metrics.telemetry, ConcurrencyLimit("rows", limit=3)
    rate = RateLimit("mails", rate=2, per=3600.0)
    watching = [telemetry.watch_limit(rows), telemetry.watch_limit(rate)]
    assert rate.try_acquire(2)
    assert not rate.try_acquire()
    name = "booking_resilience.limit.name"
    with rows.guard():
        assert sorted_points(metrics, "limit.in_flight") == [({name: "mails"}, 0), ({name: "rows"}, 1)]
        assert sorted_points(metrics, "limit.max") == [({name: "mails"}, 2), ({name: "rows"}, 3)]
        assert sorted_points(metrics, "limit.queued") == [({name: "mails"}, 0), ({name: "rows"}, 0)]
        assert sorted_points(metrics, "limit.refused") == [({name: "mails"}, 1), ({name: "rows"}, 0)]
    for subscription in watching:
        subscription.close()
    assert metrics.points("limit.max") == []


def test_second_calls_are_counted(metrics: Metrics) -> None:
    """A hedged operation that made a second call counts one, also where pipelines share a hedge."""
    hedge, calls = Hedge(idempotent=True, delay=0.0, max_extra=1.0), []

    def slow_at_first() -> None:
        calls.append(1)
        if len(calls) == 1:
            second.wait(20)
        second.set()

    second = threading.Event()
    pipelines = [metrics.telemetry.pipeline(Pipeline(hedge=hedge)) for _ in range(2)]
    pipelines[0].call("read", slow_at_first)
    assert metrics.points("hedges") == [({}, 1)]


def test_durable_bookings_are_watched_as_far_as_they_are_known(metrics: Metrics, virtual_clock: VirtualClock) -> None:
    """What waits is counted by operation, with the age of the oldest; a store that can't be read tells nothing."""

    class Durable:
        waits: Any = ()

        def waiting(self, limit: int) -> Any:
            if self.waits is None:
                raise OSError("no database")
            return self.waits

    durable = Durable()
    watching = metrics.telemetry.watch_durable(durable)
    waiting, oldest = "durable.waiting", "durable.oldest"
    operation = "booking_resilience.operation"
    assert (metrics.points(waiting), metrics.points(oldest)) == ([({operation: ""}, 0)], [({}, 0.0)])
    since = clock.utc_now()
    virtual_clock.advance(90)
    durable.waits = [SimpleNamespace(operation=name, since=since) for name in ("book", "book", "chat")]
    assert metrics.points(waiting) == [({operation: "book"}, 2), ({operation: "chat"}, 1)]
    assert metrics.points(oldest) == [({}, 90.0)]
    durable.waits = None
    assert metrics.points(waiting) == []
    watching.close()


def test_the_bound_of_names_holds_under_threads() -> None:
    """However many threads bring new names at once, no more than allowed become attributes."""
    names = Names(5)
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(names, [f"name {number}" for number in range(2000)]))
    assert len(found) == 6
    assert "_OTHER" in found


def test_monitor_is_watched_until_closed(metrics: Metrics, virtual_clock: VirtualClock) -> None:
    """A monitor's records are counted and its rate is shown, until the subscription is closed."""
    monitor = ErrorMonitor()
    with metrics.telemetry.watch_monitor(monitor):
        monitor.log_booking_error("createBooking", KeyError("slot"))
        monitor.record(ValueError(), operation="x", severity="warning", outcome="recovered")
        assert metrics.value("errors", operation="createBooking") == 1
        assert metrics.points("errors")[0][0] == {
            "booking_resilience.operation": "createBooking", "booking_resilience.category": "booking",
            "booking_resilience.severity": "error", "booking_resilience.outcome": "failed", "error.type": "KeyError",
        }  # fmt: skip
        assert metrics.value("error_rate") == 1.0
        virtual_clock.advance(60)
        assert metrics.value("error_rate") == 0.0
    monitor.log_booking_error("createBooking", KeyError("slot"))
    assert metrics.value("errors", operation="createBooking") == 1


def test_attributes_come_from_closed_sets(virtual_clock: VirtualClock) -> None:
    """However many names operations, breakers and error types have, a metric has a bounded number of series."""
    metrics = Metrics(max_names=3)
    monitor = ErrorMonitor()
    pipeline = metrics.telemetry.pipeline(Pipeline(monitor=monitor))
    metrics.telemetry.watch_monitor(monitor)
    breakers = [CircuitBreaker(f"breaker {number}") for number in range(10)]
    for number, breaker in enumerate(breakers):
        metrics.telemetry.watch_breaker(breaker)
        breaker.isolate("test")
        with pytest.raises(Exception, match="no"):
            pipeline.call(f"booking {number}", failing(1, type(f"Error{number}", (Exception,), {})))
    for name, key in (
        ("errors", "operation"), ("errors", "error_type"), ("operation.duration", "operation"),
        ("breaker.transitions", "breaker"), ("breaker.state", "breaker"),
    ):  # fmt: skip
        values = {facts[NAMES[key]] for facts, _ in metrics.points(name)}
        assert len(values) == 4
        assert "_OTHER" in values
    metrics.provider.shutdown()
    with pytest.raises(ValueError, match="max_names"):
        Telemetry(max_names=0)


def test_spans_get_events(
    metrics: Metrics, spans: tuple[Any, InMemorySpanExporter], virtual_clock: VirtualClock
) -> None:
    """Retries, transitions and records become events of the active span, without the secrets of any error."""
    tracer, exporter = spans
    monitor, breaker = ErrorMonitor(), CircuitBreaker("backend", failure_threshold=2)
    metrics.telemetry.watch_monitor(monitor)
    metrics.telemetry.watch_breaker(breaker)
    pipeline = metrics.telemetry.pipeline(Pipeline(breaker=breaker, monitor=monitor, retry=RetryPolicy(jitter=0)))

    def leaks() -> None:
        raise ConnectionError("https://me:hunter2@host refused")

    with tracer.start_as_current_span("request"), pytest.raises(ConnectionError):
        pipeline.call("lookUp", leaks)
    (span,) = exporter.get_finished_spans()
    told = [(event.name, dict(event.attributes or {})) for event in span.events]
    assert [name for name, _ in told] == [
        "booking_resilience.retry", "booking_resilience.breaker", "booking_resilience.retry", "exception",
    ]  # fmt: skip
    assert told[0][1] == {
        "booking_resilience.operation": "lookUp", "booking_resilience.outcome": "retrying",
        "booking_resilience.retry.attempt": 1, "booking_resilience.retry.delay": 0.3, "error.type": "ConnectionError",
    }  # fmt: skip
    own = "booking_resilience."
    assert (told[1][1][f"{own}breaker.name"], told[1][1][f"{own}breaker.state.new"]) == ("backend", "open")
    assert (told[2][1][f"{own}outcome"], told[2][1][f"{own}retry.reason"]) == ("gave_up", "circuit_open")
    assert told[3][1]["exception.type"] == "ConnectionError"
    assert told[3][1]["exception.message"] == "https://<redacted>@host refused"
    assert "leaks" in told[3][1]["exception.stacktrace"]
    assert monitor.recent()[0].span_id == f"{span.context.span_id:016x}"
    assert "hunter2" not in str([attributes for name, attributes in told])


def test_refusals_are_failures(metrics: Metrics) -> None:
    """A call that the breaker refuses is one that failed, by the type of the refusal."""
    breaker = CircuitBreaker("backend")
    breaker.isolate("test")
    with pytest.raises(CircuitOpenError):
        metrics.telemetry.pipeline(Pipeline(breaker=breaker)).call("x", failing(0))
    kind = "booking_resilience.errors.CircuitOpenError"
    assert metrics.value("operation.attempts", error_type=kind, outcome="failed") == (1, 1)


def test_telemetry_that_fails_hurts_nobody(metrics: Metrics, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where OpenTelemetry itself raises, the call goes on as if there were none."""

    def fail(*_: object) -> None:
        raise RuntimeError("telemetry")

    for instrument in ("_duration", "_attempts"):
        monkeypatch.setattr(getattr(metrics.telemetry, instrument), "record", fail)
    monkeypatch.setattr(metrics.telemetry, "on_event", fail)
    pipeline = metrics.telemetry.pipeline(Pipeline(retry=RetryPolicy(base_delay=0)))
    assert pipeline.call("x", failing(1)) == "done"


@pytest.mark.parametrize("watched", ["pipeline", "breaker", "monitor", "limit", "durable"])
def test_what_cannot_be_watched_is_refused(metrics: Metrics, watched: str) -> None:
    """A thing of the wrong type, or a class, is a TypeError that names the argument."""
    method = getattr(metrics.telemetry, watched if watched == "pipeline" else f"watch_{watched}")
    for wrong in (None, 5, ErrorMonitor, ConcurrencyLimit):
        with pytest.raises(TypeError, match=f"^{watched} must be an? "):
            method(wrong)


def test_the_core_needs_no_telemetry() -> None:
    """Recording errors imports nothing of OpenTelemetry."""
    code = (
        "import sys, booking_resilience as b; b.ErrorMonitor().record(ValueError(), operation='x');"
        "b.Pipeline().call('x', int); print([name for name in sys.modules if 'opentelemetry' in name])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_telemetry_that_fails_leaves_no_call_under_way(metrics: Metrics, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where measuring a call fails, the call is over all the same: later events are not taken for its own."""

    def broken(*args: Any) -> None:
        raise RuntimeError("no")

    outer = otel._current.get()
    monkeypatch.setattr(metrics.telemetry._duration, "record", broken)
    assert metrics.telemetry.pipeline(Pipeline()).call("lookUp", int) == 0
    assert otel._current.get() is outer


def test_coroutine_that_is_closed_in_another_context_is_measured(metrics: Metrics) -> None:
    """A call under way that is closed in another context than it began in is cancelled, and nothing comes out."""

    async def waits() -> None:
        await asyncio.Future()

    async def main() -> None:
        call = metrics.telemetry.pipeline(Pipeline()).call_async("lookUp", waits)
        contextvars.copy_context().run(call.send, None)
        contextvars.copy_context().run(call.close)

    asyncio.run(main())
    assert metrics.value("operation.duration", outcome="cancelled")[0] == 1
