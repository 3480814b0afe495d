"""One monitor for all processes: journals, which many processes write, and the monitor of all that they wrote."""

from booking_resilience.journal.books import ProcessStatus
from booking_resilience.journal.fleet import FleetMonitor
from booking_resilience.journal.protocol import Journal
from booking_resilience.journal.redis import RedisJournal
from booking_resilience.journal.sqlite import SQLiteJournal

__all__ = ["FleetMonitor", "Journal", "ProcessStatus", "RedisJournal", "SQLiteJournal"]


def __dir__() -> list[str]:
    return sorted(__all__)
