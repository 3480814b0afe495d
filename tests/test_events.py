"""Events: what happened, as frozen values, and how listeners are told."""

from __future__ import annotations

import dataclasses
import logging
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from booking_resilience import (
    CircuitBreaker,
    CircuitOpenError,
    FailedAttempt,
    Listener,
    RetryBudget,
    RetryEvent,
    RetryPolicy,
    attempts_of,
    deadline,
    with_retry,
)
from booking_resilience.events import AlertEvent, BreakerEvent, BreakerState, Subscription, notify
from booking_resilience.testing import VirtualClock
from drivers import EXACT, Script

logger = logging.getLogger("booking_resilience.test")


def told(*steps: Any, policy: RetryPolicy = EXACT) -> list[RetryEvent]:
    """Return the events of an operation."""
    events: list[RetryEvent] = []
    try:
        with_retry(Script(*steps), policy=policy, operation="op", on_event=events.append)
    except Exception:
        pass
    return events


def test_retry_events_are_as_the_design_has_them(virtual_clock: VirtualClock) -> None:
    """An event has operation, attempt, outcome, reason, error, delay and elapsed, in this order, and is frozen."""
    error = ConnectionError("x")
    (first, second) = told(error, ValueError("y"))
    assert first == RetryEvent("op", 1, "retrying", None, error, 0.3, 0.0)
    assert (second.attempt, second.outcome, second.reason, second.delay) == (2, "gave_up", "not_transient", None)
    assert [field.name for field in dataclasses.fields(RetryEvent)] == [
        "operation", "attempt", "outcome", "reason", "error", "delay", "elapsed",
    ]  # fmt: skip
    with pytest.raises(dataclasses.FrozenInstanceError):
        first.attempt = 2  # type: ignore[misc] # that is the point
    assert pickle.loads(pickle.dumps(second)).reason == "not_transient"


@pytest.mark.parametrize(
    ("reason", "steps", "policy"),
    [
        ("attempts", [ConnectionError()], RetryPolicy()),
        ("deadline", [ConnectionError()], RetryPolicy(deadline=0.1)),
        ("budget", [ConnectionError()], RetryPolicy(budget=RetryBudget(initial=0))),
        ("not_transient", [ValueError()], RetryPolicy()),
        ("circuit_open", [CircuitOpenError("b", 1.0)], RetryPolicy(retry_on=Exception)),
    ],
)
def test_every_reason_of_giving_up(
    reason: str, steps: list[Any], policy: RetryPolicy, virtual_clock: VirtualClock
) -> None:
    """The last event of an operation that gave up says why, with no delay; only that one has a reason."""
    *before, last = told(*steps, policy=policy)
    assert (last.outcome, last.reason, last.delay, last.error) == ("gave_up", reason, None, steps[-1])
    assert {(event.outcome, event.reason) for event in before} <= {("retrying", None)}


def test_success_at_once_tells_nothing() -> None:
    """An operation that succeeds at its first attempt makes no event."""
    assert told(7) == []


