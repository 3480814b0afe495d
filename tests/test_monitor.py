"""The error monitor: what it records, counts, keeps and tells, whatever happens around it."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import gc
import importlib.util
import logging
import os
import pickle
import random
import re
import signal
import subprocess
import sys
import sysconfig
import textwrap
import threading
import traceback
import tracemalloc
import typing
import weakref
from collections import UserDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

import hostile
from booking_resilience import (
    AlertEvent,
    AlertRule,
    CircuitOpenError,
    ErrorCategory,
    ErrorMonitor,
    ErrorRecord,
    FailedAttempt,
    LimitExceededError,
    Pipeline,
    Redaction,
    Severity,
    TransientError,
    attempts_of,
    load_json,
    with_retry,
)
from booking_resilience.monitor import stacks
from booking_resilience.testing import VirtualClock, virtual_time
from fresh import run_fresh
from racing import Strikes, needs_timer, taking_turns


def raised(error: BaseException, depth: int = 1) -> BaseException:
    """Return the error after it was raised and caught, `depth` frames deep."""
    try:
        if depth > 1:
            raise raised(error, depth - 1)
        raise error
    except BaseException as caught:
        return caught


def test_record_says_what_happened() -> None:
    """A record has the type, message, place, context and attempts of the error, and its stack as text."""
    monitor = ErrorMonitor()
    record = monitor.record(
        raised(ConnectionError("refused")),
        operation="createBooking",
        category="booking",
        context={"therapist_id": "t1"},
        attempts=(
            FailedAttempt(1, ValueError("first"), 0.3, 0.1),
            FailedAttempt(2, ConnectionError("refused"), None, 0.5),
        ),
    )
    assert record is monitor.recent()[0]
    assert (record.error_type, record.message, record.message_length) == ("ConnectionError", "refused", 7)
    assert (record.category, record.severity, record.outcome) == (ErrorCategory.BOOKING, Severity.ERROR, "failed")
    assert record.function == "raised"
    assert record.file is not None
    assert record.file.endswith("test_monitor.py")
    assert "raise error" in record.stacktrace
    assert record.stacktrace.endswith("ConnectionError: refused")
    assert record.attempts == 2
    assert record.attempt_errors == ("ValueError: first", "ConnectionError: refused")
    assert record.duration == 0.5
    assert record.timestamp.tzinfo is not None
    assert len(record.fingerprint) == 16
    with pytest.raises(AttributeError):
        record.message = "other"  # type: ignore[misc] # that is the point


def test_causes_are_kept_nearest_first() -> None:
    """What an error was raised from is kept, nearest first, with its stack; a suppressed context is not."""
    try:
        try:
            try:
                raise KeyError("root")
            except KeyError as error:
                raise ValueError("middle") from error
        except ValueError as error:
            raise RuntimeError("top") from error
    except RuntimeError as error:
        record = ErrorMonitor().record(error, operation="x")
    assert record.causes == ("ValueError: middle", "KeyError: 'root'")
    assert record.stacktrace.index("KeyError: 'root'") < record.stacktrace.index("ValueError: middle")
    try:
        try:
            raise KeyError("hidden")
        except KeyError:
            raise ValueError("shown") from None
    except ValueError as error:
        assert ErrorMonitor().record(error, operation="x").causes == ()


def test_same_error_is_one_record() -> None:
    """The same exception object recorded twice is one record, the first, also after that was dropped; not elsewhere."""
    monitor, other = ErrorMonitor(capacity=1), ErrorMonitor()
    error = raised(ValueError("x"))
    first = monitor.record(error, operation="a")
    assert monitor.record(error, operation="b", severity="critical") is first
    for number in range(5):
        monitor.record(ValueError(number), operation=f"other {number}")
    assert first not in monitor.recent()
    assert monitor.record(error, operation="c") is first
    assert other.record(error, operation="d").operation == "d"
    assert monitor.stats().total == 6


def test_error_can_be_pickled_and_copied_after_recording() -> None:
    """An error that was recorded can still be pickled and copied; the copy is new to the monitor."""
    monitor = ErrorMonitor()
    error = raised(ValueError("x"))
    monitor.record(error, operation="a")
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert str(twin) == "x"
        monitor.record(twin, operation="a")
    assert monitor.stats().total == 3


def test_error_that_takes_no_attributes_is_recorded() -> None:
    """An error whose attributes cannot be reached is recorded all the same."""

    class Shut(Exception):  # noqa: N818 - it is a fake
        @property
        def __dict__(self) -> Any:  # type: ignore[override] # that is the point
            raise RuntimeError("no")

    monitor = ErrorMonitor()
    monitor.record(Shut("x"), operation="a")
    assert monitor.stats().total == 1


def test_statistics_count_everything() -> None:
    """`total` is failed plus recovered, and both stand in the counts by category and severity."""
    monitor = ErrorMonitor()
    monitor.log_booking_error("a", ValueError())
    monitor.log_chat_error("a", ValueError())
    monitor.log_payment_error("a", ValueError())
    monitor.log_appwrite_error("a", ValueError())
    monitor.log_network_error("a", ValueError(), duration=30, operation="in context", error="too")
    monitor.record(ValueError(), operation="b", severity="warning", outcome="recovered", attempts=2)
    stats = monitor.stats()
    assert (stats.total, stats.failed, stats.recovered, stats.dropped, stats.groups) == (6, 5, 1, 0, 6)
    assert stats.by_category == {"booking": 1, "chat": 1, "payment": 1, "appwrite": 1, "network": 2}
    assert stats.by_severity == {"critical": 0, "error": 5, "warning": 1, "info": 0}
    assert monitor.recent()[1].context == {"duration": 30, "operation": "in context", "error": "too"}


def test_rate_and_alert_in_virtual_time(virtual_clock: VirtualClock) -> None:
    """The eleventh error within a minute raises the alert, and silence resolves it: one alert, one resolution."""
    events: list[AlertEvent] = []
    monitor = ErrorMonitor(on_alert=events.append)
    for number in range(11):
        assert not monitor.alerting
        monitor.record(ValueError(number), operation="x")
        monitor.record(ValueError(number), operation="x", severity="warning")
    assert monitor.alerting
    assert monitor.error_rate == 11.0
    assert monitor.stats().alert is not None
    virtual_clock.advance(60)
    assert monitor.error_rate == 0
    assert monitor.alerting
    virtual_clock.advance(60)
    assert not monitor.alerting
    assert [event.state for event in events] == ["firing", "resolved"]
    assert (events[0].rate, events[1].peak, events[1].since) == (11.0, 11.0, events[0].since)


def test_alert_is_logged(caplog: pytest.LogCaptureFixture, virtual_clock: VirtualClock) -> None:
    """An alert is a warning in the log, its resolution an information."""
    monitor = ErrorMonitor(alert=AlertRule(threshold=0, clear_threshold=1, keep_firing=0))
    with caplog.at_level(logging.INFO, "booking_resilience.monitor"):
        monitor.record(ValueError("hunter2"), operation="x")
        virtual_clock.advance(61)
        assert not monitor.alerting
    assert [(record.levelname, "hunter2" in record.getMessage()) for record in caplog.records] == [
        ("WARNING", False), ("INFO", False),
    ]  # fmt: skip


def test_listeners_are_told_and_may_raise(caplog: pytest.LogCaptureFixture) -> None:
    """Listeners are told of each record until they are closed; one that raises is logged and changes nothing."""
    monitor, told = ErrorMonitor(), []
    monitor.subscribe(lambda record: 1 / 0)
    with monitor.subscribe(told.append):
        record = monitor.record(ValueError("x"), operation="a")
    monitor.record(ValueError("y"), operation="a")
    assert told == [record]
    assert "ZeroDivisionError" in caplog.text
    with pytest.raises(TypeError, match="listener"):
        monitor.subscribe(3)  # type: ignore[arg-type] # that is the point


def test_listener_that_records_does_not_recurse() -> None:
    """A listener and an alert handler may record errors themselves; they are kept, and told to nobody in turn."""
    monitor = ErrorMonitor(alert=AlertRule(threshold=0, clear_threshold=1), on_alert=lambda _: more())

    def more(_: ErrorRecord | None = None) -> None:
        monitor.record(ValueError("from the listener"), operation="listener")

    monitor.subscribe(more)
    monitor.record(ValueError("x"), operation="a")
    assert monitor.stats().total == 3


def test_capture_records_and_lets_pass() -> None:
    """`capture` records what comes out of a block or function, sync or async, and lets it; exits pass unrecorded."""
    monitor = ErrorMonitor()
    with pytest.raises(ValueError, match="x"), monitor.capture("block", category="payment", amount=3):
        raise ValueError("x")
    assert monitor.recent()[0].context == {"amount": 3}

    @monitor.capture("function", severity="critical")
    def fails(number: int) -> int:
        return 1 // number

    @monitor.capture("coroutine")
    async def fails_later(number: int) -> int:
        async with monitor.capture("inner"):
            return 1 // number

    assert fails(1) == 1
    with pytest.raises(ZeroDivisionError):
        fails(0)
    with pytest.raises(ZeroDivisionError):
        asyncio.run(fails_later(0))
    for error in (KeyboardInterrupt(), SystemExit(), asyncio.CancelledError()):
        with pytest.raises(type(error)), monitor.capture("exit"):
            raise error
    assert [record.operation for record in monitor.recent()] == ["inner", "function", "block"]
    assert fails.__name__ == "fails"


def test_storm_of_one_kind_leaves_the_others() -> None:
    """A storm of one kind keeps its first 5 and last 20, pushes out nothing else, and its drops are counted."""
    monitor = ErrorMonitor(capacity=40)
    others = [monitor.record(ValueError(number), operation=f"rare {number}") for number in range(10)]
    critical = monitor.record(ValueError("c"), operation="critical", severity="critical")
    storm = [monitor.record(KeyError(number), operation="storm") for number in range(1000)]
    kept = monitor.recent(1000)
    assert [record for record in kept if record.operation == "storm"] == [*reversed(storm[-20:]), *reversed(storm[:5])]
    assert all(record in kept for record in [*others, critical])
    stats = monitor.stats()
    assert (stats.total, stats.dropped, stats.groups) == (1011, 975, 12)
    group = monitor.groups(1)[0]
    assert (group.operation, group.count, group.error_type, group.first_seen) == (
        "storm",
        1000,
        "KeyError",
        storm[0].timestamp,
    )


def test_many_kinds_drop_the_oldest_but_not_the_critical() -> None:
    """With more kinds than there is room for, the oldest go; critical records have a ring of their own."""
    monitor = ErrorMonitor(capacity=10)
    critical = monitor.record(ValueError("c"), operation="critical", severity="critical")
    for number in range(100):
        monitor.record(ValueError(number), operation=f"kind {number}")
    kept = monitor.recent(1000)
    assert [record.operation for record in kept] == [f"kind {number}" for number in range(99, 89, -1)] + ["critical"]
    assert kept[-1] is critical
    for number in range(20):
        monitor.record(ValueError(number), operation="critical", severity="critical")
    assert len(monitor.recent(1000, severity="critical")) == 10
    assert monitor.stats().dropped == 90 + 11


@pytest.mark.parametrize("severity", ["error", "critical"])
def test_a_storm_pushes_out_nothing_where_there_is_little_room(severity: str) -> None:
    """Where a group's 25 are more than there is room for, it is the group that gives way, not the others."""
    monitor = ErrorMonitor(capacity=10)
    others = [monitor.record(ValueError(n), operation=f"rare {n}", severity=severity) for n in range(4)]
    storm = [monitor.record(KeyError(n), operation="storm", severity=severity) for n in range(100)]
    kept = monitor.recent(1000)
    assert kept == [*reversed(storm[-3:]), *reversed(storm[:3]), *reversed(others)]


