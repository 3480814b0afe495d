"""Where records are kept: bounded, and so that one kind of error never pushes out the others."""

from __future__ import annotations

import datetime
from collections import OrderedDict
from dataclasses import dataclass
from typing import cast

from booking_resilience.events import ErrorCategory
from booking_resilience.monitor.history import Minutes, MinuteTable
from booking_resilience.monitor.record import ErrorRecord, Kind, Outcome, Severity, as_datetime, number_of

_FIRST, _LAST = 5, 20
_QUOTA = _FIRST + _LAST
_COUNTED = (Severity.ERROR, Severity.CRITICAL)  # for the rate


@dataclass(frozen=True, slots=True)
class ErrorGroup:
    """Errors of one kind: the same category, operation, types and place; or refusals of one breaker or limit.

    Attributes:
        fingerprint: What they have in common, as 16 hexadecimal digits.
        category: Their category.
        operation: Their operation; of refusals the name of the breaker or limit.
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


class Group:
    """A group's count, and its records that are kept."""

    __slots__ = ("count", "first_seen", "kept", "last")

    def __init__(self, record: ErrorRecord) -> None:
        self.count: int = 0
        self.first_seen: float | datetime.datetime = record._moment
        self.last: ErrorRecord = record
        self.kept: dict[str, Shelf] = {}

    def is_bare(self) -> bool:
        """Tell whether no record of it is kept."""
        return not any(shelf.records for shelf in self.kept.values())


class Shelf:
    """Where records of one group, severity and outcome go: the group's in the common or critical ring, oldest first.

    Attributes:
        tally: How many there were of their category, severity and outcome; one cell for all that have these.
        is_counted: Whether they count for the rate.
        minutes: How many of the group and severity there were in each minute.
    """

    __slots__ = ("group", "is_counted", "minutes", "records", "ring", "tally")

    def __init__(self, group: Group, ring: _Ring, tally: list[int], *, is_counted: bool) -> None:
        self.group: Group = group
        self.ring: _Ring = ring
        self.tally: list[int] = tally
        self.is_counted: bool = is_counted
        self.records: list[ErrorRecord] = []
        self.minutes: Minutes = Minutes()


class _Ring:
    """Records of which at most `capacity` are kept; which may go is told by the sizes of the shelves.

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
        """Note that a shelf has one record more; return the one that goes for it, if one does."""
        self._move(records, len(records) - 1, len(records))
        self.size += 1
        return self.surplus()

    def surplus(self) -> ErrorRecord | None:
        """Drop the record that goes first, if there are too many, and return it."""
        if self.size <= self.capacity:
            return None
        # One of the largest shelf; of several, of the one that has been so large for longest.
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
    """Keeps `capacity` records, and critical ones beside them in a ring of their own of the same size.

    Of each group the first 5 and the last 20 are kept in each ring. Where all that is still too much, the largest
    group loses one, so that none ever pushes out another that is smaller. Not safe to share by itself.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._common, self._critical = _Ring(capacity), _Ring(capacity)
        self._groups: dict[str, Group] = {}
        self._shelves: dict[str, Shelf] = {}  # by the key of a kind
        self._bare: OrderedDict[str, None] = OrderedDict()  # groups of which no record is kept
        self._tallies: dict[tuple[ErrorCategory, Severity, Outcome], list[int]] = {}
        self.minutes: MinuteTable = MinuteTable()

    def add(self, record: ErrorRecord) -> bool:
        """Keep a record, and drop what that makes too many; tell whether it counts for the rate."""
        kind = record._kind
        shelf = self._shelves.get(kind.key)
        if shelf is None:
            shelf = self._shelves[kind.key] = self._shelf_for(record, kind)
        group, records = shelf.group, shelf.records
        shelf.tally[0] += 1
        minutes, moment = shelf.minutes, cast("float", record._moment)
        if not minutes.begin <= moment < minutes.end:
            minutes = shelf.minutes = self.minutes.turn(kind.fingerprint, kind.severity, moment)
        minutes.counts[minutes.slot] += 1
        group.count += 1
        group.last = record
        records.append(record)
        if len(records) > _QUOTA:
            del records[_FIRST]
            shelf.ring.dropped += 1
        else:
            self._bare.pop(kind.fingerprint, None)
            gone = shelf.ring.grown(records)
            if gone is not None and gone is not record:
                self._forget(gone._kind.fingerprint)
        return shelf.is_counted

    def resize(self, capacity: int) -> None:
        """Keep so many records from now on, and drop at once what that makes too many."""
        self._capacity = capacity
        for ring in (self._common, self._critical):
            ring.capacity = capacity
            while (gone := ring.surplus()) is not None:
                self._forget(gone._kind.fingerprint)

    def _shelf_for(self, record: ErrorRecord, kind: Kind) -> Shelf:
        group = self._groups.get(kind.fingerprint)
        if group is None:
            group = self._groups[kind.fingerprint] = Group(record)
        ring = self._critical if kind.severity is Severity.CRITICAL else self._common
        tally = self._tallies.setdefault((kind.category, kind.severity, kind.outcome), [0])
        shelf = Shelf(group, ring, tally, is_counted=kind.severity in _COUNTED)
        shelf.records = next((other.records for other in group.kept.values() if other.ring is ring), shelf.records)
        group.kept[kind.key] = shelf
        return shelf

    def _forget(self, fingerprint: str) -> None:
        """Forget the group that has been without records for longest, if this one has none left and they are many."""
        if self._groups[fingerprint].is_bare():
            self._bare[fingerprint] = None
            if len(self._bare) > self._capacity:
                oldest = next(iter(self._bare))
                del self._bare[oldest]
                for key in self._groups.pop(oldest).kept:
                    del self._shelves[key]

    @property
    def dropped(self) -> int:
        """How many records are no longer kept."""
        return self._common.dropped + self._critical.dropped

    def count(self, what: object) -> int:
        """Return how many records there were of a category, a severity or an outcome."""
        return sum(tally[0] for key, tally in self._tallies.items() if what in key)

    def recent(self) -> list[ErrorRecord]:
        """Return what is kept, newest first."""
        lists = {id(shelf.records): shelf.records for shelf in self._shelves.values()}  # some shelves share one
        return sorted((record for kept in lists.values() for record in kept), key=number_of, reverse=True)

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
            for group in sorted(self._groups.values(), key=lambda group: number_of(group.last), reverse=True)
        ]

    def group_count(self) -> int:
        """Return how many groups there are."""
        return len(self._groups)
