"""The thread that reads a journal for the monitor of a fleet, and sees to the fleet's alert."""

from __future__ import annotations

import contextlib
import datetime
import functools
import os
import threading
import time
import weakref
from typing import Any

from booking_resilience import clock
from booking_resilience.events import AlertEvent, ErrorCategory, Listener, Subscription
from booking_resilience.journal import forks
from booking_resilience.journal.books import Books, ProcessStatus, ReadRecord
from booking_resilience.journal.claims import FleetAlert, Transition
from booking_resilience.journal.entries import CLAIM, HEARTBEAT, RECORD, STACK, TOLD, entry
from booking_resilience.journal.protocol import Page, Trouble
from booking_resilience.journal.writer import AGAIN, writer_of
from booking_resilience.locks import new_lock
from booking_resilience.monitor.history import History
from booking_resilience.monitor.rate import Alert, AlertRule, SlidingRate
from booking_resilience.monitor.record import OUTCOMES, ErrorRecord, ErrorStats, Severity
from booking_resilience.monitor.telling import Teller

POLL = 0.1  # seconds between two readings at the end of the log
_PAGE = 1000
_WEEK = 604_800.0
_SLOW = 2.0  # seconds after which a reading that has not come back counts as failed
_APART = 0.05  # seconds that the clocks of several machines, as they are measured, may differ


