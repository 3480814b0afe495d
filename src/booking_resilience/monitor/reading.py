"""How to query a monitor: what `ErrorMonitor` and `FleetMonitor` share."""

from __future__ import annotations

import abc
import dataclasses
import os
from collections.abc import AsyncGenerator, Callable
from typing import Any, Protocol, TypeVar

from booking_resilience import clock
from booking_resilience.checks import check_number, check_whole
from booking_resilience.events import ErrorCategory
from booking_resilience.monitor import export as exports
from booking_resilience.monitor.history import History
from booking_resilience.monitor.record import ErrorRecord, ErrorStats, MonitorSnapshot, Severity, member_of
from booking_resilience.monitor.store import ErrorGroup

T = TypeVar("T")
_SHOWN = 50


class View(Protocol):
    """What a monitor knows. Of its `store` there are `records()` and `groups()`, the newest first."""

    store: Any

    def stats(self) -> ErrorStats:
        """Return the numbers."""
        ...

    def history(self, minutes: int) -> History:
        """Return the counts of the last minutes, and what the alert did."""
        ...


class MonitorReader(abc.ABC):
    """Numbers, records, groups, history and exports of a monitor. Every query also updates the alert."""

    _fleet = False  # whether exports have host and pid
    _window: float

    @property
    def error_rate(self) -> float:
        """Errors and critical errors per minute, over the window."""
        return self.stats().error_rate

    @property
    def alerting(self) -> bool:
        """Whether the alert fires."""
        return self.stats().alert is not None

    def stats(self) -> ErrorStats:
        """Return the numbers."""
        return self._read(lambda view: view.stats())

    def recent(
        self,
        limit: int = 50,
        *,
        category: ErrorCategory | str | None = None,
        severity: Severity | str | None = None,
    ) -> list[ErrorRecord]:
        """Return at most `limit` of the kept records, newest first; only of a `category` or `severity`, if given.

        Raises:
            ValueError: If `limit` is below 0, or category or severity is unknown.
        """
        check_whole("limit", limit, 0)
        category = None if category is None else member_of(ErrorCategory, category)
        severity = None if severity is None else member_of(Severity, severity)
        records: list[ErrorRecord] = self._read(lambda view: view.store.records())
        return [r for r in records if category in (None, r.category) and severity in (None, r.severity)][:limit]

    def groups(self, limit: int = 20) -> list[ErrorGroup]:
        """Return at most `limit` groups, the one seen last first.

        Raises:
            ValueError: If `limit` is below 0.
        """
        check_whole("limit", limit, 0)
        groups: list[ErrorGroup] = self._read(lambda view: view.store.groups())
        return groups[:limit]

    def history(self, minutes: int = 60) -> History:
        """Return how many records there were in each of the last minutes, and what the alert did meanwhile.

        Args:
            minutes: How many minutes, the running one included; a whole number from 1 to 1440.

        Raises:
            TypeError: If `minutes` isn't a number.
            ValueError: If it is out of its range.
        """
        return self._read(lambda view: view.history(minutes))

    def snapshot(self) -> MonitorSnapshot:
        """Return what a dashboard shows."""
        stats, records = self._read(lambda view: (view.stats(), view.store.records()))
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

    def to_json(self) -> str:
        """Return everything that is kept as a JSON document."""
        return exports.to_json(self._exported())

    def to_jsonl(self) -> str:
        """Return everything that is kept as JSON Lines."""
        return exports.to_jsonl(self._exported())

    def to_csv(self, *, excel: bool = False) -> str:
        """Return the kept records as CSV; with `excel`, with a byte order mark and at most 32,767 characters a cell."""
        return exports.to_csv(self._exported()[1:], excel=excel, fleet=self._fleet)

    def export(self, path: str | os.PathLike[str], *, excel: bool = False) -> None:
        """Write everything that is kept to a file, all or nothing, readable by its owner only.

        Args:
            path: Where; its suffix says the format.
            excel: Whether a CSV file is for Excel, see `to_csv`.

        Raises:
            ValueError: If the path ends in none of .json, .jsonl, .csv.
            OSError: If the file cannot be written; an old one stays whole.
        """
        suffix = exports.check_suffix(path)
        if suffix == ".csv":
            text = self.to_csv(excel=excel)
        else:
            text = self.to_json() if suffix == ".json" else self.to_jsonl()
        exports.write_file(path, text)

    async def export_async(self, path: str | os.PathLike[str], *, excel: bool = False) -> None:
        """Do the same as `export` in a worker thread, under asyncio or trio."""
        exports.check_suffix(path)
        await clock.off_loop(self.export, path, excel=excel)

    @abc.abstractmethod
    def _read(self, what: Callable[[View], T]) -> T:
        """Return what `what` reads, all of one moment."""

    def _exported(self) -> list[dict[str, Any]]:
        """Return what an export contains: first what is beside the records, then each record, newest first."""
        stats, groups, records = self._read(lambda view: (view.stats(), view.store.groups(), view.store.records()))
        head = {
            "schema": exports.FLEET_SCHEMA if self._fleet else exports.SCHEMA,
            "generated_at": clock.utc_now(),
            "window_seconds": self._window,
            "stats": dataclasses.asdict(stats),
            "alert": None if stats.alert is None else dataclasses.asdict(stats.alert),
            "groups": [dataclasses.asdict(group) for group in groups],
        }
        more = ("host", "pid") if self._fleet else ()
        return [head, *({**record.to_dict(), **{name: getattr(record, name) for name in more}} for record in records)]
