"""OpenTelemetry log records, and the Grafana board and Prometheus rules under docs/telemetry."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

pytest.importorskip("opentelemetry", reason="the extra `otel` is not installed")

from opentelemetry.sdk import _logs as sdk_logs
from opentelemetry.sdk._logs import export
from opentelemetry.sdk.trace import TracerProvider

from booking_resilience import CircuitBreaker, ErrorMonitor, Pipeline, RetryPolicy, clock
from booking_resilience.load import ConcurrencyLimit, Hedge
from booking_resilience.telemetry.logs import LogRecords
from booking_resilience.telemetry.otel import Telemetry
from booking_resilience.testing import virtual_time

FILES = Path(__file__).parent.parent / "docs" / "telemetry"
METRIC = re.compile(r"\bbooking_resilience_\w+")


@pytest.fixture
def emitted() -> Iterator[tuple[Any, Any]]:
    """A provider of loggers, and what it exported."""
    if not hasattr(export, "InMemoryLogRecordExporter"):
        pytest.skip("this SDK of OpenTelemetry wants log records of a class of its own")
    exporter = export.InMemoryLogRecordExporter()
    provider = sdk_logs.LoggerProvider()
    provider.add_log_record_processor(export.SimpleLogRecordProcessor(exporter))
    yield provider, exporter
    provider.shutdown()


def test_each_record_becomes_a_log_record(emitted: tuple[Any, Any]) -> None:
    """It has the record's moment, severity, text, place and facts, redacted, and belongs to its span."""
    provider, exporter = emitted
    monitor = ErrorMonitor()
    monitor.subscribe(LogRecords(logger_provider=provider))
    with TracerProvider().get_tracer("test").start_as_current_span("booking"):
        try:
            raise ValueError("password=hunter2")
        except ValueError as error:
            record = monitor.record(error, operation="chargeCard", category="payment", severity="critical")
    (found,) = [each.log_record for each in exporter.get_finished_logs()]
    assert found.body == record.message
    assert found.severity_text == "critical"
    assert found.severity_number.name == "FATAL"
    assert found.timestamp == pytest.approx(record.timestamp.timestamp() * 1e9, abs=1e3)
    assert f"{found.trace_id:032x}" == record.trace_id
    assert f"{found.span_id:016x}" == record.span_id
    assert found.attributes["exception.type"] == "ValueError"
    assert found.attributes["code.line.number"] == record.line
    assert found.attributes["booking_resilience.category"] == "payment"
    assert "hunter2" not in str(found.attributes)


def test_an_error_that_was_never_raised_has_no_place(emitted: tuple[Any, Any]) -> None:
    """What isn't known is left out."""
    provider, exporter = emitted
    monitor = ErrorMonitor()
    monitor.subscribe(LogRecords(logger_provider=provider))
    monitor.log_chat_error("sendMessage", ConnectionError())
    (found,) = [each.log_record for each in exporter.get_finished_logs()]
    assert not any(name.startswith("code.") for name in found.attributes)


class Durable:
    """Durable bookings of which two wait."""

    def waiting(self, limit: int) -> list[Waiting]:
        begun = clock.utc_now() - datetime.timedelta(seconds=90)
        return [Waiting("b-1", "createBooking", begun), Waiting("b-2", "openChat", clock.utc_now())][:limit]


class Waiting(NamedTuple):
    """What is read of a workflow that waits."""

    id: str
    operation: str
    since: datetime.datetime


def exported() -> tuple[set[str], set[str]]:
    """Return the names of all metrics and labels that Prometheus gets of everything there is to measure."""
    pytest.importorskip("opentelemetry.exporter.prometheus", reason="the Prometheus exporter is not installed")
    from opentelemetry.exporter.prometheus import PrometheusMetricReader
    from opentelemetry.sdk.metrics import MeterProvider
    from prometheus_client import REGISTRY

    provider = MeterProvider([PrometheusMetricReader()])
    telemetry = Telemetry(meter_provider=provider)
    limit, durable = ConcurrencyLimit("rows", limit=2), Durable()
    closing = [telemetry.watch_limit(limit), telemetry.watch_durable(durable)]
    monitor, breaker = ErrorMonitor(), CircuitBreaker("backend", failure_threshold=2)
    telemetry.watch_monitor(monitor)
    telemetry.watch_breaker(breaker)
    pipeline = telemetry.pipeline(Pipeline(retry=RetryPolicy(max_attempts=2), breaker=breaker, monitor=monitor))
    hedged = telemetry.pipeline(Pipeline(limit=limit, hedge=Hedge(idempotent=True)))
    assert hedged.call("read", int) == 0

    def down() -> None:
        raise ConnectionError("refused")

    with virtual_time(), pytest.raises(ConnectionError):
        pipeline.call("lookUp", down)
    samples = [sample for family in REGISTRY.collect() for sample in family.samples]
    provider.shutdown()
    for subscription in closing:
        subscription.close()
    ours = [sample for sample in samples if sample.name.startswith("booking_resilience")]
    return {sample.name for sample in ours}, {label for sample in ours for label in sample.labels}


def expressions() -> dict[str, list[str]]:
    """Return the expressions in the two files."""
    board = json.loads((FILES / "grafana.json").read_text(encoding="utf-8"))
    rules = (FILES / "alerts.yaml").read_text(encoding="utf-8")
    return {
        "board": [target["expr"] for panel in board["panels"] for target in panel["targets"]]
        + [each["query"]["query"] for each in board["templating"]["list"] if each["type"] == "query"],
        "rules": re.findall(r"^ +expr: (.+)$", rules, re.MULTILINE),
    }


def test_board_and_rules_ask_for_metrics_that_are_exported() -> None:
    """Every metric and label in an expression is exported, and the board shows every metric."""
    metrics, labels = exported()
    found = expressions()
    assert len(found["rules"]) == len(re.findall("- alert:", (FILES / "alerts.yaml").read_text(encoding="utf-8")))
    for name in {name for each in found.values() for text in each for name in METRIC.findall(text)}:
        assert name in metrics | labels, name
    for text in [text for each in found.values() for text in each]:
        inside = " ".join(re.findall(r"\{[^}]*\}|by \([^)]*\)", text))
        for name in METRIC.findall(inside):
            assert name in labels, f"{name} is no label: {text}"
        assert text.count("(") == text.count(")")
    shown = {name for text in found["board"] for name in METRIC.findall(text)}
    suffixes = re.compile(r"_(total|bucket|sum|count|created)$")
    missing = {suffixes.sub("", name) for name in metrics} - {suffixes.sub("", name) for name in shown}
    assert not missing


def test_the_board_has_no_overlaps_and_plain_ids() -> None:
    """Panels have ids of their own and don't cover one another."""
    panels = json.loads((FILES / "grafana.json").read_text(encoding="utf-8"))["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(taken) == len(set(taken))
    assert max(x for x, _ in taken) == 23
