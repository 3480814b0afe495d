"""What the demo server shows: one monitor, one breaker, one booking flow, and their numbers as plain JSON values.

Nothing here knows of HTTP. `book` and `simulate_retry` are coroutines; all else is over at once.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from booking_flow import AsyncBookingFlow
from booking_resilience import (
    AlertRule,
    BreakerState,
    ErrorCategory,
    ErrorMonitor,
    Pipeline,
    RetryPolicy,
    Severity,
    deadline,
    with_retry_async,
)
from booking_resilience.appwrite import appwrite_breaker

if TYPE_CHECKING:
    from booking_flow import BookingRequest, BookingResult
    from booking_resilience import BookingSuccess, ErrorRecord, MonitorSnapshot, RetryEvent
    from booking_resilience.appwrite import AsyncAppwriteClient

BOOKING_TIME = 8.0
"""Seconds that a booking may take, all steps together; what is not done by then is missing."""
FAILURE_THRESHOLD = 5
SIMULATED_FAILURES = 2
"""Of the retry test: the third attempt, the last, succeeds."""
LISTED_ERRORS = 20
MESSAGE_LENGTH = 300
"""Characters of a message in the list of errors; the whole of it is in the error's details."""


class Tally:
    """Counts, of operations that did not succeed at once, the attempts and how they ended; and what came of bookings.

    It is told of each record on the thread that recorded it, so it does no more than add.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = dict.fromkeys(("operations", "attempts", "recovered", "failed", "bookings", "chats"), 0)

    def take(self, record: ErrorRecord) -> None:
        """Count a record of the monitor."""
        self._add(operations=1, attempts=record.attempts, **{record.outcome: 1})

    async def handle_booking_success(self, _event: BookingSuccess) -> None:
        """Count a chat that would open now: the tally is the flow's chat provider, too."""
        self._add(chats=1)

    def booked(self) -> None:
        """Count a booking that was stored."""
        self._add(bookings=1)

    def counts(self) -> dict[str, int]:
        """Return the counts, all of one moment."""
        with self._lock:
            return dict(self._counts)

    def _add(self, **more: int) -> None:
        with self._lock:
            for name, number in more.items():
                self._counts[name] += number


class Demo:
    """The parts of the demo, made once and shared by all requests.

    Args:
        client: Where the bookings go; its tables must be there.
        cooldown: Seconds that the breaker of bookings and of the failing test stays open.
        alert: When the error rate is worth an alert.
        window: Seconds over which the error rate is taken.
    """

    def __init__(
        self,
        client: AsyncAppwriteClient,
        *,
        cooldown: float = 30.0,
        alert: AlertRule | None = None,
        window: float = 60.0,
    ) -> None:
        self.alert = AlertRule() if alert is None else alert
        self.monitor = ErrorMonitor(alert=self.alert, window=window)
        self.breaker = appwrite_breaker(cooldown=cooldown, failure_threshold=FAILURE_THRESHOLD)
        self.tally = Tally()
        self._cooldown, self._window = cooldown, window
        self._client = client
        self._flow = AsyncBookingFlow(client, monitor=self.monitor, breaker=self.breaker, chat_provider=self.tally)
        self._once = Pipeline(retry=RetryPolicy(max_attempts=1), breaker=self.breaker, monitor=self.monitor)
        self.monitor.subscribe(self.tally.take)

    async def book(self, request: BookingRequest) -> BookingResult:
        """Make a booking; takes `BOOKING_TIME` at most.

        Raises:
            BookingError: If it could not be stored.
        """
        with deadline(BOOKING_TIME):
            result = await self._flow.create_booking(request)
        self.tally.booked()
        return result

    async def aclose(self) -> None:
        """Close the client's connections."""
        await self._client.aclose()

    def simulate_failure(self) -> None:
        """Make one call that fails, through the breaker.

        Raises:
            ConnectionError: The failure.
            CircuitOpenError: If the breaker refuses the call.
        """
        self._once.call("testFail", _unreachable)

    async def simulate_retry(self) -> dict[str, Any]:
        """Call something that fails twice for want of a network and then succeeds; return how that went.

        It passes through no breaker: the network that fails is its own.
        """
        events: list[RetryEvent] = []

        async def flaky() -> None:
            if len(events) < SIMULATED_FAILURES:
                _unreachable()

        await with_retry_async(flaky, operation="testRetry", on_event=events.append)
        last = events[-1]
        if last.error is not None:
            self.monitor.record(
                last.error,
                operation=last.operation,
                category=ErrorCategory.NETWORK,
                severity=Severity.WARNING,
                attempts=last.attempt,
                outcome="recovered",
            )
        return {
            "outcome": last.outcome,
            "attempts": [_attempt(event) for event in events],
            "delays": [event.delay for event in events if event.delay is not None],
            "elapsed": last.elapsed,
        }

    def state(self, snapshot: MonitorSnapshot) -> dict[str, Any]:
        """Return the numbers of the page."""
        stats = snapshot.stats
        alert = stats.alert
        return {
            "rate": snapshot.error_rate,
            "alert": None if alert is None else {"peak": alert.peak, "since": alert.since.isoformat()},
            "total": stats.total,
            "failed": stats.failed,
            "recovered": stats.recovered,
            "dropped": stats.dropped,
            "by_category": stats.by_category,
            "by_severity": stats.by_severity,
            "activity": self.tally.counts(),
            "breaker": self.breaker_state(),
        }

    def breaker_state(self) -> dict[str, Any]:
        """Return what is known of the breaker; `retry_after` 0 means that the next call is a trial."""
        now = self.breaker.snapshot()
        return {
            "name": now.name,
            "state": now.state.value,
            "retry_after": now.retry_after if now.state is BreakerState.OPEN else None,
            "consecutive_failures": now.consecutive_failures,
            "refused": now.refused,
            "trips": now.trips,
            "reason": now.reason,
        }

    def settings(self) -> dict[str, Any]:
        """Return what does not change while the server runs."""
        return {
            "threshold": self.alert.threshold,
            "clear_threshold": self.alert.clear_threshold,
            "window": self._window,
            "cooldown": self._cooldown,
            "failure_threshold": FAILURE_THRESHOLD,
        }

    def details(self, record_id: str) -> dict[str, Any] | None:
        """Return all of one record, its stack included; None if it is not kept (any more)."""
        kept = self.monitor.recent(1_000_000)
        return next((record.to_dict() for record in kept if record.id == record_id), None)


def listed(record: ErrorRecord) -> dict[str, Any]:
    """Return a record as the list of errors has it: short, and without its stack."""
    return {
        "id": record.id,
        "timestamp": record.timestamp.isoformat(),
        "category": record.category,
        "severity": record.severity,
        "operation": record.operation,
        "error_type": record.error_type,
        "message": record.message[:MESSAGE_LENGTH],
        "attempts": record.attempts,
        "outcome": record.outcome,
    }


def _unreachable() -> None:
    raise ConnectionError("Network request failed")


def _attempt(event: RetryEvent) -> dict[str, Any]:
    """Return an attempt as JSON has it; `delay` is what was waited after it, in seconds."""
    succeeded = event.outcome == "recovered"
    return {
        "number": event.attempt,
        "outcome": "succeeded" if succeeded else "failed",
        "error": None if succeeded else f"{type(event.error).__name__}: {event.error}",
        "delay": event.delay,
        "elapsed": event.elapsed,
    }