class Reader(forks.Pausing):
    """Reads a journal, from when it is made until it is closed; the arguments are those of `FleetMonitor`.

    Attributes:
        lock: Held while what is known changes; never while the journal is read, or user code runs.
        store: Records, groups, numbers and processes.
        alert: The fleet's alert.
        teller: Tells of records and alerts.
    """

    def __init__(
        self, journal: Any, capacity: int, window: float, rule: AlertRule, on_alert: Listener[AlertEvent] | None
    ) -> None:
        self._journal, self._capacity, self._window, self._rule = journal, capacity, window, rule
        self._on_alert = on_alert
        self._has_clock = hasattr(journal, "_remote_now")
        self._is_closed = False
        self.reborn(was_paused=False)
        with forks.registry:
            forks.fleets.add(self)

    def reborn(self, *, was_paused: bool) -> None:
        """Begin, in a child process, too: without listeners, but with what was known, unless it was just changing."""
        if not was_paused:
            self._forget()
        self.lock: Any = new_lock()
        self.teller: Teller = Teller(self._on_alert)
        self._step = threading.Lock()  # held while the journal is read
        self.fork_locks: tuple[Any, ...] = (self._step, self.lock)
        self._stop = threading.Event()
        self._listeners: tuple[tuple[tuple[float, float], Listener[ErrorRecord]], ...] = ()
        self._begun: tuple[float, datetime.datetime] | None = None  # when the reading began that is under way
        self.alert.forget_mine()
        self._trouble = Trouble(self._journal, "read")
        if not self._is_closed:
            thread = threading.Thread(
                target=_run, args=(weakref.ref(self), self._stop), name="booking-resilience fleet", daemon=True
            )
            with contextlib.suppress(RuntimeError):  # none may be started here, or now
                thread.start()

    def _forget(self) -> None:
        alert = Alert(self._rule, self._window)
        self.store: Books = Books(self._capacity, SlidingRate(self._window, alert.exact))
        self.alert: FleetAlert = FleetAlert(self._rule, self.store.rate, alert)
        self._cursor: Any = None
        self._ahead = 0.0  # of the journal's clock, before the machine's monotonic one
        self._failing_since: datetime.datetime | None = clock.utc_now()
        self._is_through = False

    def close(self) -> None:
        """Stop reading."""
        self._is_closed = True
        self._stop.set()

    # -- what is known

    def now(self) -> float:
        """Return the time on the journal's clock, in seconds since 1970."""
        return time.monotonic() + self._ahead if self._has_clock and self._ahead else clock.timestamp()

    def stale_since(self) -> datetime.datetime | None:
        """Return since when it is not up to date; None if it is."""
        begun = self._begun
        if self._failing_since is None and begun is not None and time.monotonic() - begun[0] > _SLOW:
            return begun[1]
        return self._failing_since

    def subscribe(self, listener: Listener[ErrorRecord]) -> Subscription:
        """Call a listener with the records made from now on."""
        with self.lock:
            told = (time.monotonic(), clock.timestamp()), listener
            self._listeners = (*self._listeners, told)
        return Subscription(functools.partial(self._unsubscribe, told))

    def _unsubscribe(self, told: object) -> None:
        with self.lock:
            self._listeners = tuple(kept for kept in self._listeners if kept is not told)

    # What `FleetMonitor` reads with the lock held, beside `store`:

    def stats(self) -> ErrorStats:
        """Return the numbers."""
        now, store = self.now(), self.store
        return ErrorStats(
            total=store.total,
            **{outcome: store.count(outcome) for outcome in OUTCOMES},
            by_category={category: store.count(category) for category in ErrorCategory},
            by_severity={severity: store.count(severity) for severity in Severity},
            alert=self.alert.event(now),
            error_rate=store.rate.per_minute(now),
            dropped=store.dropped,
            unjournaled=sum(process.unjournaled for process in self.processes()),
            groups=store.group_count(),
        )

    def history(self, minutes: int) -> History:
        """Return how many records there were in each of the last minutes, and what the alert did."""
        now = self.now()
        self.alert.look(now)
        return self.store.minutes.read(now, minutes, self.alert.transitions())

    def processes(self) -> list[ProcessStatus]:
        """Return the processes that write the journal, the one seen last first."""
        return self.store.processes(self.now(), getattr(self._journal, "max_age", _WEEK))

    # -- the thread

    def read_on(self) -> float:
        """Read what is new, see to the alert, and tell; return the seconds until the next time."""
        try:
            while not self._stop.is_set():
                with self._step:
                    self._begun = time.monotonic(), clock.utc_now()
                    page = self._page()
                    new = self._take(page)
                    self._begun = None
                self._tell_listeners(new)
                if not page.entries:
                    if not self._is_through:
                        self.store.records()  # makes them now, so that who asks first need not wait for it
                    self._is_through, self._failing_since = True, None
                    self._trouble.worked()
                    if not self._see_to_alert():
                        break
        except BaseException as error:  # noqa: BLE001 - whatever it is, a listener's SystemExit, too: it goes on
            begun, self._begun = self._begun, None
            if self._failing_since is None:
                self._failing_since = begun[1] if begun else clock.utc_now()
            if not self._is_closed:
                self._trouble.failed(error)
            return AGAIN
        return POLL

    def _page(self) -> Page:
        """Read a page, and look at the journal's clock."""
        read = getattr(self._journal, "_page", None)
        if read is None:
            entries, cursor = self._journal.read(self._cursor, _PAGE)
            return Page([(0, data) for data in entries], cursor, 0)
        page: Page = read(self._cursor, _PAGE)
        if self._has_clock:
            self._ahead = self._journal._remote_now() - time.monotonic()
        return page

    def _take(self, page: Page) -> list[ReadRecord]:
        """Take in what was read; return the new records."""
        new: list[ReadRecord] = []
        with self.lock:
            now, store = self.now(), self.store
            if page.entries and self._cursor is not None and 0 < page.entries[0][0] <= self._cursor:
                store.remove_before(None)  # another log: its positions begin anew
            for position, data in page.entries:
                with contextlib.suppress(Exception):  # what isn't an entry of ours is skipped
                    kind = data[:1]
                    if kind == RECORD:
                        read = store.record(data, position, now)
                        if read is not None:
                            new.append(read)
                    elif kind == STACK:
                        new += store.stack(data, now)
                    elif kind == HEARTBEAT:
                        store.heartbeat(data)
                    elif kind in (CLAIM, TOLD):
                        self.alert.read(data)
            store.remove_before(page.oldest)
            self._cursor = page.cursor
        return new

    def _tell_listeners(self, new: list[ReadRecord]) -> None:
        listeners = self._listeners
        for read in new if listeners else ():
            told = [listener for since, listener in listeners if self._is_after(read, *since)]
            if told and (record := read.record()) is not None:
                with contextlib.suppress(BaseException):  # a listener's SystemExit must not end the reading
                    self.teller.tell_listeners(told, record)

    def _is_after(self, read: ReadRecord, monotonic: float, timestamp: float) -> bool:
        """Tell whether a record was made, and came into the journal, after a moment of this machine's two clocks."""
        if not self._has_clock:
            return read.moment >= timestamp
        moment = monotonic + self._ahead
        return read.moment >= moment - _APART and read.arrived >= moment

    # -- the alert

    def _see_to_alert(self) -> bool:
        """Claim what there is to claim, and tell what is this reader's to tell; tell whether there is more to read."""
        id_ = os.urandom(16)
        with self.lock:
            now = self.now()
            self.alert.look(now)
            if self._on_alert is None:
                return False
            transition, claim = self.alert.to_tell(now), self.alert.claim(now, id_)
        if transition is not None:  # on a thread of its own: it may take its time
            thread = threading.Thread(
                target=self._tell, args=(transition,), name="booking-resilience alert", daemon=True
            )
            with contextlib.suppress(RuntimeError):  # none may be started here, or now: another process tells
                thread.start()
        if claim is None:
            return False
        try:
            writer_of(self._journal).append([entry(CLAIM, id_, claim)])
        except Exception:  # noqa: BLE001 - it cannot be written now: then it is claimed again later
            return False
        return True

    def _tell(self, transition: Transition) -> None:
        self.teller.tell_alert(transition.event())
        for _ in range(20):
            try:
                writer_of(self._journal).append([entry(TOLD, os.urandom(16), transition.id)])
            except Exception:  # noqa: BLE001 - another process would tell again
                time.sleep(AGAIN)
            else:
                return


def _run(ref: weakref.ref[Reader], stop: threading.Event) -> None:
    pause = 0.0
    while not stop.wait(pause):
        reader = ref()
        if reader is None or reader._stop is not stop:
            return
        pause = reader.read_on()
        del reader
