"""The error monitor: records errors, watches their rate, and lets them be read, listened to and exported.

`record` builds the record on the caller's thread and appends it to an inbox; whoever gets the lock at once, without
waiting, takes the inbox in. So nothing waits for anything: not a thread for another, and not a signal handler, a
finaliser or a listener for the very call that it interrupted.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from booking_resilience import clock
from booking_resilience.events import AlertEvent, FailedAttempt, Subscription, notify
from booking_resilience.monitor import export as exports
from booking_resilience.monitor.build import RecordBuilder
from booking_resilience.monitor.capture import Capture
from booking_resilience.monitor.logs import MonitorHandler
from booking_resilience.monitor.rate import Alert, AlertRule, SlidingRate
from booking_resilience.monitor.record import ErrorCategory, ErrorRecord, Severity
from booking_resilience.monitor.redact import DEFAULT_REDACTION, text_of
from booking_resilience.monitor.store import ErrorGroup, RecordStore
from booking_resilience.settings import check, is_positive, is_whole

if TYPE_CHECKING:
    import datetime
    from collections.abc import AsyncGenerator, Mapping

    from booking_resilience.events import Listener
    from booking_resilience.monitor.record import Outcome
    from booking_resilience.monitor.redact import Redactor

logger: logging.Logger = logging.getLogger("booking_resilience.monitor")
_MARK = "__booking_resilience_record__"
_COUNTED = (Severity.ERROR, Severity.CRITICAL)
_monitors: weakref.WeakSet[ErrorMonitor] = weakref.WeakSet()


@dataclass(frozen=True, slots=True)
class ErrorStats:
    """The monitor's numbers, all of one moment, since it was made or cleared.

    Attributes:
        total: Records made: failed plus recovered.
        failed: Operations that failed.
        recovered: Operations that succeeded after a retry.
        by_category: `total` by category; all categories are there.
        by_severity: `total` by severity; all severities are there.
        error_rate: Errors and critical errors per minute, over the window.
        alert: The alert as it fires, else None.
        dropped: Records no longer kept.
        groups: How many groups of errors there are.
    """

    total: int
    failed: int
    recovered: int
    by_category: dict[ErrorCategory, int]
    by_severity: dict[Severity, int]
    error_rate: float
    alert: AlertEvent | None
    dropped: int
    groups: int


@dataclass(frozen=True, slots=True)
class MonitorSnapshot:
    """What a dashboard shows, all of one moment; `recent_errors` are the newest 50, newest first."""

    stats: ErrorStats
    recent_errors: list[ErrorRecord]
    error_rate: float
    alerting: bool


class _Marks(dict[object, ErrorRecord]):
    """Which monitor has recorded an error, and as what; pickles to an empty dict, and does not count for a copy."""

    __slots__ = ("owner",)

    def __init__(self, owner: BaseException) -> None:
        self.owner = id(owner)

    def __reduce__(self) -> tuple[type[dict[Any, Any]], tuple[()]]:
        return (dict, ())


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
        self._lock = threading.RLock()
        self._telling = threading.local()
        self._listeners: tuple[Listener[ErrorRecord], ...] = ()
        self._empty()

    def _empty(self) -> None:
        self._inbox: deque[tuple[ErrorRecord, float]] = deque()
        self._alerts: deque[AlertEvent] = deque()
        self._taking = False
        self._token = object()
        self._builder = RecordBuilder(self._redact)
        self._store = RecordStore(self._capacity)
        self._rate, self._alert = SlidingRate(self._window), Alert(self._rule)
        self._since: datetime.datetime | None = None

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
            severity: How bad it is.
            context: What is known about the operation; copied and redacted.
            attempts: How many attempts were made, or what `attempts_of` says; default 1.
            outcome: `failed`, or `recovered` if a later attempt succeeded.

        Raises:
            TypeError: If `error` is no exception.
            ValueError: If category, severity or outcome is unknown.
        """
        if not isinstance(error, BaseException):
            raise TypeError(f"error must be an exception, not {type(error).__name__}")
        if outcome not in ("failed", "recovered"):
            raise ValueError(f"outcome must be 'failed' or 'recovered', not {outcome!r}")
        kind: ErrorCategory = _member(ErrorCategory, category)
        level: Severity = _member(Severity, severity)
        marks = _marks_of(error)
        token = self._token
        if token in marks:
            return marks[token]
        made = self._builder.build(
            error,
            operation=text_of(operation),
            category=kind,
            severity=level,
            context=context,
            attempts=attempts,
            outcome=outcome,
            timestamp=clock.utc_now(),
        )
        record = marks.setdefault(token, made)
        if record is made:
            self._inbox.append((record, clock.monotonic()))
            self._take_in()
            self._tell(record)
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
        return Capture(self, operation, _member(ErrorCategory, category), _member(Severity, severity), context)

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
        return self._read().stats.error_rate

    @property
    def alerting(self) -> bool:
        """Whether the alert fires."""
        return self._read().alerting

    def stats(self) -> ErrorStats:
        """Return the numbers."""
        return self._read().stats

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
        category = None if category is None else _member(ErrorCategory, category)
        severity = None if severity is None else _member(Severity, severity)
        return [
            record
            for record in self._kept()
            if (category is None or record.category is category) and (severity is None or record.severity is severity)
        ][:limit]

    def groups(self, limit: int = 20) -> list[ErrorGroup]:
        """Return the groups, the one seen last first.

        Raises:
            ValueError: If `limit` is below 0.
        """
        check("limit", limit, is_whole(limit, 0), "a whole number, 0 or more")
        self._take_in()
        with self._lock:
            return self._store.groups()[:limit]

    def snapshot(self) -> MonitorSnapshot:
        """Return what a dashboard shows."""
        return self._read(recent=50)

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
        if not callable(listener):
            raise TypeError(f"listener must be a function of the record, not {listener!r}")

        def entry(record: ErrorRecord) -> object:  # an identity of its own: one listener may listen twice
            return listener(record)

        with self._lock:
            self._listeners = (*self._listeners, entry)
        return Subscription(lambda: self._unsubscribe(entry))

    def logging_handler(self) -> logging.Handler:
        """Return a handler that records what is logged with an exception; the operation is the logger's name."""
        return MonitorHandler(self)

    def clear(self) -> None:
        """Forget records, groups, numbers, rate and alert; listeners stay."""
        with self._lock:
            self._empty()

    def to_json(self) -> str:
        """Return everything that is kept as a JSON document."""
        return exports.to_json(self._head(), self._kept())

    def to_jsonl(self) -> str:
        """Return everything that is kept as JSON Lines."""
        return exports.to_jsonl(self._head(), self._kept())

    def to_csv(self) -> str:
        """Return the records that are kept as CSV."""
        return exports.to_csv(self._kept())

    def export(self, path: str | os.PathLike[str]) -> None:
        """Write everything that is kept to a file, all or nothing, readable by its owner only.

        Raises:
            ValueError: If the path ends in none of .json, .jsonl, .csv.
            OSError: If the file cannot be written; an old one stays whole.
        """
        make = {".json": self.to_json, ".jsonl": self.to_jsonl, ".csv": self.to_csv}[exports.check_suffix(path)]
        exports.write_file(path, make())

    async def export_async(self, path: str | os.PathLike[str]) -> None:
        """Do as `export` in a worker thread, under asyncio or trio."""
        exports.check_suffix(path)
        if clock.in_trio():
            import trio

            await trio.to_thread.run_sync(self.export, path)
        else:
            import asyncio

            await asyncio.to_thread(self.export, path)

    def _take_in(self) -> None:
        """Take the inbox in, unless somebody is at it: whoever is takes ours along."""
        while self._inbox:
            if not self._lock.acquire(blocking=False):
                return
            try:
                if self._taking:  # this very thread is, and was interrupted
                    return
                self._taking = True
                try:
                    while self._inbox:
                        record, now = self._inbox.popleft()
                        self._look(now)
                        self._store.add(record)
                        if record.severity in _COUNTED:
                            self._rate.add(now)
                            self._look(now)
                finally:
                    self._taking = False
            finally:
                self._lock.release()

    def _look(self, now: float) -> None:
        for state in self._alert.look(self._rate, now):
            if state == "firing":
                self._since = clock.utc_now()
            self._alerts.append(self._alert_event(state, now))

    def _alert_event(self, state: Any, now: float) -> AlertEvent:
        return AlertEvent(state, self._rate.per_minute(now), self._alert.peak, self._since or clock.utc_now())

    def _read(self, recent: int = 0) -> MonitorSnapshot:
        self._take_in()
        now = clock.monotonic()
        with self._lock:
            self._look(now)
            store, rate = self._store, self._rate.per_minute(now)
            stats = ErrorStats(
                total=store.failed + store.recovered,
                failed=store.failed,
                recovered=store.recovered,
                by_category={category: store.by_category[category] for category in ErrorCategory},
                by_severity={severity: store.by_severity[severity] for severity in Severity},
                error_rate=rate,
                alert=self._alert_event("firing", now) if self._alert.firing else None,
                dropped=store.dropped,
                groups=store.group_count(),
            )
            records = store.recent()[:recent] if recent else []
        self._tell(None)
        return MonitorSnapshot(stats, records, rate, stats.alert is not None)

    def _kept(self) -> list[ErrorRecord]:
        self._take_in()
        with self._lock:
            return self._store.recent()

    def _head(self) -> dict[str, Any]:
        stats = self.stats()
        return {
            "generated_at": clock.utc_now().isoformat(),
            "window_seconds": self._window,
            "stats": {name: _plain(getattr(stats, name)) for name in ErrorStats.__slots__},
            "alert": _plain(stats.alert),
            "groups": [
                {name: _plain(getattr(group, name)) for name in ErrorGroup.__slots__} for group in self.groups(10**9)
            ],
        }

    def _tell(self, record: ErrorRecord | None) -> None:
        """Tell of alerts and of the record; what is recorded meanwhile on this thread is not told in turn."""
        if getattr(self._telling, "now", False):
            return
        if not self._alerts and (record is None or not self._listeners):
            return
        self._telling.now = True
        try:
            while self._alerts:
                try:
                    event = self._alerts.popleft()
                except IndexError:  # another thread was quicker
                    break
                level = logging.INFO if event.state == "resolved" else logging.WARNING
                facts = {"state": event.state, "rate": event.rate, "peak": event.peak}
                logger.log(level, "error alert %s: %.1f errors per minute, peak %.1f", *facts.values(), extra=facts)
                if self._on_alert is not None:
                    notify((self._on_alert,), event, logger)
            if record is not None:
                notify(self._listeners, record, logger)
        finally:
            self._telling.now = False

    def _unsubscribe(self, entry: Listener[ErrorRecord]) -> None:
        with self._lock:
            self._listeners = tuple(kept for kept in self._listeners if kept is not entry)


def _member(kind: Any, value: Any) -> Any:
    if type(value) is kind:
        return value
    try:
        return kind(value)
    except ValueError:
        known = ", ".join(repr(member.value) for member in kind)
        name = "category" if kind is ErrorCategory else "severity"
        raise ValueError(f"{name} must be one of {known}, not {value!r}") from None


def _marks_of(error: BaseException) -> dict[object, ErrorRecord]:
    """Return the error's own note of which monitors have recorded it; one that takes no note is always new."""
    try:
        marks = error.__dict__.get(_MARK)
        if not isinstance(marks, _Marks) or marks.owner != id(error):
            marks = error.__dict__[_MARK] = _Marks(error)
    except Exception:  # noqa: BLE001 - an error may hide or refuse its attributes
        return _Marks(error)
    return marks


def _plain(value: Any) -> Any:
    """Return a value as JSON has it."""
    if isinstance(value, AlertEvent):
        return {name: _plain(getattr(value, name)) for name in AlertEvent.__slots__}
    return value.isoformat() if hasattr(value, "isoformat") else value


def _after_fork() -> None:
    for monitor in tuple(_monitors):
        monitor._begin()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
