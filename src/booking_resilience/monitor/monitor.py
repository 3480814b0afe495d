"""The error monitor: records errors, watches their rate, and lets them be read, listened to and exported."""

from __future__ import annotations

import os
import weakref
from typing import TYPE_CHECKING, Any, TypeVar

from booking_resilience import clock
from booking_resilience.checks import check, is_positive, is_whole
from booking_resilience.events import ErrorCategory
from booking_resilience.monitor import export as exports
from booking_resilience.monitor.build import member_of
from booking_resilience.monitor.capture import Capture
from booking_resilience.monitor.files import check_suffix, write_file
from booking_resilience.monitor.ledger import Ledger
from booking_resilience.monitor.logs import MonitorHandler
from booking_resilience.monitor.marks import MANY, Mark, attributes_of, settle
from booking_resilience.monitor.rate import AlertRule
from booking_resilience.monitor.record import Severity
from booking_resilience.monitor.redact import DEFAULT_REDACTION
from booking_resilience.monitor.stats import ErrorStats, MonitorSnapshot
from booking_resilience.monitor.store import RecordStore
from booking_resilience.monitor.telling import Teller

if TYPE_CHECKING:
    import logging
    from collections.abc import AsyncGenerator, Callable, Mapping

    from booking_resilience.events import AlertEvent, FailedAttempt, Listener, Subscription
    from booking_resilience.monitor.record import ErrorRecord, Outcome
    from booking_resilience.monitor.redact import Redactor
    from booking_resilience.monitor.store import ErrorGroup

T = TypeVar("T")
_SHOWN = 50
_monitors: weakref.WeakSet[ErrorMonitor] = weakref.WeakSet()


