"""The monitor of a fleet: asked like an `ErrorMonitor`, over all processes that write a journal."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from types import TracebackType
from typing import Self, TypeVar

from booking_resilience.callbacks import check_callback
from booking_resilience.checks import check_number, check_type, check_whole
from booking_resilience.events import AlertEvent, Listener, Subscription
from booking_resilience.journal.books import ProcessStatus
from booking_resilience.journal.protocol import Journal, check_journal, place_of
from booking_resilience.journal.reader import Reader
from booking_resilience.monitor.rate import AlertRule
from booking_resilience.monitor.reading import MonitorReader
from booking_resilience.monitor.record import ErrorRecord, ErrorStats

T = TypeVar("T")


class FleetMonitor(MonitorReader):
    """The monitor of all processes that write a journal. It answers from what it has read, and never waits.

    A thread reads the journal ten times a second. Numbers and groups are of all records that were read; of the records
    the newest are kept. Also a context manager, which closes it; the journal stays open. A forked child reads on by
    itself, without listeners.

    Args:
        journal: What the processes write.
        capacity: Records that are kept; 1 or more.
        window: Seconds over which the error rate is taken; above 0.
        alert: When the rate is worth an alert.
        on_alert: Told of each `AlertEvent` of the fleet, in one process of those that have an `on_alert`, on a thread
            of its own. It should return within 4 seconds, or another process's is called, too; what it raises is
            logged.

    Raises:
        TypeError: If a setting is of the wrong type, or a function that would have to be awaited.
        ValueError: If a setting is out of its range.
    """

    _fleet = True

    def __init__(
        self,
        journal: Journal,
        *,
        capacity: int = 10_000,
        window: float = 60.0,
        alert: AlertRule = AlertRule(),  # noqa: B008 - a frozen value
        on_alert: Listener[AlertEvent] | None = None,
    ) -> None:
        check_journal(journal)
        check_whole("capacity", capacity)
        check_number("window", window, above=True)
        check_type("alert", alert, isinstance(alert, AlertRule), "an AlertRule")
        if on_alert is not None:
            check_callback("on_alert", on_alert, "a function of the event, or None")
        self._journal, self._window = journal, window
        self._reader = Reader(journal, capacity, window, alert, on_alert)

    def stats(self) -> ErrorStats:
        """Return the numbers of all processes; `total` is the records in the journal and those since removed."""
        return super().stats()

    def processes(self) -> list[ProcessStatus]:
        """Return the processes that write the journal, the one seen last first; forgotten after its `max_age`."""
        return self._read(Reader.processes)

    @property
    def stale_since(self) -> datetime.datetime | None:
        """When reading began to fail (aware UTC), or None if the monitor is up to date.

        Until the first reading is through, it is the moment when the monitor was made.
        """
        return self._reader.stale_since()

    @property
    def listener_errors(self) -> int:
        """How often a listener or `on_alert` has raised."""
        return self._reader.teller.raised

    def subscribe(self, listener: Listener[ErrorRecord]) -> Subscription:
        """Call the listener with each record that any process makes from now on.

        It is called on the thread that reads, under no lock; what it raises is logged.
        """
        check_callback("listener", listener, "a function of the record")
        return self._reader.subscribe(listener)

    def close(self) -> None:
        """Stop reading; what is known can still be asked. Closing twice is harmless."""
        self._reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<FleetMonitor of {place_of(self._journal)}: {self._reader.store.total} records>"

    def _read(self, what: Callable[[Reader], T]) -> T:
        with self._reader.lock:
            return what(self._reader)
