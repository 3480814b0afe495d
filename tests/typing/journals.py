"""How journals look to type checkers: checked by mypy and pyright, never run."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Any, assert_type

from booking_resilience import AlertRule, ErrorGroup, ErrorMonitor, ErrorRecord, ErrorStats, Severity, Subscription
from booking_resilience.journal import FleetMonitor, Journal, ProcessStatus, RedisJournal, SQLiteJournal
from booking_resilience.monitor import AlertTransition, History


class Mine:
    """A journal of one's own."""

    def append(self, entries: Sequence[bytes]) -> None:
        """Append."""

    def read(self, after: Any = None, limit: int = 1000) -> tuple[list[bytes], Any]:
        """Read."""
        return [], after

    def close(self) -> None:
        """Close."""


journals: list[Journal] = [
    SQLiteJournal("errors.db"),
    SQLiteJournal(Path("errors.db"), max_age=60, max_records=10),
    RedisJournal("redis://localhost", stream="errors", max_age=60.0, max_records=10, client=None),
    Mine(),
]
monitor = ErrorMonitor(journal=journals[0])
assert_type(monitor.flush(), bool)
assert_type(monitor.flush(timeout=0.5), bool)
history = monitor.history(minutes=5)
assert_type(history, History)
assert_type(history.minutes, tuple[datetime.datetime, ...])
assert_type(history.by_severity, dict[Severity, tuple[int, ...]])
assert_type(history.by_group, dict[str, tuple[int, ...]])
assert_type(history.alerts, tuple[AlertTransition, ...])
assert_type(history.alerts[0].at, datetime.datetime)

with FleetMonitor(Mine(), capacity=5, window=60, alert=AlertRule(), on_alert=lambda event: event.peak) as fleet:
    assert_type(fleet, FleetMonitor)
    assert_type(fleet.stats(), ErrorStats)
    assert_type(fleet.recent(5, severity="error"), list[ErrorRecord])
    assert_type(fleet.recent()[0].host, str | None)
    assert_type(fleet.recent()[0].pid, int | None)
    assert_type(fleet.groups(), list[ErrorGroup])
    assert_type(fleet.processes(), list[ProcessStatus])
    assert_type(fleet.processes()[0].last_seen, datetime.datetime)
    assert_type(fleet.stale_since, datetime.datetime | None)
    assert_type(fleet.history(), History)
    assert_type(fleet.subscribe(lambda record: record.pid), Subscription)
fleet.close()