@settings(max_examples=60)
@given(
    capacity=st.integers(1, 60),
    happenings=st.lists(st.tuples(st.integers(0, 12), st.integers(1, 40), st.booleans()), min_size=1, max_size=12),
)
def test_what_is_kept_is_bounded_fair_and_counted(capacity: int, happenings: list[tuple[int, int, bool]]) -> None:
    """Never more than there is room for; no group loses a record while a larger one stays whole; all is counted."""
    monitor = ErrorMonitor(capacity=capacity)
    made: dict[tuple[int, bool], list[ErrorRecord]] = {}
    for name, times, is_critical in happenings:
        for _ in range(times):
            severity = "critical" if is_critical else "warning"
            record = monitor.record(ValueError(), operation=f"group {name}", severity=severity)
            made.setdefault((name, is_critical), []).append(record)
            assert monitor.recent(1)[0] is record
    stats, kept = monitor.stats(), monitor.recent(10_000)
    ids = {id(record) for record in kept}
    assert stats.total == sum(map(len, made.values())) == len(kept) + stats.dropped
    for is_critical in (True, False):
        shelves = {key: records for key, records in made.items() if key[1] is is_critical}
        left = {key: [record for record in records if id(record) in ids] for key, records in shelves.items()}
        assert sum(map(len, left.values())) <= capacity
        largest = max(map(len, left.values()), default=0)
        for key, records in shelves.items():
            whole = records[:5] + records[5:][-20:]
            if sum(min(25, len(other)) for other in shelves.values()) <= capacity:
                assert left[key] == whole
            assert len(left[key]) == len(whole) or len(left[key]) >= largest - 1
    counts = {group.operation: group.count for group in monitor.groups(1000)}
    names = {name for name, _ in made}
    for name in names if len(names) <= capacity else ():
        assert counts[f"group {name}"] == sum(len(records) for (other, _), records in made.items() if other == name)


def test_groups_are_bounded() -> None:
    """Of groups without records those seen last are remembered, as many as there is room for records."""
    monitor = ErrorMonitor(capacity=10)
    for number in range(1000):
        monitor.record(ValueError(number), operation=f"kind {number}")
    assert monitor.stats().groups == 20
    assert [group.operation for group in monitor.groups(100)] == [f"kind {n}" for n in range(999, 979, -1)]
    monitor.record(ValueError("again"), operation="kind 3")
    assert monitor.groups(1)[0].count == 1


def test_memory_stays_flat_over_many_records() -> None:
    """However many records there are, the memory is that of the first thousands, and every count is exact."""
    run_fresh(record_many)


def record_many() -> None:
    """Record 60 times as many errors as are kept, and look at the memory; coverage takes some of its own."""
    monitor = ErrorMonitor()
    errors = [raised(ValueError(f"slot {number} of many"), 3) for number in range(50)]
    names = [f"operation {number}" for number in range(80)]

    def record(number: int) -> None:
        error = errors[number % 50]
        error.__dict__ = {}  # a new error, as far as the monitor can know
        monitor.record(error, operation=names[number % 80], severity="critical" if number % 10 == 0 else "error")

    for number in range(20_000):
        record(number)
    monitor.stats()
    gc.collect()
    before = sys.getallocatedblocks()
    for number in range(20_000, 60_000):
        record(number)
    monitor.stats()
    gc.collect()
    assert sys.getallocatedblocks() - before < 3000
    stats = monitor.stats()
    assert (stats.total, stats.by_severity["critical"], stats.groups) == (60_000, 6_000, 80)
    assert stats.dropped == 60_000 - len(monitor.recent(10_000))
    assert all(group.count == 750 for group in monitor.groups(100))


def test_recent_filters_and_limits() -> None:
    """`recent` gives the newest first, of one category or severity if asked, and refuses what it does not know."""
    monitor = ErrorMonitor()
    for number in range(6):
        monitor.record(ValueError(number), operation="x", category=["chat", "booking"][number % 2], severity="info")
    assert [record.message for record in monitor.recent(2)] == ["5", "4"]
    assert [record.message for record in monitor.recent(category="chat")] == ["4", "2", "0"]
    assert monitor.recent(severity=Severity.ERROR) == []
    with pytest.raises(ValueError, match="category must be one of 'booking'"):
        monitor.recent(category="weather")
    with pytest.raises(ValueError, match="limit"):
        monitor.recent(-1)


