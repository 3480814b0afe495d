"""The error monitor: records errors, watches their rate, and lets them be read, listened to and exported."""

from __future__ import annotations

import functools
import os
import weakref
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any, TypeVar

from booking_resilience import clock
from booking_resilience.callbacks import check_callback
from booking_resilience.checks import check_number, check_type, check_whole
from booking_resilience.events import AlertEvent, ErrorCategory, FailedAttempt, Listener, Subscription
from booking_resilience.monitor import export as exports
from booking_resilience.monitor.context import surroundings
from booking_resilience.monitor.ledger import Ledger
from booking_resilience.monitor.rate import AlertRule
from booking_resilience.monitor.record import (
    ErrorRecord,
    ErrorStats,
    MonitorSnapshot,
    Outcome,
    Severity,
    member_of,
    with_context,
)  # fmt: skip
from booking_resilience.monitor.recorder import Recorder
from booking_resilience.monitor.redact import DEFAULT_REDACTION, Cleaner, Redaction, Redactor
from booking_resilience.monitor.stacks import attributes_of
from booking_resilience.monitor.store import ErrorGroup, RecordStore
from booking_resilience.monitor.telling import Teller

T = TypeVar("T")
_SHOWN = 50
_monitors: weakref.WeakSet[ErrorMonitor] = weakref.WeakSet()


