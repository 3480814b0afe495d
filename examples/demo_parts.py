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
    from booking_resilience.appwrite import AppwriteClient, AsyncAppwriteClient
    from demo_durable import KeptBookings

BOOKING_TIME = 8.0
"""Seconds that a booking may take, all steps together; steps not done by then are missing."""
FAILURE_THRESHOLD = 5
SIMULATED_FAILURES = 2
"""Of the retry test: the third attempt, the last, succeeds."""
LISTED_ERRORS = 20
MESSAGE_LENGTH = 300
"""Characters of a message in the list of errors; an error's details have all of it."""


class Tally:
    """Counts the attempts and outcomes of operations that failed at first, and the bookings.

    The monitor calls it on the thread that recorded the error, so it only adds.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = dict.fromkeys(
            ("operations", "attempts", "recovered", "failed", "refused", "fell_back", "bookings", "chats"), 0
        )

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
        """Return a consistent copy of the counts."""
        with self._lock:
            return dict(self._counts)

    def _add(self, **more: int) -> None:
        with self._lock:
            for name, number in more.items():
                self._counts[name] += number


class Demo:
    """The parts of the demo, made once and shared by all requests.

    Args:
        client: Where the bookings go; its tables must exist.
        cooldown: Seconds that the breaker of bookings and of the failing test stays open.
        alert: When the error rate raises an alert.
        window: Seconds over which the error rate is measured.
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
        self.kept: KeptBookings | None = None

    def keep_bookings(self, path: str, client: AppwriteClient, **settings: Any) -> KeptBookings:
        """Keep bookings in a file from now on, until they are stored; its `durable` is to be started.

        Args:
            path: The SQLite file.
            client: Where the bookings go.
            settings: Of `Durable`.
        """
        from demo_durable import KeptBookings  # needs the extra `durable`

        self.kept = KeptBookings(path, client, self.breaker, self.monitor, **settings)
        return self.kept

    async def book(self, request: BookingRequest) -> BookingResult:
        """Make a booking; takes `BOOKING_TIME` at most.

        Raises:
            BookingError: If it couldn't be stored.
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
            CircuitOpenError: If the breaker rejects the call.
        """
        self._once.call("testFail", _unreachable)

    async def simulate_retry(self) -> dict[str, Any]:
        """Call something that fails twice with a network error and then succeeds; return how that went.

        It doesn't go through the breaker, because the simulated network is not the backend's.
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
        """Return the breaker's state; `retry_after` 0 means that the next call is a trial."""
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
        """Return what stays the same while the server runs."""
        return {
            "threshold": self.alert.threshold,
            "clear_threshold": self.alert.clear_threshold,
            "window": self._window,
            "cooldown": self._cooldown,
            "failure_threshold": FAILURE_THRESHOLD,
        }

    def details(self, record_id: str) -> dict[str, Any] | None:
        """Return all of one record, including its stack; None if it isn't (or is no longer) kept."""
        kept = self.monitor.recent(1_000_000)
        return next((record.to_dict() for record in kept if record.id == record_id), None)


def listed(record: ErrorRecord) -> dict[str, Any]:
    """Return a record for the list of errors: short, and without its stack."""
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
    """Return an attempt as JSON values; `delay` is the pause after it, in seconds."""
    succeeded = event.outcome == "recovered"
    return {
        "number": event.attempt,
        "outcome": "succeeded" if succeeded else "failed",
        "error": None if succeeded else f"{type(event.error).__name__}: {event.error}",
        "delay": event.delay,
        "elapsed": event.elapsed,
    }
