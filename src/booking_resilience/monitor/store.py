"""Keep records, bounded, and so that one kind of error never displaces the others."""

from __future__ import annotations

import datetime
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

from booking_resilience.events import ErrorCategory
from booking_resilience.monitor.history import MinuteTable
from booking_resilience.monitor.record import COUNTED, ErrorRecord, Outcome, Severity, as_datetime

_FIRST, _LAST = 5, 20
_QUOTA = _FIRST + _LAST


@dataclass(frozen=True, slots=True)
class ErrorGroup:
    """Errors of one kind: the same category, operation, types and place; or refusals of one breaker or limit.

    Attributes:
        fingerprint: What they have in common, as 16 hexadecimal digits.
        category: Their category.
        operation: Their operation; for refusals, the name of the breaker or limit.
        error_type: Their type.
        count: How many there were, those no longer kept included.
        first_seen: When the first came, aware UTC.
        last_seen: When the last came, aware UTC.
    """

    fingerprint: str
    category: ErrorCategory
    operation: str
    error_type: str
    count: int
    first_seen: datetime.datetime
    last_seen: datetime.datetime


@dataclass(slots=True)
class Group:
    """A group: when it began, its last record, how many there were, and those that are kept, oldest first."""

    first_seen: float
    last: ErrorRecord
    count: int = 0
    common: list[ErrorRecord] = field(default_factory=list)
    critical: list[ErrorRecord] = field(default_factory=list)


class _Ring:
    """Records of which at most `capacity` are kept; which one goes is told by how many of its group there are.

    Attributes:
        capacity: How many may be kept.
        size: How many are kept.
        dropped: How many are no longer kept.
    """

    __slots__ = ("_by_size", "capacity", "dropped", "size")

    def __init__(self, capacity: int) -> None:
        self.capacity: int = capacity
        # Ordered, since a plain dictionary that is emptied from its beginning gets slow to look at there.
        self._by_size: list[OrderedDict[int, list[ErrorRecord]]] = [OrderedDict() for _ in range(_QUOTA + 1)]
        self.size: int = 0
        self.dropped: int = 0

    def grown(self, records: list[ErrorRecord]) -> ErrorRecord | None:
        """Note that a group has one record more; return the one that goes for it, if one does."""
        self._move(records, len(records) - 1, len(records))
        self.size += 1
        return self.surplus()

    def surplus(self) -> ErrorRecord | None:
        """Drop the record that goes first, if there are too many, and return it."""
        if self.size <= self.capacity:
            return None
        # One of the largest group; of several, of the one that has been so large for longest.
        size = next(size for size in range(_QUOTA, 0, -1) if self._by_size[size])
        largest = next(iter(self._by_size[size].values()))
        gone = largest.pop(min(_FIRST, (size - 1) // 2))  # the oldest but the first ones
        self._move(largest, size, size - 1)
        self.size -= 1
        self.dropped += 1
        return gone

    def _move(self, records: list[ErrorRecord], old: int, new: int) -> None:
        self._by_size[old].pop(id(records), None)
        if new:
            self._by_size[new][id(records)] = records


class RecordStore:
    """Keeps `capacity` records, and as many critical ones in a ring of their own.

    Each ring keeps the first 5 and the last 20 of each group. If that is still too much, the largest group loses one,
    so that no group ever displaces a smaller one. Not thread-safe by itself.

    Attributes:
        minutes: The records of each minute; `settle` first.
    """

    def __init__(self, capacity: int) -> None:
        self._common, self._critical = _Ring(capacity), _Ring(capacity)
        self._groups: dict[str, Group] = {}
        self._bare: OrderedDict[str, None] = OrderedDict()  # groups of which no record is kept
        self._tallies: dict[tuple[ErrorCategory, Severity, Outcome], int] = {}
        self.minutes: MinuteTable = MinuteTable()
        self._new: dict[int, list[Any]] = {}  # a kind, and how many of it came in this minute since `settle`
        self._minute = 0.0

    def add(self, record: ErrorRecord) -> bool:
        """Keep a record, and drop what that makes too many; tell whether it counts for the rate."""
        kind, moment = record._kind, record._moment
        group = self._groups.get(kind.fingerprint)
        if group is None:
            group = self._groups[kind.fingerprint] = Group(moment, record)
        group.count += 1
        group.last = record
        if not self._minute <= moment < self._minute + 60.0:
            self.settle()
            self._minute = moment // 60 * 60
        new = self._new.get(id(kind)) or self._new.setdefault(id(kind), [kind, 0])
        new[1] += 1
        is_critical = kind.severity is Severity.CRITICAL
        ring, records = (self._critical, group.critical) if is_critical else (self._common, group.common)
        records.append(record)
        if len(records) > _QUOTA:
            del records[_FIRST]
            ring.dropped += 1
        else:
            self._bare.pop(kind.fingerprint, None)
            gone = ring.grown(records)
            if gone is not None and gone is not record:
                self._forget(gone._kind.fingerprint)
        return kind.severity in COUNTED

    def settle(self) -> None:
        """Count the records that were added since the last time; counting each by itself would take longer."""
        for kind, count in self._new.values():
            tally = kind.category, kind.severity, kind.outcome
            self._tallies[tally] = self._tallies.get(tally, 0) + count
            self.minutes.add(kind.fingerprint, kind.severity, self._minute, count)
        self._new.clear()

    def resize(self, capacity: int) -> None:
        """Keep so many records from now on, and drop at once what that makes too many."""
        for ring in (self._common, self._critical):
            ring.capacity = capacity
            while (gone := ring.surplus()) is not None:
                self._forget(gone._kind.fingerprint)

    def _forget(self, fingerprint: str) -> None:
        """Forget the group that has been without records for longest, if this one has none left and they are many."""
        group = self._groups[fingerprint]
        if not group.common and not group.critical:
            self._bare[fingerprint] = None
            if len(self._bare) > self._common.capacity:
                del self._groups[self._bare.popitem(last=False)[0]]

    @property
    def dropped(self) -> int:
        """How many records are no longer kept."""
        return self._common.dropped + self._critical.dropped

    @property
    def group_count(self) -> int:
        """How many groups there are."""
        return len(self._groups)

    def count(self, what: object) -> int:
        """Return how many records there were of a category, a severity or an outcome."""
        return sum(count for tally, count in self._tallies.items() if what in tally)

    def records(self) -> list[ErrorRecord]:
        """Return what is kept, newest first."""
        records = [record for group in self._groups.values() for record in (*group.common, *group.critical)]
        return sorted(records, key=lambda record: record._number, reverse=True)

    def groups(self) -> list[ErrorGroup]:
        """Return the groups, the one seen last first."""
        return [
            ErrorGroup(
                group.last.fingerprint,
                group.last.category,
                group.last._kind.group,
                group.last.error_type,
                group.count,
                as_datetime(group.first_seen),
                group.last.timestamp,
            )
            for group in sorted(self._groups.values(), key=lambda group: group.last._number, reverse=True)
        ]
