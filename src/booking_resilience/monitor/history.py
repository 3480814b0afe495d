"""Errors per minute over the last 24 hours, by severity and by group, and what the alert did meanwhile."""

from __future__ import annotations

import datetime
from collections import Counter, OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from booking_resilience.checks import check, check_whole
from booking_resilience.events import AlertEvent
from booking_resilience.monitor.record import Severity, as_datetime

MOST_MINUTES = 1440
_GROUPS = 200
_ALERTS = 1000

Counts: TypeAlias = "Counter[tuple[Severity, int]]"
"""Records of each severity in each minute since 1970 that had any; about a day's at most."""


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
        self._groups: OrderedDict[str, Counts] = OrderedDict()
        self._others: Counts = Counter()

    def add(self, fingerprint: str, severity: Severity, moment: float, count: int = 1) -> None:
        """Count records of that moment, in seconds since 1970; their group is the one last seen now."""
        minute = int(moment // 60)
        counts = self._groups.setdefault(fingerprint, Counter())
        self._groups.move_to_end(fingerprint)
        counts[severity, minute] += count
        if len(self._groups) > _GROUPS:
            _, gone = self._groups.popitem(last=False)
            self._others.update(gone)
            counts = self._others
        if len(counts) > MOST_MINUTES * len(Severity):
            newest = max(minute for _, minute in counts)
            for key in [key for key in counts if key[1] <= newest - MOST_MINUTES]:
                del counts[key]

    def read(self, now: float, minutes: int, transitions: Iterable[AlertTransition]) -> History:
        """Return what there was in the last minutes.

        Raises:
            TypeError: If `minutes` isn't a number.
            ValueError: If it is not from 1 to 1440.
        """
        check_whole("minutes", minutes)
        check("minutes", minutes, minutes <= MOST_MINUTES, f"a whole number from 1 to {MOST_MINUTES}")
        first = int(now // 60) - minutes + 1
        by_severity = {severity: [0] * minutes for severity in Severity}
        by_group: dict[str, tuple[int, ...]] = {}
        for fingerprint, counts in (*reversed(self._groups.items()), ("", self._others)):
            group = [0] * minutes
            for (severity, minute), count in counts.items():
                if 0 <= minute - first < minutes:
                    by_severity[severity][minute - first] += count
                    group[minute - first] += count
            if fingerprint and any(group):
                by_group[fingerprint] = tuple(group)
        start = as_datetime(first * 60.0)
        return History(
            tuple(start + datetime.timedelta(minutes=place) for place in range(minutes)),
            {severity: tuple(counts) for severity, counts in by_severity.items()},
            by_group,
            tuple(transition for transition in transitions if transition.at >= start),
        )