class ErrorMonitor(Recorder):
    """Keeps what went wrong, bounded and free of secrets. Safe to share between threads and tasks.

    Args:
        capacity: Records kept at most (and as many critical ones beside them); 1 or more.
        window: Seconds over which the error rate is taken; above 0.
        alert: When the rate is worth an alert.
        redact: What takes secrets out: a `Redaction`, a function of key and value that returns the value to keep, or
            None for nothing.
        on_alert: Told of each `AlertEvent`, on the thread that caused it; what it raises is logged.

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
    ) -> None:
        check_whole("capacity", capacity)
        check_number("window", window, above=True)
        check_type("alert", alert, isinstance(alert, AlertRule), "an AlertRule")
        if redact is not None and not isinstance(redact, Redaction):
            check_callback("redact", redact, "a Redaction, a function of key and value, or None")
        if on_alert is not None:
            check_callback("on_alert", on_alert, "a function of the event, or None")
        self._capacity, self._window, self._rule, self._redact, self._on_alert = (
            capacity,
            window,
            alert,
            redact,
            on_alert,
        )
        self._key = object()  # what `surroundings` knows it by
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
        """Record an error; an object that was recorded already, and not raised in a new call since, has its record.

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
            TypeError: If `error` is no exception.
            ValueError: If category, severity or outcome is unknown.
        """
        ledger = self._ledger
        try:
            attributes = attributes_of(error)
        except TypeError:
            raise TypeError(f"error must be an exception, not {type(error).__name__}") from None
        if type(attributes) is not dict and (known := ledger.known(error, attributes)) is not None:
            return known
        made = ledger.build(error, attributes, operation, category, severity, context, attempts, outcome)
        if (around := surroundings.get()) is not None and (values := around.get(self._key)):
            made = with_context(made, Cleaner(self._redact).context(values))
        if (record := ledger.mark(error, made)) is not made:
            return record
        ledger.put(record)
        if ledger.alerts or self._teller.listeners:
            self._teller.tell(ledger.alerts, record)
        return record

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
        return self._read(Ledger.stats)

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
        check_whole("limit", limit, 0)
        category = None if category is None else member_of(ErrorCategory, category)
        severity = None if severity is None else member_of(Severity, severity)
        records = self._read(lambda ledger: ledger.look(RecordStore.recent))
        return [r for r in records if category in (None, r.category) and severity in (None, r.severity)][:limit]

    def groups(self, limit: int = 20) -> list[ErrorGroup]:
        """Return the groups, the one seen last first.

        Raises:
            ValueError: If `limit` is below 0.
        """
        check_whole("limit", limit, 0)
        return self._read(lambda ledger: ledger.look(RecordStore.groups))[:limit]

    def snapshot(self) -> MonitorSnapshot:
        """Return what a dashboard shows."""
        stats, _, records = self._read(Ledger.overview)
        return MonitorSnapshot(stats, records[:_SHOWN], stats.error_rate, stats.alert is not None)

    async def watch(self, interval: float = 1.0) -> AsyncGenerator[MonitorSnapshot, None]:
        """Yield a snapshot now and every `interval` seconds, under asyncio or trio.

        Raises:
            ValueError: If `interval` is not above 0.
        """
        check_number("interval", interval, above=True)
        while True:
            yield self.snapshot()
            await clock.sleep_async(interval)

    def subscribe(self, listener: Listener[ErrorRecord]) -> Subscription:
        """Have the listener told of each record, on the thread that recorded it, until the subscription is closed.

        It is called under no lock; what it records itself is not told to anybody, so that nothing goes round in
        circles; what it raises is logged.
        """
        return self._teller.subscribe(listener)

    def clear(self) -> None:
        """Forget records, groups, numbers, rate and alert; listeners stay."""
        self._ledger = Ledger(self._capacity, self._window, self._rule, self._redact)

    def to_json(self) -> str:
        """Return everything that is kept as a JSON document."""
        return exports.to_json(*self._exported())

    def to_jsonl(self) -> str:
        """Return everything that is kept as JSON Lines."""
        return exports.to_jsonl(*self._exported())

    def to_csv(self, *, excel: bool = False) -> str:
        """Return the records that are kept as CSV; for Excel with a byte order mark and at most 32,767 signs a cell."""
        return exports.to_csv(self._exported()[1], excel=excel)

    def export(self, path: str | os.PathLike[str], *, excel: bool = False) -> None:
        """Write everything that is kept to a file, all or nothing, readable by its owner only.

        Args:
            path: Where; its suffix says the format.
            excel: Whether a CSV file is for Excel, see `to_csv`.

        Raises:
            ValueError: If the path ends in none of .json, .jsonl, .csv.
            OSError: If the file cannot be written; an old one stays whole.
        """
        make: dict[str, Callable[[], str]] = {".json": self.to_json, ".jsonl": self.to_jsonl}
        make[".csv"] = functools.partial(self.to_csv, excel=excel)
        exports.write_file(path, make[exports.check_suffix(path)]())

    async def export_async(self, path: str | os.PathLike[str], *, excel: bool = False) -> None:
        """Do as `export` in a worker thread, under asyncio or trio."""
        exports.check_suffix(path)
        write = functools.partial(self.export, path, excel=excel)
        if clock.in_trio():
            import trio

            await trio.to_thread.run_sync(write)
        else:
            import asyncio

            await asyncio.to_thread(write)

    def __repr__(self) -> str:
        stats = self._ledger.stats()
        alert = ", alerting" if stats.alert else ""
        return f"<ErrorMonitor: {stats.total} records, {stats.error_rate:g} errors per minute{alert}>"

    def _take_settings(self, other: ErrorMonitor) -> None:
        """Go on with the settings of another one; what was recorded, and an alert that fires, stay."""
        self._capacity, self._window, self._rule = other._capacity, other._window, other._rule
        self._ledger.take_settings(other._capacity, other._window, other._rule)

    def _read(self, what: Callable[[Ledger], T]) -> T:
        """Return what there is to read; a read tells of the alert, too."""
        ledger = self._ledger
        found = what(ledger)
        self._teller.tell(ledger.alerts, None)
        return found

    def _exported(self) -> tuple[dict[str, Any], list[ErrorRecord]]:
        """Return the head of an export, and its records."""
        stats, groups, records = self._read(Ledger.overview)
        return exports.head_of(clock.utc_now(), self._window, stats, groups), records


def _after_fork() -> None:
    for monitor in tuple(_monitors):
        monitor._begin()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
