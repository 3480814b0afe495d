"""Errors per minute over the last 24 hours, by severity and by group, and what the alert did meanwhile."""

from __future__ import annotations

import bisect
import datetime
import math
from array import array
from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass

from booking_resilience.checks import check, check_whole
from booking_resilience.events import AlertEvent
from booking_resilience.monitor.record import Severity, as_datetime

MOST_MINUTES = 1440
_GROUPS = 200
_ALERTS = 1000


@dataclass(frozen=True, slots=True)
class AlertTransition(AlertEvent):
    """A start, repeat or end of the alert, and when it was noticed, aware UTC."""

    at: datetime.datetime


@dataclass(frozen=True, slots=True)
class History:
    """How many records there were in each whole minute.

    Attributes:
        minutes: When each minute began, aware UTC, oldest first; the last one is still running.
        by_severity: The records of each minute, for every severity.
        by_group: The records of each minute by the group's fingerprint, for the 200 groups that were last seen; groups
            without a record in these minutes are left out.
        alerts: What the alert did in these minutes, oldest first.
    """

    minutes: tuple[datetime.datetime, ...]
    by_severity: dict[Severity, tuple[int, ...]]
    by_group: dict[str, tuple[int, ...]]
    alerts: tuple[AlertTransition, ...]


def new_transitions() -> deque[AlertTransition]:
    """Return where the alert's transitions are kept: the last ones."""
    return deque(maxlen=_ALERTS)


class Minutes:
    """How many records there were in each minute that had any, the last 1,440 of them.

    Records come by the thousand in one minute, so who adds them increments `counts[slot]` itself while the moment is
    in [begin, end), and asks the `MinuteTable` otherwise.
    """

    __slots__ = ("_numbers", "begin", "counts", "end", "slot")

    def __init__(self) -> None:
        self._numbers = array("q")  # minutes since 1970, ascending
        self.counts: array[int] = array("Q")
        self.slot: int = 0
        self.begin: float = math.inf
        self.end: float = -math.inf

    def turn_to(self, number: int) -> None:
        """Make this the minute that is counted."""
        numbers, counts = self._numbers, self.counts
        if len(numbers) >= MOST_MINUTES and number not in numbers:
            del numbers[0], counts[0]
        slot = bisect.bisect_left(numbers, number)
        if slot == len(numbers) or numbers[slot] != number:
            numbers.insert(slot, number)
            counts.insert(slot, 0)
        self.slot, self.begin, self.end = slot, number * 60.0, number * 60.0 + 60.0

    def move_to(self, other: Minutes) -> None:
        """Add these to another one's; nothing is counted here any more."""
        for number, count in zip(self._numbers, self.counts, strict=True):
            other.turn_to(number)
            other.counts[other.slot] += count
        self.begin, self.end = math.inf, -math.inf

    def add_to(self, totals: list[int], first: int) -> None:
        """Add to the totals of the minutes from `first` on."""
        start = bisect.bisect_left(self._numbers, first)
        for number, count in zip(self._numbers[start:], self.counts[start:], strict=True):
            if number - first < len(totals):
                totals[number - first] += count


class MinuteTable:
    """The minutes of the groups that were last seen, and of all others together. Not safe to share by itself."""

    def __init__(self) -> None:
        self._groups: OrderedDict[str, dict[Severity, Minutes]] = OrderedDict()
        self._others = {severity: Minutes() for severity in Severity}

    def turn(self, fingerprint: str, severity: Severity, moment: float) -> Minutes:
        """Return where to count a record of that moment; it is the group last seen now."""
        group = self._groups.setdefault(fingerprint, {})
        self._groups.move_to_end(fingerprint)
        if len(self._groups) > _GROUPS:
            for old_severity, minutes in self._groups.popitem(last=False)[1].items():
                minutes.move_to(self._others[old_severity])
        minutes = group.setdefault(severity, Minutes())
        minutes.turn_to(int(moment // 60))
        return minutes

    def read(self, now: float, minutes: int, transitions: Iterable[AlertTransition]) -> History:
        """Return what there was in the last minutes.

        Raises:
            TypeError: If `minutes` is no number.
            ValueError: If it is not from 1 to 1440.
        """
        check_whole("minutes", minutes)
        check("minutes", minutes, minutes <= MOST_MINUTES, f"a whole number from 1 to {MOST_MINUTES}")
        first = int(now // 60) - minutes + 1
        by_severity = {severity: [0] * minutes for severity in Severity}
        by_group = {}
        for severity, others in self._others.items():
            others.add_to(by_severity[severity], first)
        for fingerprint, rows in reversed(self._groups.items()):
            totals = [0] * minutes
            for severity, row in rows.items():
                row.add_to(totals, first)
                row.add_to(by_severity[severity], first)
            if any(totals):
                by_group[fingerprint] = tuple(totals)
        start = as_datetime(first * 60.0)
        return History(
            tuple(start + datetime.timedelta(minutes=place) for place in range(minutes)),
            {severity: tuple(totals) for severity, totals in by_severity.items()},
            by_group,
            tuple(transition for transition in transitions if transition.at >= start),
        )