def test_clear_forgets_but_keeps_listeners(virtual_clock: VirtualClock) -> None:
    """`clear` empties records, groups, numbers, rate and alert; listeners stay."""
    monitor, told = ErrorMonitor(), []
    monitor.subscribe(told.append)
    error = ValueError("x")
    for number in range(20):
        monitor.record(ValueError(number), operation="x")
    monitor.record(error, operation="x")
    monitor.clear()
    assert (monitor.recent(), monitor.groups(), monitor.alerting, monitor.error_rate) == ([], [], False, 0.0)
    assert monitor.stats().total == 0
    monitor.record(error, operation="x")
    assert monitor.stats().total == 1
    assert len(told) == 22


def test_groups_tell_kinds_apart() -> None:
    """Errors of one category, operation, type and place are one group; another place or root cause is another."""
    monitor = ErrorMonitor()

    def fails() -> None:
        raise ValueError("x")

    def fails_too() -> None:
        raise ValueError("x")

    for function in (fails, fails, fails_too):
        try:
            function()
        except ValueError as error:
            monitor.record(error, operation="x")
    assert sorted(group.count for group in monitor.groups()) == [1, 2]


def test_nothing_alive_is_kept() -> None:
    """Neither the error nor a local variable of its frames lives on in the monitor."""

    class Thing:
        pass

    monitor = ErrorMonitor()

    def fails() -> weakref.ref[Thing]:
        thing = Thing()
        reference = weakref.ref(thing)
        try:
            raise ValueError("x")
        except ValueError as error:
            monitor.record(error, operation="x")
        return reference

    gc.disable()
    try:
        assert fails()() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("name", hostile.ERRORS)
@pytest.mark.parametrize("wrap", [raised, hostile.chained, lambda error: error], ids=["raised", "cause", "bare"])
def test_hostile_errors_are_recorded(name: str, wrap: Any) -> None:
    """Whatever an error or its cause is like, it is recorded once, stays small, and can be exported."""
    monitor, error = ErrorMonitor(), hostile.ERRORS[name]()
    try:
        error = wrap(error)
    except BaseException:  # what refuses to be raised, is recorded as it is
        pass
    record = monitor.record(error, operation="x", attempts=(FailedAttempt(1, error, None, 0.1),))
    assert monitor.record(error, operation="x") is record
    assert len(record.message) <= 1024
    assert len(record.stacktrace) < 200_000
    assert load_json(monitor.to_json()) == load_json(monitor.to_jsonl()) == [record]
    assert monitor.to_csv()
    assert len(record.causes) <= 8


def test_markers_say_what_could_not_be_had() -> None:
    """Where a text cannot be had a marker stands in its place; the type's name is the real one."""
    monitor = ErrorMonitor()
    assert monitor.record(hostile.Rude(SystemExit(1)), operation="x").message == "<str() failed>"
    assert monitor.record(hostile.Recursing(), operation="x").message == "<str() failed>"
    assert monitor.record(hostile.Hidden("hidden"), operation="x").error_type == "hostile.Hidden"
    assert monitor.record(hostile.Deceiver("x"), operation="x").error_type == "hostile.Deceiver"


@pytest.mark.parametrize("argument", ["operation", "context", "attempts"])
@pytest.mark.parametrize("name", hostile.FACTS)
def test_hostile_facts_are_recorded(argument: str, name: str) -> None:
    """Whatever is handed over as operation, context or attempts, there is a record, and it can be exported."""
    monitor = ErrorMonitor()
    facts: Any = {"operation": "x", argument: hostile.FACTS[name]()}
    record = monitor.record(raised(ValueError("x")), **facts)
    assert load_json(monitor.to_json()) == [record]
    assert "hunter2" not in monitor.to_json()
    assert monitor.to_csv()
    assert len(repr(record.to_dict())) < 50_000
    assert record.attempts >= 1


def test_error_that_records_itself_in_its_text() -> None:
    """An error whose text records errors whose text records errors ends, and is recorded."""
    monitor = ErrorMonitor()

    class Chatty(Exception):  # noqa: N818 - it is a fake
        def __str__(self) -> str:
            monitor.record(Chatty(), operation="x")
            return "chatty"

    record = monitor.record(Chatty(), operation="x")
    assert record.message == "chatty"
    assert monitor.stats().total < 20


def test_very_deep_stack_is_bounded() -> None:
    """Of a very deep traceback the first and the last frames are kept."""
    record = ErrorMonitor().record(raised(ValueError("deep"), 500), operation="x")
    assert record.stacktrace.count("File ") == 64


def test_attempt_errors_are_bounded() -> None:
    """Of very many attempts the first 4 and the last 12 texts are kept, and the number is exact."""
    attempts = tuple(FailedAttempt(number, ValueError(number), 0.1, number) for number in range(1, 101))
    record = ErrorMonitor().record(ValueError("x"), operation="x", attempts=attempts)
    assert record.attempts == 100
    assert [text.split(": ")[1] for text in record.attempt_errors] == [
        *map(str, range(1, 5)), *map(str, range(89, 101)),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        ({"category": "weather"}, "category must be one of"),
        ({"severity": "loud"}, "severity must be one of"),
        ({"outcome": "lost"}, "outcome must be"),
    ],
)
def test_unknown_facts_are_refused(facts: dict[str, Any], says: str) -> None:
    """An unknown category, severity or outcome is refused by name."""
    with pytest.raises(ValueError, match=says):
        ErrorMonitor().record(ValueError(), operation="x", **facts)


def test_what_is_no_error_is_refused() -> None:
    """Something that is no exception is refused with a `TypeError`."""
    with pytest.raises(TypeError, match="error must be an exception, not str"):
        ErrorMonitor().record("boom", operation="x")  # type: ignore[arg-type] # that is the point


@pytest.mark.parametrize("settings", [{"capacity": 0}, {"capacity": 1.5}, {"window": 0}, {"window": -1.0}])
def test_absurd_settings_are_refused(settings: dict[str, Any]) -> None:
    """A setting out of its range is refused with an error that names it."""
    with pytest.raises(ValueError, match=next(iter(settings))):
        ErrorMonitor(**settings)


async def waits(*_: object) -> None:
    """Be a coroutine function, which nobody would await."""


@pytest.mark.parametrize(
    "settings",
    [
        {"capacity": "1000"},
        {"window": "60"},
        {"alert": 10},
        {"redact": 3},
        {"on_alert": 3},
        {"redact": waits},
        {"on_alert": waits},
    ],
)
def test_settings_of_the_wrong_type_are_refused(settings: dict[str, Any]) -> None:
    """A setting of the wrong type, or a function that nobody would await, is a `TypeError` that names it."""
    with pytest.raises(TypeError, match=next(iter(settings))):
        ErrorMonitor(**settings)
    with pytest.raises(TypeError, match="listener"):
        ErrorMonitor().subscribe(waits)


@pytest.mark.parametrize(
    ("make", "kind", "named"),
    [
        (lambda: Redaction(keys=[3]), TypeError, "keys"),  # type: ignore[list-item] - of the wrong type on purpose
        (lambda: Redaction(last_keys=[None]), TypeError, "last_keys"),  # type: ignore[list-item] - of the wrong type on purpose
        (lambda: Redaction(patterns=[print]), TypeError, "patterns"),  # type: ignore[list-item] - of the wrong type on purpose
        (lambda: Redaction(patterns=[re.compile(b"x")]), TypeError, "patterns"),  # type: ignore[list-item] - of the wrong type on purpose
        (lambda: Redaction(patterns=["("]), ValueError, "patterns"),
        (lambda: ErrorMonitor().record(KeyError(), operation="o", category=3), TypeError, "category"),  # type: ignore[arg-type] - of the wrong type on purpose
        (lambda: ErrorMonitor().recent(severity=3), TypeError, "severity"),  # type: ignore[arg-type] - of the wrong type on purpose
        (lambda: ErrorMonitor().capture(print), TypeError, "operation"),  # type: ignore[arg-type] - of the wrong type on purpose
    ],
)
def test_the_wrong_type_and_a_wrong_value_are_told_apart(
    make: Callable[[], object], kind: type[Exception], named: str
) -> None:
    """What a monitor or a redaction cannot use is named: the wrong type a `TypeError`, a wrong value a `ValueError`."""
    with pytest.raises(kind, match=named):
        make()


