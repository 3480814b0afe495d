"""Errors per minute over the last 24 hours, by severity and by group, and what the alert did meanwhile."""

from __future__ import annotations

import datetime
import operator
from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from booking_resilience.checks import check, check_whole
from booking_resilience.events import AlertEvent
from booking_resilience.monitor.record import Severity, as_datetime

MOST_MINUTES = 1440
_GROUPS = 200
_ALERTS = 1000

Rows: TypeAlias = dict[Severity, dict[int, int]]
"""Records of each severity in each minute since 1970 that had any, 1,440 of them at most."""


@dataclass(frozen=True, slots=True)
class AlertTransition(AlertEvent):
    """An `AlertEvent` of the past.

    Attributes:
        at: When it was noticed, aware UTC.
    """

    at: datetime.datetime


@dataclass(frozen=True, slots=True)
class History:
    """How many records there were in each whole minute.

    Attributes:
        minutes: When each minute began, aware UTC, oldest first; the last one is still running.
        by_severity: The records of each minute, for every severity.
        by_group: The records of each minute by the group's fingerprint, for the 200 groups seen last; groups without a
            record in these minutes are left out.
        alerts: What the alert did in these minutes, oldest first.
    """

    minutes: tuple[datetime.datetime, ...]
    by_severity: dict[Severity, tuple[int, ...]]
    by_group: dict[str, tuple[int, ...]]
    alerts: tuple[AlertTransition, ...]


def new_transitions() -> deque[AlertTransition]:
    """Return where the alert's transitions are kept: the last ones."""
    return deque(maxlen=_ALERTS)


class MinuteTable:
    """Records per minute, of each of the groups last seen and of all others together. Not thread-safe by itself."""

    def __init__(self) -> None:
        self._groups: OrderedDict[str, Rows] = OrderedDict()
        self._others: Rows = {}

    def add(self, fingerprint: str, severity: Severity, moment: float, count: int = 1) -> None:
        """Count records of that moment, in seconds since 1970; their group is the one last seen now."""
        rows = self._groups.get(fingerprint)
        if rows is None:
            rows = self._groups[fingerprint] = {}
            if len(self._groups) > _GROUPS:
                for old, row in self._groups.popitem(last=False)[1].items():
                    for minute, old_count in row.items():
                        _count(self._others, old, minute, old_count)
        else:
            self._groups.move_to_end(fingerprint)
        _count(rows, severity, int(moment // 60), count)

    def read(self, now: float, minutes: int, transitions: Iterable[AlertTransition]) -> History:
        """Return what there was in the last minutes."""
        check_whole("minutes", minutes)
        check("minutes", minutes, minutes <= MOST_MINUTES, f"a whole number from 1 to {MOST_MINUTES}")
        first = int(now // 60) - minutes + 1
        none = tuple([0] * minutes)
        by_severity, by_group = dict.fromkeys(Severity, none), {}
        for fingerprint, rows in (*reversed(self._groups.items()), ("", self._others)):
            group = none
            for severity, row in rows.items():
                counts = [row.get(minute, 0) for minute in range(first, first + minutes)]
                by_severity[severity] = tuple(map(operator.add, by_severity[severity], counts))
                group = tuple(map(operator.add, group, counts))
            if fingerprint and any(group):
                by_group[fingerprint] = group
        start = as_datetime(first * 60.0)
        return History(
            tuple(start + datetime.timedelta(minutes=place) for place in range(minutes)),
            by_severity,
            by_group,
            tuple(transition for transition in transitions if transition.at >= start),
        )


def _count(rows: Rows, severity: Severity, minute: int, count: int) -> None:
    row = rows.setdefault(severity, {})
    row[minute] = row.get(minute, 0) + count
    if len(row) > MOST_MINUTES:
        del row[min(row)]
