"""The books of a monitor: records, groups, numbers, rate and alert, under one lock.

`put` appends to an inbox. What is in it is entered when somebody reads, when the alert may have to change, or when
there are some, by whoever gets the lock at once, without waiting. So recording waits for nothing: not a thread for
another, and not a signal handler, a finaliser or a listener for the very call that it interrupted. The lock is
re-entrant, so that these may also read; who has interrupted the entering or the reading of its own thread enters
nothing, and what it put is entered by the one that it interrupted.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, TypeVar

from booking_resilience import clock
from booking_resilience.events import AlertEvent, ErrorCategory
from booking_resilience.monitor.build import RecordBuilder
from booking_resilience.monitor.marks import key_for
from booking_resilience.monitor.rate import Alert, SlidingRate
from booking_resilience.monitor.record import OUTCOMES, Severity
from booking_resilience.monitor.stats import ErrorStats
from booking_resilience.monitor.store import RecordStore

if TYPE_CHECKING:
    import datetime
    from collections.abc import Callable

    from booking_resilience.monitor.rate import AlertRule, State
    from booking_resilience.monitor.record import ErrorRecord
    from booking_resilience.monitor.redact import Redactor
    from booking_resilience.monitor.store import ErrorGroup

T = TypeVar("T")
_BATCH = 16


class Ledger:
    """What a monitor knows; `clear` and a fork replace it by a new one.

    Attributes:
        alerts: What there is to tell of the alert, oldest first.
        build: Makes a record.
        key: The name of the attribute by which it marks errors.
    """

    __slots__ = (
        "__weakref__", "_alert", "_busy", "_inbox", "_lock", "_rate", "_room", "_since", "_store", "alerts", "build",
        "key",
    )  # fmt: skip

    def __init__(self, capacity: int, window: float, rule: AlertRule, redact: Redactor) -> None:
        self._lock = threading.RLock()
        self._busy = False
        self._room = 0  # as many may be in the inbox without any effect on the alert
        self._inbox: deque[tuple[ErrorRecord, float]] = deque()
        self.alerts: deque[AlertEvent] = deque()
        self.key: str = key_for(self)
        self.build: Callable[..., ErrorRecord] = RecordBuilder(redact).build
        self._store = RecordStore(capacity)
        self._alert = Alert(rule, window)
        self._rate = SlidingRate(window, self._alert.exact)
        self._since: datetime.datetime | None = None

    def put(self, record: ErrorRecord) -> None:
        """Enter a record: now if the alert may have to change, else soon."""
        now = clock.monotonic()
        self._inbox.append((record, now))
        if len(self._inbox) > self._room or now >= self._alert.due:
            self._drain()

    def read(self, what: Callable[[RecordStore], T]) -> T:
        """Return what there is to read in the store, with all that was put entered before."""
        with self._lock:
            if self._busy:
                return what(self._store)
            self._busy = True
            try:
                self._enter()
                found = what(self._store)
            finally:
                self._busy = False
        self._drain()  # what was put meanwhile, by those who found the lock taken
        return found

    def look(self, what: Callable[[RecordStore], T]) -> T:
        """Do as `read`, and see what has become of the alert."""

        def looked(store: RecordStore) -> T:
            self._look(clock.monotonic())
            return what(store)

        return self.read(looked)

    def stats(self) -> ErrorStats:
        """Return the numbers, all of one moment, with the alert as it is now."""
        return self.read(self._stats)

    def overview(self) -> tuple[ErrorStats, list[ErrorGroup], list[ErrorRecord]]:
        """Return the numbers, the groups and the records, all of one moment."""
        return self.read(lambda store: (self._stats(store), store.groups(), store.recent()))

    def _drain(self) -> None:
        while self._inbox and self._lock.acquire(False):
            try:
                if self._busy:
                    return
                self._busy = True
                try:
                    self._enter()
                finally:
                    self._busy = False
            finally:
                self._lock.release()

    def _enter(self) -> None:
        inbox, alert, rate, add = self._inbox, self._alert, self._rate, self._store.add
        while inbox:
            record, now = inbox.popleft()
            is_due = now >= alert.due
            if is_due:
                self._tell(alert.before(rate, now), now)
            if add(record):
                count = rate.add(now)
            elif is_due:
                count = rate.count(now)
            else:
                continue
            if is_due or (count > alert.top and not alert.firing):
                self._tell(alert.after(rate, now, count), now)
            elif count > alert.top:
                alert.top = count
        self._make_room()

    def _make_room(self) -> None:
        alert = self._alert
        self._room = _BATCH if alert.firing else max(0, min(_BATCH, alert.top - self._rate.kept))

    def _look(self, now: float) -> None:
        self._tell(self._alert.before(self._rate, now), now)
        self._tell(self._alert.after(self._rate, now, self._rate.count(now)), now)
        self._make_room()

    def _stats(self, store: RecordStore) -> ErrorStats:
        now = clock.monotonic()
        self._look(now)
        counts = {outcome: store.count(outcome) for outcome in OUTCOMES}
        return ErrorStats(
            total=sum(counts.values()),
            **counts,
            by_category={category: store.count(category) for category in ErrorCategory},
            by_severity={severity: store.count(severity) for severity in Severity},
            error_rate=self._rate.per_minute(now),
            alert=self._event("firing", now) if self._alert.firing else None,
            dropped=store.dropped,
            groups=store.group_count(),
        )

    def _tell(self, states: tuple[State, ...], now: float) -> None:
        for state in states:
            if state == "firing":
                self._since = clock.utc_now()
            self.alerts.append(self._event(state, now))

    def _event(self, state: State, now: float) -> AlertEvent:
        return AlertEvent(state, self._rate.per_minute(now), self._alert.peak, self._since or clock.utc_now())