def test_logging_handler_records_exceptions_only(capsys: pytest.CaptureFixture[str]) -> None:
    """The handler records log records with an exception, by level, and never raises, prints or loops."""
    monitor = ErrorMonitor()
    monitor.subscribe(lambda record: 1 / 0)
    logger = logging.getLogger("shop.checkout")
    logger.setLevel(logging.WARNING)  # whatever level the root has been given meanwhile
    handler = monitor.logging_handler()
    logging.getLogger().addHandler(handler)
    try:
        logger.error("without an exception")
        for level in (logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL):
            try:
                raise ValueError(level)
            except ValueError:
                logger.log(level, "with one", exc_info=True)
        logger.error("rude", exc_info=(hostile.Rude, hostile.Rude(SystemExit()), None))
    finally:
        logging.getLogger().removeHandler(handler)
    records = monitor.recent()
    assert [record.severity.value for record in records] == ["error", "critical", "error", "warning"]
    assert {record.operation for record in records} == {"shop.checkout"}
    assert capsys.readouterr().err == ""


def test_threads_lose_nothing() -> None:
    """Eight threads that record at the same time lose no record and no count."""
    monitor = ErrorMonitor(capacity=100)
    start = threading.Barrier(8)

    def work(name: int) -> None:
        start.wait()
        for number in range(500):
            monitor.record(ValueError(number), operation=f"thread {name}")
            if number % 100 == 0:
                monitor.snapshot()

    threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
    with taking_turns(1e-5):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    stats = monitor.stats()
    assert stats.total == 4000
    assert len(monitor.recent(1000)) + stats.dropped == 4000
    assert all(group.count == 500 for group in monitor.groups())


def test_signal_handlers_may_record() -> None:
    """Errors recorded in signal handlers, while the main thread is recording, neither deadlock nor get lost."""
    run_fresh(record_in_signal_handlers)


def record_in_signal_handlers() -> None:
    """Record in the main thread and in a signal handler."""
    monitor = ErrorMonitor()
    count = 0

    def handler(_: int, __: object) -> None:
        nonlocal count
        count += 1
        monitor.record(ValueError(count), operation="signal")
        monitor.stats()

    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.0005)
    number = 0
    while number < 3000 or not count:
        number += 1
        monitor.record(ValueError(number), operation="main")
    signal.setitimer(signal.ITIMER_REAL, 0)
    assert monitor.stats().total == number + count


def test_finalisers_may_record() -> None:
    """An error recorded by a finaliser, in the middle of anything, is recorded."""
    run_fresh(record_in_finalisers)


def record_in_finalisers() -> None:
    """Record in the main thread and in finalisers."""
    monitor = ErrorMonitor()

    class Dying:
        def __del__(self) -> None:
            monitor.record(ValueError("dying"), operation="finaliser")

    for _ in range(100):
        loop = Dying()
        loop.loop = loop  # type: ignore[attr-defined] # a cycle, for the collector
        monitor.record(ValueError("x"), operation="main")
    del loop
    gc.collect()
    assert monitor.stats().total == 200


