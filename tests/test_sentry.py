"""`SentrySink`: which records become events, and what is in them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("sentry_sdk", reason="the extra `sentry` is not installed")

import sentry_sdk
from sentry_sdk.transport import Transport

from booking_resilience import ErrorMonitor
from booking_resilience.sentry import SentrySink
from booking_resilience.testing import virtual_time
from racing import fork_while_threads, needs_fork


class Kept(Transport):
    """A transport that keeps the events, and on which threads they came."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[Any] = []

    def capture_envelope(self, envelope: Any) -> None:
        self.events.append(envelope.get_event())


@pytest.fixture
def kept() -> Iterator[Kept]:
    """What Sentry would send."""
    kept = Kept()
    with sentry_sdk.isolation_scope() as scope:
        client = sentry_sdk.Client("http://key@localhost/1", transport=kept, default_integrations=False)
        scope.set_client(client)
        yield kept
        client.close(timeout=0)


def record(monitor: ErrorMonitor, times: int = 1, operation: str = "lookUp") -> None:
    """Record errors of one group."""
    for _ in range(times):
        monitor.log_network_error(operation, ConnectionError("lost"))


def counts(kept: Kept) -> list[int]:
    """Return how many records each event stands for."""
    return [event["extra"]["count"] for event in kept.events]


def test_the_first_record_is_sent_at_once_and_the_rest_are_counted(kept: Kept) -> None:
    """One event at once, then one per interval with the number of records since."""
    with virtual_time() as clock:
        monitor = ErrorMonitor()
        monitor.subscribe(SentrySink(interval=60.0))
        record(monitor, 10)
        assert counts(kept) == [1]
        clock.advance(59.9)
        record(monitor)
        assert counts(kept) == [1]
        clock.advance(0.1)
        record(monitor, 3)
        assert counts(kept) == [1, 11]
        record(monitor, operation="another")
        assert counts(kept) == [1, 11, 1]


def test_an_event_has_the_records_facts(kept: Kept) -> None:
    """Level, fingerprint, type, text, tags, place and stack are those of the record, redacted as it is."""
    monitor = ErrorMonitor()
    monitor.subscribe(SentrySink())
    try:
        raise ValueError("password=hunter2")
    except ValueError as error:
        kept_record = monitor.record(error, operation="chargeCard", category="payment", severity="critical",
                                     context={"card_token": "t-1", "booking": "b-1"})  # fmt: skip
    (event,) = kept.events
    assert event["level"] == "fatal"
    assert event["fingerprint"] == [kept_record.fingerprint]
    assert event["tags"] == {"category": "payment", "operation": "chargeCard", "outcome": "failed"}
    value = event["exception"]["values"][0]
    assert value["type"] == "ValueError"
    assert value["stacktrace"]["frames"][0]["lineno"] == kept_record.line
    assert event["extra"]["context"]["booking"] == "b-1"
    assert "hunter2" not in str(event)
    assert "t-1" not in str(event)


def test_an_error_that_was_never_raised_has_no_frames(kept: Kept) -> None:
    """Without a place there is no stack in the event."""
    monitor = ErrorMonitor()
    monitor.subscribe(SentrySink())
    record(monitor)
    assert "stacktrace" not in kept.events[0]["exception"]["values"][0]


def test_a_thousand_groups_are_remembered(kept: Kept) -> None:
    """The group that was seen longest ago is forgotten for the 1,001st, and sends at once again."""
    sink = SentrySink(interval=3600.0)
    with virtual_time():
        assert [sink._due(f"group {number}") for number in range(1000)] == [1] * 1000
        assert sink._due("group 0") == 0
        assert sink._due("one more") == 1  # forgets group 1, since group 0 was seen after it
        assert sink._due("group 0") == 0
        assert sink._due("group 1") == 1


def test_threads_send_one_event_between_them(kept: Kept) -> None:
    """Of many threads with the same error one sends; the others are counted."""
    sink, due = SentrySink(interval=3600.0), []
    start = threading.Barrier(8)

    def ask() -> None:
        start.wait()
        due.append([sink._due("same") for _ in range(100)])

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(map(sum, due)) == 1
    assert sink._groups["same"][1] == 799


@needs_fork
def test_a_child_forked_while_threads_record_can_record() -> None:
    """A worker forked in the middle of another thread's record isn't held up by a lock that nobody holds any more."""
    sink = SentrySink()
    fork_while_threads(lambda: sink._due("same"))


def test_without_sentry_set_up_nothing_happens() -> None:
    """Where `sentry_sdk.init` was not called, recording goes on as without the sink."""
    monitor = ErrorMonitor()
    monitor.subscribe(SentrySink())
    record(monitor)
    assert monitor.stats().total == 1
    assert monitor.listener_errors == 0


@pytest.mark.parametrize(("interval", "error"), [(-1, ValueError), (float("nan"), ValueError), ("60", TypeError)])
def test_an_absurd_interval_is_rejected(interval: Any, error: type[Exception]) -> None:
    """A negative, infinite or non-numeric interval is an error that names it."""
    with pytest.raises(error, match="interval"):
        SentrySink(interval)