class ErrorMonitor:
    """Keeps what went wrong, bounded and free of secrets. Safe to share between threads and tasks.

    Args:
        capacity: Records kept at most (and as many critical ones beside them); 1 or more.
        window: Seconds over which the error rate is taken; above 0.
        alert: When the rate is worth an alert.
        redact: What takes secrets out: a `Redaction`, a function of key and value that returns the value to keep, or
            None for nothing.
        on_alert: Told of each `AlertEvent`, on the thread that caused it; what it raises is logged.

    Raises:
        ValueError: If a setting is out of its range.

    >>> monitor = ErrorMonitor()
    >>> record = monitor.log_booking_error("createBooking", KeyError("slot"), therapist_id="t1")
    >>> record.category.value, record.context["therapist_id"], monitor.error_rate
    ('booking', 't1', 1.0)
    """

    def __init__(
        self,
        *,
        capacity: int = 1000,
        window: float = 60.0,
        alert: AlertRule = AlertRule(),  # noqa: B008 - a frozen value
        redact: Redactor = DEFAULT_REDACTION,
        on_alert: Listener[AlertEvent] | None = None,
    ) -> None:
        check("capacity", capacity, is_whole(capacity), "a whole number, 1 or more")
        check("window", window, is_positive(window), "a finite number above 0")
        check("alert", alert, isinstance(alert, AlertRule), "an AlertRule")
        check(
            "redact",
            redact,
            redact is None or callable(redact) or hasattr(redact, "clean"),
            "a Redaction, a function or None",
        )
        check("on_alert", on_alert, on_alert is None or callable(on_alert), "a function of the event, or None")
        self._capacity, self._window, self._rule, self._redact = capacity, window, alert, redact
        self._on_alert = on_alert
        self._begin()
        _monitors.add(self)

    def _begin(self) -> None:
        """Be as new, and without listeners: also what a forked child does."""
        self._teller = Teller(self._on_alert)
        self.clear()

    def record(
        self,
        error: BaseException,
        *,
        operation: str,
        category: ErrorCategory | str = ErrorCategory.NETWORK,
        severity: Severity | str = Severity.ERROR,
        context: Mapping[str, Any] | None = None,
        attempts: int | tuple[FailedAttempt, ...] | None = None,
        outcome: Outcome = "failed",
    ) -> ErrorRecord:
        """Record an error; the same object again returns the record that was made of it first.

        Args:
            error: What was raised.
            operation: What was being done.
            category: What part of the application it belongs to.
            severity: How bad it is; `warning` in place of `error` if it recovered.
            context: What is known about the operation; copied and redacted.
            attempts: How many attempts were made, or the failed ones, as `attempts_of` gives them; default 1.
            outcome: `failed`; `recovered` if a later attempt succeeded; `refused` if no attempt was made; `fell_back`.

        Raises:
            TypeError: If `error` is no exception.
            ValueError: If category, severity or outcome is unknown.
        """
        ledger = self._ledger
        try:
            attributes = attributes_of(error)
        except TypeError:
            raise TypeError(f"error must be an exception, not {type(error).__name__}") from None
        mark = attributes.get(ledger.key)
        if mark is not None and type(mark) is Mark and mark.owner == id(error):
            return mark.record
        record = ledger.build(error, operation, category, severity, context, attempts, outcome)
        mark = Mark()
        mark.owner, mark.record = id(error), record
        if attributes.setdefault(ledger.key, mark) is not mark or len(attributes) > MANY:
            other = settle(attributes, ledger.key, mark)
            if other is not record:
                return other
        ledger.put(record)
        if ledger.alerts or self._teller.listeners:
            self._teller.tell(ledger.alerts, record)
        return record

    def capture(
        self,
        operation: str,
        *,
        category: ErrorCategory | str = ErrorCategory.NETWORK,
        severity: Severity | str = Severity.ERROR,
        **context: Any,
    ) -> Capture:
        """Return a context manager (`with`, `async with`) and decorator that records what comes out, and lets it.

        Cancellation, interrupts and exits pass unrecorded.
        """
        return Capture(self, operation, member_of(ErrorCategory, category), member_of(Severity, severity), context)

    def log_booking_error(self, operation: str, error: BaseException, /, **context: Any) -> ErrorRecord:
        """Record an error of the category `booking`; every keyword is context."""
        return self.record(error, operation=operation, category=ErrorCategory.BOOKING, context=context)

    def log_chat_error(self, operation: str, error: BaseException, /, **context: Any) -> ErrorRecord:
        """Record an error of the category `chat`; every keyword is context."""
        return self.record(error, operation=operation, category=ErrorCategory.CHAT, context=context)

    def log_payment_error(self, operation: str, error: BaseException, /, **context: Any) -> ErrorRecord:
        """Record an error of the category `payment`; every keyword is context."""
        return self.record(error, operation=operation, category=ErrorCategory.PAYMENT, context=context)

    def log_appwrite_error(self, operation: str, error: BaseException, /, **context: Any) -> ErrorRecord:
        """Record an error of the category `appwrite`; every keyword is context."""
        return self.record(error, operation=operation, category=ErrorCategory.APPWRITE, context=context)

    def log_network_error(self, operation: str, error: BaseException, /, **context: Any) -> ErrorRecord:
        """Record an error of the category `network`; every keyword is context."""
        return self.record(error, operation=operation, category=ErrorCategory.NETWORK, context=context)

    @property
    def error_rate(self) -> float:
        """Errors and critical errors per minute, over the window."""
        return self.stats().error_rate

    @property
    def alerting(self) -> bool:
        """Whether the alert fires."""
        return self.stats().alert is not None

    @property
    def listener_errors(self) -> int:
        """How often a listener or `on_alert` has raised."""
        return self._teller.raised

    def stats(self) -> ErrorStats:
        """Return the numbers."""
        ledger = self._ledger
        stats = ledger.stats()
        self._teller.tell(ledger.alerts, None)
        return stats

    def recent(
        self,
        limit: int = 50,
        *,
        category: ErrorCategory | str | None = None,
        severity: Severity | str | None = None,
    ) -> list[ErrorRecord]:
        """Return the newest records that are kept, newest first; of one category or severity, if it is given.

        Raises:
            ValueError: If `limit` is below 0, or category or severity is unknown.
        """
        check("limit", limit, is_whole(limit, 0), "a whole number, 0 or more")
        category = None if category is None else member_of(ErrorCategory, category)
        severity = None if severity is None else member_of(Severity, severity)
        return [
            record
            for record in self._look(RecordStore.recent)
            if (category is None or record.category is category) and (severity is None or record.severity is severity)
        ][:limit]

    def groups(self, limit: int = 20) -> list[ErrorGroup]:
        """Return the groups, the one seen last first.

        Raises:
            ValueError: If `limit` is below 0.
        """
        check("limit", limit, is_whole(limit, 0), "a whole number, 0 or more")
        return self._look(RecordStore.groups)[:limit]

    def snapshot(self) -> MonitorSnapshot:
        """Return what a dashboard shows."""
        stats, _, records = self._overview()
        return MonitorSnapshot(stats, records[:_SHOWN], stats.error_rate, stats.alert is not None)

    async def watch(self, interval: float = 1.0) -> AsyncGenerator[MonitorSnapshot, None]:
        """Yield a snapshot now and every `interval` seconds, under asyncio or trio.

        Raises:
            ValueError: If `interval` is not above 0.
        """
        check("interval", interval, is_positive(interval), "a finite number above 0")
        while True:
            yield self.snapshot()
            await clock.sleep_async(interval)

    def subscribe(self, listener: Listener[ErrorRecord]) -> Subscription:
        """Have the listener told of each record, on the thread that recorded it, until the subscription is closed.

        It is called under no lock; what it records itself is not told to anybody, so that nothing goes round in
        circles; what it raises is logged.
        """
        return self._teller.subscribe(listener)

    def logging_handler(self) -> logging.Handler:
        """Return a handler that records what is logged with an exception; the operation is the logger's name."""
        return MonitorHandler(self)

    def clear(self) -> None:
        """Forget records, groups, numbers, rate and alert; listeners stay."""
        self._ledger = Ledger(self._capacity, self._window, self._rule, self._redact)

    def to_json(self) -> str:
        """Return everything that is kept as a JSON document."""
        return exports.to_json(*self._exported())

    def to_jsonl(self) -> str:
        """Return everything that is kept as JSON Lines."""
        return exports.to_jsonl(*self._exported())

    def to_csv(self) -> str:
        """Return the records that are kept as CSV."""
        return exports.to_csv(self._exported()[1])

    def export(self, path: str | os.PathLike[str]) -> None:
        """Write everything that is kept to a file, all or nothing, readable by its owner only.

        Raises:
            ValueError: If the path ends in none of .json, .jsonl, .csv.
            OSError: If the file cannot be written; an old one stays whole.
        """
        make = {".json": self.to_json, ".jsonl": self.to_jsonl, ".csv": self.to_csv}[check_suffix(path)]
        write_file(path, make())

    async def export_async(self, path: str | os.PathLike[str]) -> None:
        """Do as `export` in a worker thread, under asyncio or trio."""
        check_suffix(path)
        if clock.in_trio():
            import trio

            await trio.to_thread.run_sync(self.export, path)
        else:
            import asyncio

            await asyncio.to_thread(self.export, path)

    def _look(self, what: Callable[[RecordStore], T]) -> T:
        """Return what there is to read; a read tells of the alert, too."""
        ledger = self._ledger
        found = ledger.look(what)
        self._teller.tell(ledger.alerts, None)
        return found

    def _overview(self) -> tuple[ErrorStats, list[ErrorGroup], list[ErrorRecord]]:
        ledger = self._ledger
        overview = ledger.overview()
        self._teller.tell(ledger.alerts, None)
        return overview

    def _exported(self) -> tuple[dict[str, Any], list[ErrorRecord]]:
        """Return the head of an export, and its records."""
        stats, groups, records = self._overview()
        return exports.head_of(clock.utc_now(), self._window, stats, groups), records


def _after_fork() -> None:
    for monitor in tuple(_monitors):
        monitor._begin()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