def test_only_a_flood_waits_for_the_thread_that_enters_it() -> None:
    """While another thread enters records nobody waits for it, unless more than 10,000 wait: then 0.1 s at most."""
    monitor, waits = ErrorMonitor(), list[float]()

    class Taken:
        def _is_owned(self) -> bool:
            return False

        def acquire(self, blocking: bool, timeout: float) -> bool:
            waits.append(timeout if blocking else 0.0)
            return False

    ledger: Any = monitor._ledger
    lock, ledger._lock = ledger._lock, Taken()
    for number in range(10_003):
        monitor.record(ValueError(number), operation="flood")
    ledger._lock = lock
    assert waits.count(0.1) == 3
    assert waits.count(0.0) == len(waits) - 3
    assert monitor.stats().total == 10_003


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_forked_child_starts_empty() -> None:
    """A forked child starts empty, without listeners, also if the lock was held; the parent keeps what it has."""
    monitor, told = ErrorMonitor(), []
    monitor.subscribe(told.append)
    monitor.record(ValueError("x"), operation="parent")
    with monitor._ledger._lock:
        pid = os.fork()
        if pid == 0:
            ok = monitor.stats().total == 0
            monitor.record(ValueError("y"), operation="child")
            os._exit(0 if ok and monitor.stats().total == 1 and len(told) == 1 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert monitor.stats().total == 1


def test_a_record_is_small() -> None:
    """A typical record, ten frames deep and with a text of its own, takes at most 400 bytes of memory.

    Objects of free-threaded builds are larger, by two words each.
    """
    monitor = ErrorMonitor()
    names = [f"operation {number}" for number in range(40)]
    for name in names:
        monitor.record(raised(ValueError("slot is taken"), 10), operation=name)
    monitor.clear()
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for number in range(1000):
            monitor.record(raised(ValueError(f"slot {number:05d} is taken")), operation=names[number % 40])
        monitor.stats()
        gc.collect()
        kept = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert len(monitor.recent(2000)) == 1000
    assert kept / 1000 < (700 if sysconfig.get_config_var("Py_GIL_DISABLED") else 400)


def test_secrets_are_nowhere_in_the_monitor() -> None:
    """A secret handed over in every way is in no object that can be reached from the monitor, nor in an export."""
    secret = "hunter2-the-secret"
    monitor = ErrorMonitor()
    try:
        try:
            raise KeyError(f"token={secret}")
        except KeyError as error:
            raise ValueError(f"https://me:{secret}@host/?api_key={secret}") from error
    except ValueError as error:
        attempts = (FailedAttempt(1, ConnectionError(f"password={secret}"), None, 1.0),)
        monitor.record(
            error,
            operation="op",
            context={"password": secret, "n": [f"Bearer {secret}"]},
            attempts=attempts,
        )
        del error, attempts
    seen: set[int] = set()
    todo: list[Any] = [monitor.__dict__]
    while todo:
        item = todo.pop()
        if id(item) in seen or isinstance(item, type) or type(item).__name__ in ("module", "function", "code"):
            continue
        seen.add(id(item))
        assert not (isinstance(item, str) and secret in item)
        todo.extend(gc.get_referents(item))
    for text in (
        monitor.to_json(),
        monitor.to_jsonl(),
        monitor.to_csv(),
        repr(monitor.recent()),
        repr(monitor.groups()),
    ):
        assert secret not in text.replace("secret =", "")


def test_watch_under_asyncio_and_trio(virtual_clock: VirtualClock) -> None:
    """`watch` yields a snapshot at once and one an interval, under asyncio and under trio."""
    monitor = ErrorMonitor()

    async def watch() -> list[int]:
        totals: list[int] = []
        async with contextlib.aclosing(monitor.watch(interval=2.0)) as snapshots:
            async for snapshot in snapshots:
                totals.append(snapshot.stats.total)
                monitor.record(ValueError(), operation="x")
                if len(totals) == 3:
                    break
        return totals

    assert asyncio.run(watch()) == [0, 1, 2]
    assert trio.run(watch) == [3, 4, 5]
    assert virtual_clock.sleeps == [2.0] * 4


def test_watch_refuses_an_absurd_interval() -> None:
    """An interval that is not above 0 is refused."""

    async def watch() -> None:
        async for _ in ErrorMonitor().watch(interval=0):
            pass

    with pytest.raises(ValueError, match="interval"):
        asyncio.run(watch())


def test_retried_operation_is_one_record(virtual_clock: VirtualClock) -> None:
    """An operation with three failed attempts is one record with `attempts == 3` and their texts."""
    monitor = ErrorMonitor()

    def fails() -> None:
        raise TransientError("again")

    with pytest.raises(TransientError) as caught:
        with_retry(fails)
    record = monitor.record(caught.value, operation="x", attempts=attempts_of(caught.value))
    assert record.attempts == 3
    assert record.attempt_errors == ("booking_resilience.errors.TransientError: again",) * 3
    assert record.duration == pytest.approx(0.9, rel=0.16)
    assert monitor.stats().total == 1


def test_pipeline_makes_one_record_of_three_failed_attempts(virtual_clock: VirtualClock) -> None:
    """Through a pipeline an operation with three failed attempts is one record, which counts once for the rate."""
    monitor = ErrorMonitor()
    backend = Pipeline(monitor=monitor, category=ErrorCategory.APPWRITE)

    def fails() -> None:
        raise TransientError("again")

    with pytest.raises(TransientError) as caught:
        backend.call("createRow", fails)
    (record,) = monitor.recent()
    assert (record.operation, record.category, record.severity) == ("createRow", "appwrite", "error")
    assert (record.attempts, record.outcome, len(record.attempt_errors)) == (3, "failed", 3)
    assert record.duration == pytest.approx(0.9, rel=0.16)
    assert monitor.error_rate == 1.0
    assert monitor.log_booking_error("createBooking", caught.value, therapist_id="t1") is record
    assert monitor.stats().total == 1


def test_recovered_operation_is_one_warning_outside_the_rate(virtual_clock: VirtualClock) -> None:
    """Operations that recovered are one warning each, count the attempt that succeeded, and raise no alert."""
    monitor = ErrorMonitor()
    backend = Pipeline(monitor=monitor)
    for _ in range(30):
        outcomes = iter([TransientError("first"), TransientError("second"), None])

        def recovers(outcomes: Any = outcomes) -> str:
            error = next(outcomes)
            if error is not None:
                raise error
            return "done"

        assert backend.call("lookUp", recovers) == "done"
    record = monitor.recent()[0]
    assert (record.outcome, record.severity, record.attempts, record.message) == ("recovered", "warning", 3, "second")
    stats = monitor.stats()
    assert (stats.total, stats.recovered, stats.failed, stats.error_rate, stats.alert) == (30, 30, 0, 0.0, None)


def test_one_storm_is_one_alert_its_repeats_and_one_resolution(virtual_clock: VirtualClock) -> None:
    """A storm of 11 minutes is one alert, two repeats and one resolution; silence resolves it at the next look."""
    events: list[AlertEvent] = []
    monitor = ErrorMonitor(on_alert=events.append)
    for number in range(660):
        monitor.record(ValueError(number), operation="x")
        virtual_clock.advance(1)
    virtual_clock.advance(3600)
    assert [event.state for event in events] == ["firing", "repeat", "repeat"]
    assert monitor.stats().alert is None
    assert [event.state for event in events] == ["firing", "repeat", "repeat", "resolved"]
    assert (events[-1].rate, events[-1].peak) == (0.0, 60.0)
    assert (events[1].since, events[3].since) == (events[0].since, events[0].since)


def test_listeners_that_raise_are_counted() -> None:
    """How often a listener or `on_alert` raised is told."""
    monitor = ErrorMonitor(alert=AlertRule(threshold=1, clear_threshold=1), on_alert=lambda _: 1 / 0)
    monitor.subscribe(lambda _: 1 / 0)
    for number in range(3):
        monitor.record(ValueError(number), operation="x")
    assert monitor.listener_errors == 4


def test_nobody_is_told_under_a_lock() -> None:
    """While a listener or `on_alert` is told, other threads record, read and subscribe."""
    done: list[int] = []

    def use(_: object) -> None:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join(60)
        done.append(monitor.stats().total)

    def work() -> None:
        monitor.record(ValueError("from another thread"), operation="y")
        monitor.subscribe(done.append).close()  # type: ignore[arg-type] # never told
        monitor.to_json()
        done.append(0)

    monitor = ErrorMonitor(alert=AlertRule(threshold=0, clear_threshold=1), on_alert=use)
    with monitor.subscribe(lambda record: use(record) if record.operation == "x" else None):
        monitor.record(ValueError("x"), operation="x")
    assert done == [0, 2, 0, 3]


def test_alerts_are_told_in_order_whoever_tells_them(virtual_clock: VirtualClock) -> None:
    """An alert that comes up while another thread still tells of the one before it is told after that."""
    telling, go_on, events = threading.Event(), threading.Event(), []

    def slow(event: AlertEvent) -> None:
        if event.state == "firing":
            telling.set()
            go_on.wait(60)
        events.append(event.state)

    monitor = ErrorMonitor(alert=AlertRule(threshold=0, clear_threshold=1, keep_firing=0), on_alert=slow)
    thread = threading.Thread(target=lambda: monitor.record(ValueError(), operation="x"))
    thread.start()
    assert telling.wait(60)
    virtual_clock.advance(61)
    assert not monitor.alerting  # resolved, and left to the other thread to tell
    assert events == []
    go_on.set()
    thread.join(60)
    assert events == ["firing", "resolved"]


def test_recording_while_the_same_thread_reads_or_enters() -> None:
    """What is recorded by somebody who has interrupted a read of the very same thread is entered after it."""
    monitor = ErrorMonitor()
    records = [monitor.record(ValueError(number), operation="x") for number in range(3)]

    def interrupted(ledger: Any) -> list[ErrorRecord]:
        kept: list[ErrorRecord] = ledger.store.records()
        monitor.record(ValueError("in between"), operation="handler")
        assert monitor.recent() == kept
        return kept

    assert monitor._ledger.read(interrupted) == records[::-1]
    assert [record.operation for record in monitor.recent()] == ["handler", "x", "x", "x"]


def test_interrupt_while_a_record_is_entered(monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupt in the middle of entering a record comes out, and the monitor goes on working."""
    monitor = ErrorMonitor()
    store = monitor._ledger.store

    def interrupted(_: ErrorRecord) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(store, "add", interrupted)
        with pytest.raises(KeyboardInterrupt):
            for number in range(100):
                monitor.record(ValueError(number), operation="x")
    monitor.clear()
    monitor.record(ValueError("y"), operation="y")
    assert monitor.stats().total == 1
    assert [record.operation for record in monitor.recent()] == ["y"]


@needs_timer
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # it may strike in a finaliser, too
def test_interrupt_while_an_alert_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """Wherever an interrupt strikes who records, other threads go on recording and telling of alerts."""
    caplog.set_level(logging.CRITICAL, "booking_resilience.monitor")  # an interrupt can leave a handler's lock held
    told = list[AlertEvent]()
    rule = AlertRule(threshold=0, clear_threshold=1, repeat_every=1e-6)
    monitor = ErrorMonitor(alert=rule, on_alert=told.append, capacity=10)

    def records() -> None:
        for number in range(50):
            monitor.record(ValueError(number), operation="x")

    def records_elsewhere() -> None:
        thread = threading.Thread(target=records, daemon=True)
        thread.start()
        thread.join(60)
        assert not thread.is_alive()

    records()
    with Strikes() as strikes:
        for _ in range(20_000):
            if strikes.during(records, 0.00002, 0.001):
                before = len(told)
                records_elsewhere()
                assert len(told) > before
            if strikes.count == 400:
                break
    assert strikes.count


def test_the_same_error_recorded_by_two_threads_at_once() -> None:
    """An error that two threads record at the same moment is one record, and both get it."""
    both = threading.Barrier(2)

    class Shared(Exception):  # noqa: N818 - it is a fake
        def __str__(self) -> str:
            both.wait(60)
            return "shared"

    monitor, error, records = ErrorMonitor(), Shared(), []
    threads = [threading.Thread(target=lambda: records.append(monitor.record(error, operation="x"))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert records[0] is records[1]
    assert monitor.stats().total == 1


def test_types_without_a_proper_name_are_named() -> None:
    """A type whose module is no text, or is missing, still has a name."""
    odd = type("Odd", (Exception,), {"__module__": 3})
    long = type("L" * 5000, (Exception,), {"__module__": "\ud83d"})
    assert ErrorMonitor().record(odd(), operation="x").error_type == "?.Odd"
    assert len(ErrorMonitor().record(long(), operation="x").error_type) <= 256


def test_attempts_that_cannot_be_read_are_one() -> None:
    """Attempts that are no attempts count as one."""
    record = ErrorMonitor().record(ValueError(), operation="x", attempts=(3, 4))  # type: ignore[arg-type] # that is it
    assert (record.attempts, record.attempt_errors, record.duration) == (1, (), None)


def test_many_kinds_of_errors_are_told_apart() -> None:
    """More exception types than are remembered have their own names all the same."""
    monitor = ErrorMonitor()
    for number in range(1500):
        kind = type(f"Error{number}", (Exception,), {"__module__": "shop"})
        assert monitor.record(kind(), operation="x").error_type == f"shop.Error{number}"


def test_handler_swallows_what_recording_raises(capsys: pytest.CaptureFixture[str]) -> None:
    """Should recording itself fail, who logs is not told, nor is anything printed."""
    monitor = ErrorMonitor()
    record = logging.LogRecord("x", logging.ERROR, __file__, 1, "x", None, (ValueError, "no error", None))  # type: ignore[arg-type] # that is the point
    assert monitor.logging_handler().handle(record)
    assert monitor.stats().total == 0
    assert capsys.readouterr().err == ""


def test_two_monitors_that_listen_to_each_other() -> None:
    """Two monitors whose listeners record into the other end, and each has what the other was told."""
    first, second = ErrorMonitor(), ErrorMonitor()
    first.subscribe(lambda record: second.record(ValueError(record.message), operation="from the first"))
    second.subscribe(lambda record: first.record(ValueError(record.message), operation="from the second"))
    first.record(ValueError("x"), operation="x")
    assert [record.operation for record in first.recent()] == ["from the second", "x"]
    assert [record.operation for record in second.recent()] == ["from the first"]


def test_benchmark_runs() -> None:
    """The benchmark of the monitor runs, and its table has what the targets are about."""
    path = Path(__file__).parent / "benchmarks" / "monitor.py"
    spec = importlib.util.spec_from_file_location("benchmark_of_the_monitor", path)
    assert spec is not None
    assert spec.loader is not None
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    for peer in ("structlog to a stream", "sentry_sdk, null transport"):
        benchmark.CONTENDERS.pop(peer)  # installed or not: they set up the whole process
    table = benchmark.rows(rounds=2, errors=10)
    assert sum(row["target"] is not None for row in table if "target" in row) == 4
    assert all(row["ratio"] > 0 for row in table)


def test_recording_reads_no_file_and_makes_no_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recording opens no file and looks up no source line; that happens when the stack is read."""
    monitor, error = ErrorMonitor(), raised(ValueError("x"), 5)
    with monkeypatch.context() as patch:
        patch.setattr("linecache.getline", lambda *_: 1 / 0)
        patch.setattr("builtins.open", lambda *_: 1 / 0)
        record = monitor.record(error, operation="x", context={"a": 1})
    assert record.stacktrace.count("File ") == 5


def test_stack_of_the_record_is_the_errors_own(virtual_clock: VirtualClock) -> None:
    """Errors that come alternately out of places that share most frames each have their own stack."""
    monitor = ErrorMonitor()

    def first(depth: int) -> None:
        second(depth - 1) if depth else int("x")

    def second(depth: int) -> None:
        first(depth - 1) if depth else int("x")

    def recorded(start: Any, depth: int) -> ErrorRecord:
        try:
            start(depth)
        except ValueError as error:
            record = monitor.record(error, operation="x")
            expected = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
        expected = expected if len(expected) <= 64 else expected[:16] + expected[-48:]
        told = re.findall(r"line \d+, in (?:.*\.)?(\w+)$", record.stacktrace, re.MULTILINE)
        assert told == expected
        assert record.stacktrace.endswith("ValueError: invalid literal for int() with base 10: 'x'")
        return record

    for depth in (0, 1, 2, 5, 1, 0, 70, 5, 2):
        for start in (first, second, first):
            assert recorded(start, depth).function is not None


def test_stacks_are_right_while_code_comes_and_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    """With threads, tables that overflow, and code that comes and goes all the time, every stack is the error's own."""
    monkeypatch.setattr(stacks, "_NODES", 60)
    monitor = ErrorMonitor()
    source = """
def first(n, draw):
    if n == 0: raise ValueError("x")
    return (first if draw.random() < 0.5 else second)(n - 1, draw)
def second(n, draw):
    if n == 0: raise KeyError("y")
    return (first if draw.random() < 0.5 else second)(n - 1, draw)
"""

    def made(number: int) -> dict[str, Any]:
        namespace: dict[str, Any] = {"__name__": f"shop{number}"}
        exec(source, namespace)
        return namespace

    lasting, wrong = [made(number) for number in range(5)], []

    def work(seed: int) -> None:
        draw = random.Random(seed)
        for _ in range(300):
            code = made(draw.randrange(5)) if draw.random() < 0.3 else lasting[draw.randrange(5)]
            try:
                code["first"](draw.randrange(8), draw)
            except (ValueError, KeyError) as error:
                record = monitor.record(error, operation="x")
                if (record._kind.stack, record.error_type) != (
                    stacks.positions_of(error.__traceback__),
                    type(error).__name__,
                ):
                    wrong.append(record)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    with taking_turns():
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []
    assert monitor.stats().total == 1800


def test_fingerprint_knows_neither_lines_nor_folders() -> None:
    """Errors of one kind are one group wherever the code is installed and on whatever line of a function."""
    monitor = ErrorMonitor()
    for filename, lines in (("/srv/a/shop.py", 1), ("/srv/b/shop.py", 40)):
        namespace: dict[str, Any] = {"__name__": "shop"}
        source = "def book(n):\n" + "    n += 0\n" * lines + "    return 1 // n\n"
        exec(compile(source, filename, "exec"), namespace)
        with pytest.raises(ZeroDivisionError), monitor.capture("book"):
            namespace["book"](0)
    assert len({record.fingerprint for record in monitor.recent()}) == 1
    assert [record.file for record in monitor.recent()] == ["/srv/b/shop.py", "/srv/a/shop.py"]


def test_timestamps_are_those_of_the_clock(virtual_clock: VirtualClock) -> None:
    """The timestamp is the moment of the clock that is installed, to the microsecond, aware and in UTC."""
    monitor = ErrorMonitor()
    for _ in range(3):
        assert monitor.record(ValueError(), operation="x").timestamp == virtual_clock.utc_now()
        virtual_clock.advance(12.345678)
    first, last = monitor.groups()[0].first_seen, monitor.groups()[0].last_seen
    assert (last - first).total_seconds() == pytest.approx(24.691356)


def test_timestamps_can_be_frozen() -> None:
    """Under freezegun the timestamp is the frozen moment."""
    script = """
        import freezegun
        from booking_resilience import ErrorMonitor
        monitor = ErrorMonitor()
        with freezegun.freeze_time("2026-02-03 04:05:06.789"):
            record = monitor.record(ValueError(), operation="x")
        print(record.timestamp.isoformat())
    """  # in a process of its own: freezegun looks at every module that is loaded, here at hundreds
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "2026-02-03T04:05:06.789000+00:00"


def test_constant_error_does_not_collect_marks() -> None:
    """An error that is recorded by ever new monitors, or after ever new clearings, does not grow."""
    error = ValueError("constant")
    monitor = ErrorMonitor()
    for _ in range(500):
        ErrorMonitor().record(error, operation="x")
        monitor.clear()
        monitor.record(error, operation="x")
    gc.collect()
    ErrorMonitor().record(error, operation="x")
    assert len(error.__dict__) < 20


def test_own_redaction_holds_for_source_lines() -> None:
    """What the monitor's own redaction takes out is taken out of the source lines in the stack, too."""
    monitor = ErrorMonitor(redact=Redaction(patterns=[r"sesame\w*"]))
    with pytest.raises(ValueError, match="x"), monitor.capture("x"):
        raise ValueError("x", "sesame-open", 'token="hunter2"')
    assert "sesame" not in monitor.recent()[0].stacktrace
    assert "hunter2" not in monitor.recent()[0].stacktrace
    assert "raise ValueError" in monitor.recent()[0].stacktrace


def test_handler_listens_under_no_lock_and_to_others_of_this_library() -> None:
    """The handler has no lock of its own around the listeners, heeds filters, and skips only the monitor's log."""
    monitor = ErrorMonitor()
    handler = monitor.logging_handler()
    monitor.subscribe(lambda _: 1 / 0)
    handler.addFilter(lambda record: record.name != "noisy")
    names = ("booking_resilience.retry", "booking_resilience_shop", "booking_resilience.monitor", "noisy")
    loggers = [logging.getLogger(name) for name in names]
    try:
        for logger in loggers:
            logger.addHandler(handler)
            logger.error("x", exc_info=ValueError(logger.name))
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
    assert [record.operation for record in monitor.recent()] == ["booking_resilience_shop", "booking_resilience.retry"]


def test_active_span_is_noted() -> None:
    """With OpenTelemetry in use and a span active, a record has its IDs; else it has none."""
    assert ErrorMonitor().record(ValueError(), operation="x").trace_id is None
    trace = pytest.importorskip("opentelemetry.sdk.trace")
    tracer = trace.TracerProvider().get_tracer("test")
    with tracer.start_as_current_span("span") as span:
        record = ErrorMonitor().record(ValueError(), operation="x")
    assert record.trace_id == f"{span.get_span_context().trace_id:032x}"
    assert record.span_id == f"{span.get_span_context().span_id:016x}"


def test_span_that_fails_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where OpenTelemetry raises when it is asked for the span, the record has none."""
    trace = pytest.importorskip("opentelemetry.trace")
    monkeypatch.setattr(trace, "get_current_span", lambda: 1 / 0)
    assert ErrorMonitor().record(ValueError(), operation="x").trace_id is None


@pytest.mark.parametrize("elapsed", ["nan", "inf", "-inf", "10**5000", "'long'", "None"])
def test_absurd_duration_is_none(elapsed: str) -> None:
    """A duration that no number in JSON could tell is none, and exports go on."""
    seconds: Any = eval(elapsed, {"nan": float("nan"), "inf": float("inf")})
    monitor = ErrorMonitor()
    error = raised(ValueError("x"))
    record = monitor.record(error, operation="a", attempts=(FailedAttempt(1, error, None, seconds),))
    assert (record.duration, record.attempts) == (None, 1)
    assert load_json(monitor.to_json()) == load_json(monitor.to_jsonl()) == [record]
    assert monitor.to_csv()


def test_failed_attempts_of_a_recovered_operation_are_one_less_than_its_attempts() -> None:
    """Given the failed attempts of an operation that recovered, the one that succeeded is counted, too."""
    monitor = ErrorMonitor()
    error = raised(ConnectionError("second"))
    failed = (FailedAttempt(1, ConnectionError("first"), 0.3, 0.1), FailedAttempt(2, error, 0.6, 0.5))
    record = monitor.record(error, operation="a", severity="warning", attempts=failed, outcome="recovered")
    assert (record.attempts, record.attempt_errors) == (3, ("ConnectionError: first", "ConnectionError: second"))
    assert monitor.record(ConnectionError(), operation="a", attempts=3, outcome="recovered").attempts == 3
    assert monitor.record(ConnectionError(), operation="a", attempts=failed).attempts == 2


def test_what_recovered_is_a_warning_outside_the_rate() -> None:
    """An operation that recovered is a warning outside the rate, also where no severity is given."""
    monitor = ErrorMonitor()
    for number in range(30):
        record = monitor.record(raised(ConnectionError(number)), operation="a", outcome="recovered")
        assert record.severity is Severity.WARNING
    assert (monitor.error_rate, monitor.alerting, monitor.stats().by_severity["warning"]) == (0.0, False, 30)
    given = monitor.record(ConnectionError(), operation="a", severity="info", outcome="recovered")
    assert given.severity is Severity.INFO
    assert monitor.record(raised(ConnectionError(0)), operation="a").severity is Severity.ERROR


@pytest.mark.parametrize("read", ["recent", "groups", "stats", "snapshot", "to_json", "to_jsonl", "to_csv"])
def test_every_read_tells_that_the_alert_is_over(read: str, virtual_clock: VirtualClock) -> None:
    """Silence resolves the alert at the next read, whichever that is."""
    told: list[str] = []
    monitor = ErrorMonitor(on_alert=lambda event: told.append(event.state))
    for number in range(11):
        monitor.log_network_error("a", ConnectionError(number))
    virtual_clock.advance(119.9)
    getattr(monitor, read)()
    assert told == ["firing"]
    virtual_clock.advance(0.1)
    getattr(monitor, read)()
    assert told == ["firing", "resolved"]


def test_alert_that_a_listener_sets_off_is_told() -> None:
    """Errors that a listener records set off the alert, and that is told at once."""
    told: list[str] = []
    monitor = ErrorMonitor(on_alert=lambda event: told.append(event.state))

    def fails(record: ErrorRecord) -> None:
        for number in range(12):
            monitor.log_chat_error("in the listener", ValueError(number))

    with monitor.subscribe(fails):
        monitor.log_chat_error("a", ValueError("x"))
    assert told == ["firing"]
    assert monitor.stats().total == 13


def test_context_that_was_read_can_be_changed() -> None:
    """Who changes a context that he has read changes neither the record nor what is exported."""
    monitor = ErrorMonitor()
    record = monitor.log_chat_error("a", ValueError("x"), rooms=["r1"], user={"id": "u1"})
    record.context["more"] = record.context["rooms"].append(object())
    record.context["user"]["id"] = object()
    assert record.context == {"rooms": ["r1"], "user": {"id": "u1"}}
    assert load_json(monitor.to_json()) == [record]


def again(monitor: ErrorMonitor, error: Exception, times: int) -> None:
    """Raise the same error through a pipeline and through `capture`, so many times each."""

    def fails() -> None:
        raise error

    pipeline = Pipeline(monitor=monitor)
    for _ in range(times):
        with pytest.raises(type(error)), monitor.capture("outer"):
            pipeline.call("inner", fails)
        with pytest.raises(type(error)), monitor.capture("block"):
            raise error


@pytest.mark.parametrize("is_virtual", [True, False])
def test_one_raise_is_one_record(is_virtual: bool, request: pytest.FixtureRequest) -> None:
    """A constant that is raised again in a later call is recorded again; one raise through many is one record."""
    if is_virtual:
        request.getfixturevalue("virtual_clock")
    monitor, error = ErrorMonitor(), ValueError("constant")
    again(monitor, error, 25)
    assert monitor.stats().total == 50
    assert [record.operation for record in monitor.recent(2)] == ["block", "inner"]
    assert monitor.record(error, operation="by hand") is monitor.recent(1)[0]


def test_threads_may_share_a_capture() -> None:
    """One raise through a `capture` that another thread has entered meanwhile is one record."""
    monitor, error = ErrorMonitor(), ValueError("x")
    capture = monitor.capture("shared")
    entered, go_on = threading.Event(), threading.Event()

    def enters() -> None:
        monitor.record(ValueError("another one"), operation="y")
        with capture:
            entered.set()
            go_on.wait(60)

    thread = threading.Thread(target=enters)
    with pytest.raises(ValueError, match="x"), capture:
        try:
            raise error
        finally:
            monitor.record(error, operation="x")
            thread.start()
            entered.wait(60)
    go_on.set()
    thread.join(60)
    assert monitor.stats().total == 2


def test_a_constant_that_recovers_again_is_recorded_again(virtual_clock: VirtualClock) -> None:
    """Each operation that recovers from the same error object is a record; those it nests add none."""
    monitor, error = ErrorMonitor(), TransientError("constant")
    for _ in range(3):
        outcomes = iter([error, None])

        def recovers(outcomes: Any = outcomes) -> None:
            if (found := next(outcomes)) is not None:
                raise found

        Pipeline(monitor=monitor).call("lookUp", recovers)
    assert monitor.stats().recovered == 3


def test_a_record_in_a_call_counts_though_other_calls_follow() -> None:
    """An error recorded inside of a call adds nothing when it comes out of it, whatever was called in between."""
    monitor = ErrorMonitor()
    pipeline = Pipeline(monitor=monitor)

    def fails() -> None:
        try:
            raise ValueError("x")
        except ValueError as error:
            monitor.record(error, operation="by hand")
            pipeline.call("clean up", int)
            raise

    with pytest.raises(ValueError, match="x"):
        pipeline.call("outer", fails)
    assert [record.operation for record in monitor.recent()] == ["by hand"]


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))])
def test_a_copy_is_an_error_of_its_own(copied: Any) -> None:
    """A copy is new to the monitor, also where it lies at the address of an error that is gone; its attributes stay."""
    monitor = ErrorMonitor()
    for number in range(200):
        first = ValueError("first")
        first.slot = number  # type: ignore[attr-defined] # as users do
        monitor.record(first, operation="a")
        second = copied(first)
        del first
        third = copied(second)
        assert third.slot == number
        assert type(third.__dict__) is dict
        monitor.record(third, operation="a")
    assert monitor.stats().total == 400


def test_notes_of_causes_and_members_are_kept() -> None:
    """A cause, and a member of a group, has its notes below its message: redacted, bounded, and in the stack trace."""
    leaf, cause = KeyError("b"), OSError("down")
    leaf.add_note("of booking b-17, password=hunter2")
    cause.add_note("tried twice")
    for number in range(50):
        cause.add_note(f"{number} " + "x" * 100)
    record = ErrorMonitor().record(ExceptionGroup("all", [ValueError("a"), leaf]), operation="x")
    assert record.causes == ("ValueError: a", "KeyError: 'b'\nof booking b-17, password=<redacted>")
    assert "password=<redacted>" in record.stacktrace
    error = RuntimeError("failed")
    error.__cause__ = cause
    (told,) = ErrorMonitor().record(error, operation="x").causes
    assert told.startswith("OSError: down\ntried twice\n0 xxx")
    assert len(told) <= 2048


def test_members_and_notes_are_kept() -> None:
    """Of a group the leaves are causes, of any error the notes are kept: redacted, and a few at most."""
    monitor = ErrorMonitor()
    leaves: list[Exception] = [ConnectionError("slot 1"), ExceptionGroup("inner", [KeyError("token=S3cret")])]
    error = ExceptionGroup("batch", leaves)
    error.add_note("of booking b-17, password=S3cret")
    record = monitor.record(error, operation="x")
    assert record.causes == ("ConnectionError: slot 1", "KeyError: 'token=<redacted>'")
    assert record.notes == ("of booking b-17, password=<redacted>",)
    wide = ExceptionGroup("wide", [ValueError(number) for number in range(1000)])
    for number in range(100):
        wide.add_note(f"note {number}")
    assert len(monitor.record(wide, operation="x").causes) == 8
    assert len(monitor.recent(1)[0].notes) == 16
    assert load_json(monitor.to_json()) == monitor.recent()


def refused(monitor: ErrorMonitor, error: Exception, operation: str) -> ErrorRecord:
    """Record a refusal."""
    return monitor.record(error, operation=operation, outcome="refused", attempts=3)


def test_refusals_are_one_group_for_each_breaker_or_limit() -> None:
    """A refusal has the caller's operation and stack and no attempts; its group has the name of what refused."""
    monitor = ErrorMonitor()
    for name in ("appwrite", "payments"):
        for operation in ("createBooking", "listRooms"):
            record = refused(monitor, CircuitOpenError(name, 3.0), operation)
            assert (record.operation, record.attempts, record.severity) == (operation, 0, "error")
            assert record.function == "refused"
            assert "test_refusals_are_one_group" in record.stacktrace
    assert monitor.error_rate == 4.0
    assert refused(monitor, LimitExceededError("uploads", 1.0), "upload").severity == "warning"
    assert monitor.error_rate == 4.0
    assert monitor.record(ValueError(), operation="x", outcome="fell_back").severity == "warning"
    stats = monitor.stats()
    assert (stats.total, stats.refused, stats.fell_back, stats.failed, stats.unjournaled) == (6, 5, 1, 0, 0)
    groups = {group.operation: group.count for group in monitor.groups() if group.error_type != "ValueError"}
    assert groups == {"appwrite": 2, "payments": 2, "uploads": 1}


def test_the_rate_falls_after_a_clock_that_was_ahead() -> None:
    """Errors of a later clock leave the rate when the clock is back, and the alert ends."""
    monitor = ErrorMonitor(window=30.0, alert=AlertRule(threshold=1, keep_firing=0.0))
    for hours in (5, 3, 0):
        with virtual_time() as clock:
            clock.advance(3600 * hours)
            for number in range(20):
                monitor.record(ValueError(number), operation="x")
            assert (monitor.error_rate, monitor.alerting) == (40.0, True)
            clock.advance(29.0)
            assert monitor.error_rate == 40.0
            clock.advance(1.0)
            assert (monitor.error_rate, monitor.alerting) == (0.0, False)
            for number in range(7):
                monitor.record(ValueError(number), operation="x")
    assert monitor.stats().total == 81


def test_one_value_that_cannot_be_copied_costs_itself() -> None:
    """The other values of a context stay, whatever one of them does."""

    class Lazy(UserDict[str, Any]):
        def __getitem__(self, key: str) -> Any:
            if key == "bad":
                raise RuntimeError("lazy")
            return super().__getitem__(key)

    for bad in (Lazy(first=1, bad=2, last=3), {"first": 1, "bad": hostile.Rude(SystemExit()), "last": 3}):
        record = ErrorMonitor().record(ValueError(), operation="x", context=bad)
        assert (record.context["first"], record.context["last"]) == (1, 3)
        assert "failed>" in record.context["bad"]


def test_what_was_logged_is_kept() -> None:
    """The logging handler keeps the message in the context, redacted; one that cannot be made loses no record."""
    monitor, logger = ErrorMonitor(), logging.getLogger("shop.kept")
    handler = monitor.logging_handler()
    logger.addHandler(handler)
    logger.propagate = False
    try:
        logger.error("booking %s, token=%s", "b-17", "S3cret", exc_info=ValueError("x"))
        logger.error("%d bookings", "no number", exc_info=ValueError("y"))
    finally:
        logger.removeHandler(handler)
    broken, logged = (record.context["log_message"] for record in monitor.recent())
    assert logged == "booking b-17, token=<redacted>"
    assert broken == "<getMessage() failed>"


def test_a_listeners_cancellation_is_its_own() -> None:
    """A listener that raises a cancellation cancels nobody, is logged and counted; an interrupt passes."""

    def cancelled(_: object) -> None:
        raise asyncio.CancelledError

    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    monitor = ErrorMonitor()
    with monitor.subscribe(cancelled):
        monitor.record(ValueError(), operation="x")
    assert monitor.listener_errors == 1
    with monitor.subscribe(interrupted), pytest.raises(KeyboardInterrupt):
        monitor.record(ValueError(), operation="x")
    assert monitor.stats().total == 2


def test_capture_decorates_methods_of_every_kind() -> None:
    """`capture` decorates class and static methods, on either side."""
    monitor = ErrorMonitor()

    class Shop:
        @monitor.capture("over")
        @classmethod
        def over(cls) -> None:
            raise ValueError("x")

        @staticmethod
        @monitor.capture("under")
        def under() -> None:
            raise ValueError("x")

    for call in (Shop.over, Shop.under, Shop().over):
        with pytest.raises(ValueError, match="x"):
            call()
    assert [record.operation for record in monitor.recent()] == ["over", "under", "over"]


def test_capture_refuses_a_class() -> None:
    """`capture` over a class is a TypeError that says what to decorate instead: the class would become a function."""

    class Shop:
        pass

    for kind in (Shop, int, dict):
        with pytest.raises(TypeError, match=r"decorates functions, not <class .*>; decorate the methods of the class"):
            ErrorMonitor().capture("op")(kind)
    with pytest.raises(TypeError, match="decorates functions, not <class 'ValueError'>"):
        ErrorMonitor().capture("op")(ValueError)


def test_a_monitor_says_what_it_holds() -> None:
    """The representation of a monitor tells its numbers, and tells nobody of an alert."""
    monitor = ErrorMonitor()
    monitor.record(ValueError(), operation="x")
    assert repr(monitor) == "<ErrorMonitor: 1 records, 1 errors per minute>"


@pytest.mark.parametrize("kind", [ErrorMonitor, ErrorRecord, Redaction, AlertRule, Severity])
def test_annotations_resolve(kind: type) -> None:
    """`typing.get_type_hints` resolves every annotation of the monitor's public classes."""
    assert typing.get_type_hints(kind) is not None
    for name, member in vars(kind).items():
        if not name.startswith("_") and callable(member):
            typing.get_type_hints(member)
