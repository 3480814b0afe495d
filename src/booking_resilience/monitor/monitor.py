"""The error monitor: records errors, watches their rate, and lets them be read, listened to and exported."""

from __future__ import annotations

import importlib
import logging
import os
import weakref
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TypeVar

from booking_resilience.callbacks import check_callback
from booking_resilience.checks import check_number, check_type, check_whole
from booking_resilience.events import AlertEvent, ErrorCategory, FailedAttempt, Listener, Subscription
from booking_resilience.monitor.capture import Capture, MonitorContext, MonitorHandler, surroundings
from booking_resilience.monitor.ledger import Ledger
from booking_resilience.monitor.rate import AlertRule
from booking_resilience.monitor.reading import MonitorReader, View
from booking_resilience.monitor.record import ErrorRecord, Outcome, Severity, member_of
from booking_resilience.monitor.redact import DEFAULT_REDACTION, Redaction, Redactor
from booking_resilience.monitor.stacks import attributes_of
from booking_resilience.monitor.telling import Teller

T = TypeVar("T")
_monitors: weakref.WeakSet[ErrorMonitor] = weakref.WeakSet()


class ErrorMonitor(MonitorReader):
    """Keeps what went wrong, bounded and free of secrets. Safe to share between threads and tasks.

    Args:
        capacity: Records kept at most (and as many critical ones beside them); 1 or more.
        window: Seconds over which the error rate is taken; above 0.
        alert: When the rate is worth an alert.
        redact: What takes secrets out: a `Redaction`, a function of key and value that returns what to keep, or None.
        on_alert: Told of each `AlertEvent`, on the thread that caused it; what it raises is logged.
        journal: Where records also go, in the background, for the monitor of all processes: see
            `booking_resilience.journal`.

    Raises:
        TypeError: If a setting is of the wrong type, or a function that would have to be awaited.
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
        journal: Any = None,
    ) -> None:
        check_whole("capacity", capacity)
        check_number("window", window, above=True)
        check_type("alert", alert, isinstance(alert, AlertRule), "an AlertRule")
        if redact is not None and not isinstance(redact, Redaction):
            check_callback("redact", redact, "a Redaction, a function of key and value, or None")
        if on_alert is not None:
            check_callback("on_alert", on_alert, "a function of the event, or None")
        self._key = object()  # what `surroundings` knows it by
        self._capacity, self._window, self._rule, self._redact = capacity, window, alert, redact
        self._on_alert = on_alert
        self._journal: Any = None
        if journal is not None:
            self._journal = importlib.import_module("booking_resilience.journal.writer").writer_of(journal)
            self._journal.add_owner(self)
        self._begin()
        _monitors.add(self)

    def _begin(self) -> None:
        """Start afresh, without listeners: also what a forked child does."""
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
        """Record an error; an object that was recorded already, and not raised in a new call since, keeps its record.

        Args:
            error: What was raised.
            operation: What was being done.
            category: What part of the application it belongs to.
            severity: How bad it is; `warning` in place of `error` if it recovered, fell back or met a limit.
            context: What is known about the operation; copied and redacted.
            attempts: How many attempts were made, or the failed ones, as `attempts_of` gives them; default 1, always
                0 if the call was refused.
            outcome: `failed`, `recovered` if a later attempt succeeded, `refused` if a breaker or limit allowed no
                attempt, `fell_back` if a fallback took the place of the result.

        Raises:
            TypeError: If `error` isn't an exception.
            ValueError: If category, severity or outcome is unknown.
        """
        ledger = self._ledger
        try:
            attributes = attributes_of(error)
        except TypeError:
            raise TypeError(f"error must be an exception, not {type(error).__name__}") from None
        if type(attributes) is not dict and (known := ledger.known(error, attributes)) is not None:
            return known
        around = surroundings.get()
        outer = None if around is None else around.brings.get(self._key)
        made = ledger.build(error, attributes, operation, category, severity, outer, context, attempts, outcome)
        if (record := ledger.mark(error, made)) is not made:
            return record
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
        """Return a context manager (`with`, `async with`) and decorator that records an exception and lets it pass.

        Cancellation, interrupts and exits pass unrecorded.
        """
        return Capture(
            self.record, operation, member_of(ErrorCategory, category), member_of(Severity, severity), context
        )

    def context(self, **values: Any) -> MonitorContext:
        """Return a context manager whose values join the context of every record that this monitor makes inside.

        It also covers tasks and threads that inherit the block's context variables. An inner block's values win over
        an outer one's, and a record's own over both.
        """
        return MonitorContext(self._key, values)

    def logging_handler(self) -> logging.Handler:
        """Return a handler that records log records with an exception; the operation is the logger's name."""
        return MonitorHandler(self.record)

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
    def listener_errors(self) -> int:
        """How often a listener or `on_alert` has raised."""
        return self._teller.raised

    def flush(self, timeout: float = 2.0) -> bool:
        """Wait until the journal has everything that was recorded so far; tell whether it has. True without a journal.

        Args:
            timeout: Seconds to wait at most; 0 or more.

        Raises:
            ValueError: If `timeout` is below 0.
        """
        check_number("timeout", timeout)
        return self._journal is None or bool(self._journal.flush(timeout))

    def subscribe(self, listener: Listener[ErrorRecord]) -> Subscription:
        """Call the listener with each `ErrorRecord`, on the thread that recorded it, until the subscription is closed.

        It runs under no lock. What it records itself reaches no listener, so that nothing goes round in circles. What
        it raises is logged.
        """
        return self._teller.subscribe(listener)

    def clear(self) -> None:
        """Forget records, groups, numbers, rate and alert; listeners stay."""
        self._ledger = Ledger(self._capacity, self._window, self._rule, self._redact, self._journal)

    def __reduce__(self) -> NoReturn:
        raise TypeError("an ErrorMonitor can't be copied or pickled: each copy would count by itself")

    def __repr__(self) -> str:
        stats = self._ledger.read(Ledger.stats)
        alert = ", alerting" if stats.alert else ""
        return f"<ErrorMonitor: {stats.total} records, {stats.error_rate:g} errors per minute{alert}>"

    def _take_settings(self, other: ErrorMonitor) -> None:
        """Take over another monitor's settings; records, and an alert that fires, stay."""
        self._capacity, self._window, self._rule = other._capacity, other._window, other._rule
        self._ledger.read(lambda ledger: ledger.take_settings(other._capacity, other._window, other._rule))

    def _read(self, what: Callable[[View], T]) -> T:
        ledger = self._ledger
        found = ledger.read(what)
        self._teller.tell(ledger.alerts, None)
        return found


def _after_fork() -> None:
    for monitor in tuple(_monitors):
        monitor._begin()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
