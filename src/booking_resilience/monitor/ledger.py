"""A monitor's records, groups, numbers, rate and alert, under one lock.

`put` appends to an inbox. Its records are entered when somebody reads, when the alert may change, or when enough of
them wait, by whichever thread gets the lock without waiting. So recording never waits: no thread for another, and no
signal handler, finaliser or listener for the call that it interrupted. Only a flood that the other thread can't keep up
with is held up, by a tenth of a second at a time, so that memory stays bounded on free-threaded builds, too.

The lock is re-entrant, so that signal handlers and their kin may also read. Code that has interrupted its own thread
while that was entering or reading enters nothing; the interrupted call enters what it put.
"""

from __future__ import annotations

import datetime
import itertools
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from booking_resilience import clock
from booking_resilience.events import AlertEvent, ErrorCategory, call_began, recorded
from booking_resilience.locks import new_lock, run_if_free
from booking_resilience.monitor.build import RecordBuilder
from booking_resilience.monitor.history import AlertTransition, History, new_transitions
from booking_resilience.monitor.rate import Alert, AlertRule, SlidingRate, State
from booking_resilience.monitor.record import OUTCOMES, ErrorRecord, ErrorStats, Severity, set_number
from booking_resilience.monitor.redact import Redactor
from booking_resilience.monitor.stacks import attributes_of
from booking_resilience.monitor.store import RecordStore

T = TypeVar("T")
_BATCH = 16
_MANY = 16
_FLOOD = 10_000
_FLOOD_WAIT = 0.1  # seconds
_set_attributes = vars(BaseException)["__dict__"].__set__
_ledgers: weakref.WeakValueDictionary[int, Ledger] = weakref.WeakValueDictionary()
_keys = itertools.count(1)


class Marked(dict[Any, Any]):
    """The attributes of an error that was recorded, with its newest record in each ledger.

    The error itself carries its records, since errors of builtin types can't be weakly referenced and a table would
    keep them alive. The records are no attributes of the error, and a copy has plain attributes again: so it counts as
    another error, whatever its address.
    """

    __slots__ = ("owner", "records")

    owner: int
    records: dict[int, ErrorRecord]

    def __reduce__(self) -> tuple[type[dict[Any, Any]], tuple[dict[Any, Any]]]:
        return dict, (dict(self),)


