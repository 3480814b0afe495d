"""Where records are kept: bounded, and so that one kind of error never pushes out the others."""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from booking_resilience.monitor.record import ErrorCategory, ErrorRecord, Severity

if TYPE_CHECKING:
    import datetime

_FIRST, _LAST = 5, 20


@dataclass(frozen=True, slots=True)
class ErrorGroup:
    """Errors of one kind: the same category, operation, types and place.

    Attributes:
        fingerprint: What they have in common, as 16 hexadecimal digits.
        category: Their category.
        operation: Their operation.
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


class _Group:
    """A group's numbers, and the places of those of its records that may go first: all but its first ones."""

    __slots__ = ("count", "first", "first_seen", "last", "last_record")

    def __init__(self, record: ErrorRecord) -> None:
        self.count = 0
        self.first: deque[int] = deque()
        self.last: deque[int] = deque()
        self.first_seen = record.timestamp
        self.last_record = record


class RecordStore:
    """Keeps `capacity` records, and critical ones beside them in a ring of their own of the same size.

    Of each group the first 5 and the last 20 are kept, so a storm of one kind leaves the others in place. Where all
    that is still too much, the oldest go. Not safe to share by itself.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._records: OrderedDict[int, tuple[ErrorRecord, str]] = OrderedDict()
        self._critical: deque[tuple[int, ErrorRecord]] = deque()
        self._groups: OrderedDict[str, _Group] = OrderedDict()
        self._number = 0
        self.failed: int = 0
        self.recovered: int = 0
        self.dropped: int = 0
        self.by_category: Counter[ErrorCategory] = Counter()
        self.by_severity: Counter[Severity] = Counter()

    def add(self, record: ErrorRecord) -> None:
        """Keep a record, and drop what that makes too many."""
        self._number += 1
        self.by_category[record.category] += 1
        self.by_severity[record.severity] += 1
        if record.outcome == "recovered":
            self.recovered += 1
        else:
            self.failed += 1
        group = self._group_of(record)
        group.count += 1
        group.last_record = record
        if record.severity is Severity.CRITICAL:
            self._critical.append((self._number, record))
            if len(self._critical) > self._capacity:
                self._critical.popleft()
                self.dropped += 1
            return
        self._records[self._number] = (record, record.fingerprint)
        (group.first if len(group.first) < _FIRST else group.last).append(self._number)
        if len(group.last) > _LAST:
            self._drop(group.last.popleft())
        elif len(self._records) > self._capacity:
            number, (_, fingerprint) = next(iter(self._records.items()))
            owner = self._groups.get(fingerprint)
            if owner is not None:
                place = owner.first if owner.first and owner.first[0] == number else owner.last
                if place and place[0] == number:
                    place.popleft()
            self._drop(number)

    def recent(self) -> list[ErrorRecord]:
        """Return what is kept, newest first."""
        kept = [(number, record) for number, (record, _) in self._records.items()]
        return [record for _, record in sorted([*kept, *self._critical], key=lambda item: -item[0])]

    def groups(self) -> list[ErrorGroup]:
        """Return the groups, the one seen last first."""
        return [
            ErrorGroup(
                fingerprint,
                group.last_record.category,
                group.last_record.operation,
                group.last_record.error_type,
                group.count,
                group.first_seen,
                group.last_record.timestamp,
            )
            for fingerprint, group in reversed(self._groups.items())
        ]

    def group_count(self) -> int:
        """Return how many groups there are."""
        return len(self._groups)

    def _group_of(self, record: ErrorRecord) -> _Group:
        group = self._groups.get(record.fingerprint)
        if group is None:
            group = self._groups[record.fingerprint] = _Group(record)
            if len(self._groups) > self._capacity:
                self._groups.popitem(last=False)
        else:
            self._groups.move_to_end(record.fingerprint)
        return group

    def _drop(self, number: int) -> None:
        del self._records[number]
        self.dropped += 1