def test_failed_attempts_are_values(virtual_clock: VirtualClock) -> None:
    """`FailedAttempt` has number, error, delay and elapsed, in this order, and is frozen."""
    error = ValueError("x")
    with pytest.raises(ValueError, match="x"):
        with_retry(Script(error))
    (attempt,) = attempts_of(error)
    assert attempt == FailedAttempt(1, error, None, 0.0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        attempt.number = 2  # type: ignore[misc] # that is the point
    assert attempts_of(ValueError()) == ()


def test_the_event_of_no_time(virtual_clock: VirtualClock) -> None:
    """If the time was over before the first attempt, the event's attempt is 0."""
    with deadline(0):
        (event,) = told(1)
    assert (event.attempt, event.outcome, event.reason, event.elapsed) == (0, "gave_up", "deadline", 0.0)


def test_listeners_hear_an_event_before_the_sleep(virtual_clock: VirtualClock) -> None:
    """A retry is told before it is slept, with the delay that will be slept."""
    heard: list[tuple[float | None, float]] = []
    with_retry(
        Script(ConnectionError(), 1),
        policy=EXACT,
        on_event=lambda event: heard.append((event.delay, virtual_clock.now())),
    )
    assert heard == [(0.3, 0.0), (None, 0.3)]


def test_notify_goes_on_after_one_that_raises(caplog: pytest.LogCaptureFixture) -> None:
    """Every listener is told; one that raises is logged, without the error that it was told of, and counted."""
    heard: list[str] = []

    def bad(_: str) -> None:
        raise RuntimeError("listener is broken")

    try:
        raise ConnectionError("hunter2")
    except ConnectionError:
        assert notify([heard.append, bad, heard.append], "event", logger) == 1
    assert heard == ["event", "event"]
    assert "listener is broken" in caplog.text
    assert "hunter2" not in caplog.text


def test_interrupts_in_a_listener_pass() -> None:
    """What is no `Exception` is not a listener's error: it passes."""

    def interrupted(_: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        notify([interrupted], "event", logger)


def test_a_logging_handler_that_raises_changes_nothing(virtual_clock: VirtualClock) -> None:
    """Neither a retry's log nor that of a broken listener can change how an operation ends."""

    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise RuntimeError("handler is broken")

    handler, root = Broken(), logging.getLogger("booking_resilience")
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        error = ConnectionError("x")
        with pytest.raises(ConnectionError) as caught:
            with_retry(Script(error), on_event=lambda _: 1 / 0)
        assert caught.value is error
        assert with_retry(Script(ConnectionError(), 7), on_event=lambda _: 1 / 0) == 7
    finally:
        root.removeHandler(handler)
        root.setLevel(logging.NOTSET)


def test_nothing_is_configured() -> None:
    """The library's logger has a `NullHandler`, no level, and hands on to the application's."""
    root = logging.getLogger("booking_resilience")
    assert [type(handler) for handler in root.handlers] == [logging.NullHandler]
    assert (root.level, root.propagate) == (logging.NOTSET, True)


def test_the_facts_are_extra_fields(virtual_clock: VirtualClock, caplog: pytest.LogCaptureFixture) -> None:
    """A retry is `INFO`, a recovery, too, giving up `WARNING`; the facts are fields, the error's text stays out.

    A success at the first attempt logs nothing.
    """
    with caplog.at_level(logging.DEBUG, "booking_resilience"):
        told(1)
        told(ConnectionError("hunter2"), 1)
        told(ValueError("hunter2"))
    facts: list[Any] = caplog.records
    assert [(item.name, item.levelname, item.outcome, item.attempt, item.reason, item.delay) for item in facts] == [
        ("booking_resilience.retry", "INFO", "retrying", 1, None, 0.3),
        ("booking_resilience.retry", "INFO", "recovered", 2, None, None),
        ("booking_resilience.retry", "WARNING", "gave_up", 1, "not_transient", None),
    ]
    assert [item.error_type for item in facts] == ["ConnectionError", "ConnectionError", "ValueError"]
    assert {item.operation for item in facts} == {"op"}
    assert "hunter2" not in caplog.text


def test_a_subscription_is_given_up_once(virtual_clock: VirtualClock) -> None:
    """Closing a subscription twice is harmless, and its block closes it."""
    closed: list[int] = []
    subscription = Subscription(lambda: closed.append(1))
    with subscription:
        assert closed == []
    subscription.close()
    assert closed == [1]
    breaker, heard = CircuitBreaker("b", failure_threshold=1), []
    with breaker.subscribe(heard.append):
        breaker.acquire().failure()
    breaker.reset()
    assert heard == [BreakerEvent("b", BreakerState.CLOSED, BreakerState.OPEN, heard[0].reason)]


def test_other_events_are_frozen() -> None:
    """The events of breakers and alerts are frozen values, too."""
    for kind in (BreakerEvent, AlertEvent):
        assert kind.__dataclass_params__.frozen
        assert "__dict__" not in dir(kind)


def test_listener_is_a_type_at_run_time_too() -> None:
    """An annotation `Listener[RetryEvent]` may be evaluated, as it is where annotations are not postponed."""
    assert Listener[RetryEvent] == Callable[[RetryEvent], object]