class Ledger:
    """All that a monitor knows; `clear` and a fork replace it.

    Attributes:
        alerts: Events of the alert that nobody has been told of, oldest first.
        build: Makes a record.
        store: Keeps the records; read in `read` only.
    """

    def __init__(self, capacity: int, window: float, rule: AlertRule, redact: Redactor, journal: Any) -> None:
        self._lock: Any = new_lock()
        self._counting = new_lock()  # not the other one, which a reading holds for long
        self._room = 0  # as many may be in the inbox without any effect on the alert
        self._inbox: deque[tuple[ErrorRecord, float]] = deque()
        self._journal = journal  # its writer, or None
        self._unjournaled = 0
        self.alerts: deque[AlertEvent] = deque()
        self._key = next(_keys)
        _ledgers[self._key] = self
        self.build: Callable[..., ErrorRecord] = RecordBuilder(redact).build
        self.store: RecordStore = RecordStore(capacity)
        self._alert = Alert(rule, window)
        self._rate = SlidingRate(window, self._alert.exact)
        self._since: datetime.datetime | None = None
        self._transitions = new_transitions()

    def known(self, error: BaseException, attributes: dict[Any, Any]) -> ErrorRecord | None:
        """Return the error's record if it was made since the current call began, else None.

        Args:
            error: The error.
            attributes: What `attributes_of` gives.
        """
        if type(attributes) is not Marked or attributes.owner != id(error):
            return None
        record = attributes.records.get(self._key)
        return record if record is None or record._number > call_began() else None

    def mark(self, error: BaseException, record: ErrorRecord) -> ErrorRecord:
        """Number the record and mark the error with it; return it, or the record of a thread that was faster."""
        with recorded.lock:
            attributes = attributes_of(error)
            if type(attributes) is not Marked or attributes.owner != id(error):
                marked = Marked(attributes) if attributes else Marked()
                marked.owner, marked.records = id(error), {self._key: record}
                _set_attributes(error, marked)
            elif (found := self.known(error, attributes)) is not None:
                return found
            else:
                records = attributes.records
                records[self._key] = record
                if len(records) > _MANY:  # a constant, say, that monitors come and go by
                    attributes.records = {key: kept for key, kept in records.items() if key in _ledgers}
            number = recorded.next_number()
            set_number(record, number)
            if number > recorded.last:
                recorded.last = number
        return record

    def put(self, record: ErrorRecord) -> None:
        """Enter a record: now if the alert may change, else soon."""
        now = clock.monotonic()
        self._inbox.append((record, now))
        if len(self._inbox) > self._room or now >= self._alert.due:
            self._drain()
        if self._journal is not None and not self._journal.put(record):
            with self._counting:
                self._unjournaled += 1

    def read(self, what: Callable[[Ledger], T]) -> T:
        """Return what `what` reads, all of one moment, once all that was put is entered and the alert updated."""
        if self._lock._is_owned():
            return what(self)
        with self._lock:
            self._enter()
            self._look()
            found = what(self)
        self._drain()  # what was put meanwhile, by those who found the lock taken
        return found

    # What `read` is given, beside what it reads in `store`:

    def stats(self) -> ErrorStats:
        """Return the numbers."""
        now, store = clock.monotonic(), self.store
        counts = {outcome: store.count(outcome) for outcome in OUTCOMES}
        return ErrorStats(
            total=sum(counts.values()),
            **counts,
            by_category={category: store.count(category) for category in ErrorCategory},
            by_severity={severity: store.count(severity) for severity in Severity},
            error_rate=self._rate.per_minute(now),
            alert=self._event("firing", now) if self._alert.firing else None,
            dropped=store.dropped,
            unjournaled=self._unjournaled,
            groups=store.group_count,
        )

    def history(self, minutes: int) -> History:
        """Return how many records there were in each of the last minutes, and what the alert did."""
        return self.store.minutes.read(clock.timestamp(), minutes, self._transitions)

    def take_settings(self, capacity: int, window: float, rule: AlertRule) -> None:
        """Go on with other settings."""
        self.store.resize(capacity)
        self._alert = self._alert.renewed(rule, window)
        self._rate.window, self._rate.exact = window, self._alert.exact
        self._room = 0

    def _drain(self) -> None:
        while self._inbox:
            if not run_if_free(self._lock, self._enter, _FLOOD_WAIT if len(self._inbox) > _FLOOD else 0.0):
                return

    def _enter(self) -> None:
        inbox, alert, rate, add = self._inbox, self._alert, self._rate, self.store.add
        latest = self._now()
        while inbox:
            record, now = inbox.popleft()
            if now > latest and now > (latest := self._now()):
                add(record)  # the clock was ahead when it came: it counts, but not for the rate
                continue
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
        self.store.settle()
        self._make_room()

    def _now(self) -> float:
        """Return the time; if it lies before what was entered, the clock was ahead then: forget what comes after."""
        now = clock.monotonic()
        if self._rate.rewind(now):
            self._alert.rewind(now)
        return now

    def _make_room(self) -> None:
        alert = self._alert
        self._room = _BATCH if alert.firing else max(0, min(_BATCH, alert.top - self._rate.kept))

    def _look(self) -> None:
        now = self._now()
        self._tell(self._alert.before(self._rate, now), now)
        self._tell(self._alert.after(self._rate, now, self._rate.count(now)), now)
        self._make_room()

    def _tell(self, states: tuple[State, ...], now: float) -> None:
        for state in states:
            if state == "firing":
                self._since = clock.utc_now()
            event = self._event(state, now)
            self.alerts.append(event)
            self._transitions.append(AlertTransition(event.state, event.rate, event.peak, event.since, clock.utc_now()))

    def _event(self, state: State, now: float) -> AlertEvent:
        return AlertEvent(state, self._rate.per_minute(now), self._alert.peak, self._since or clock.utc_now())
