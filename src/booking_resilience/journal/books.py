"""What the monitor of a fleet knows of what it has read: records, groups, numbers, processes. Pure."""

from __future__ import annotations

import bisect
import datetime
from array import array
from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import Any, cast

from booking_resilience.events import ErrorCategory
from booking_resilience.journal.entries import Head, ReadRecord, Seen, Stacks, facts_of
from booking_resilience.monitor.history import MinuteTable
from booking_resilience.monitor.rate import SlidingRate
from booking_resilience.monitor.record import OUTCOMES, ErrorRecord, Outcome, Severity, as_datetime, set_number
from booking_resilience.monitor.store import ErrorGroup

_SKEWED = 0.5  # seconds between a process's clock and the journal's above which records are ordered by the latter
_PENDING = 10_000  # records that wait for their stack at most
_SEEN = 10_000
_COUNTED = (Severity.ERROR, Severity.CRITICAL)


@dataclass(frozen=True, slots=True)
class ProcessStatus:
    """One process that writes the journal; a process that is started anew is another one.

    Attributes:
        host: The machine's name.
        pid: The process's ID.
        started: When it began to write, on the journal's clock, aware UTC.
        last_seen: When it was last heard of.
        records: How many records it has written.
        unjournaled: How many it could not write, because too many waited.
    """

    host: str
    pid: int
    started: datetime.datetime
    last_seen: datetime.datetime
    records: int
    unjournaled: int


class _Group:
    __slots__ = ("count", "first", "last")

    def __init__(self, read: ReadRecord) -> None:
        self.count = 0
        self.first = self.last = read


class Books:
    """Everything that was read. Not safe to share by itself.

    Args:
        capacity: Records that are kept.
        rate: Where errors are counted.
    """

    def __init__(self, capacity: int, rate: SlidingRate) -> None:
        self.rate: SlidingRate = rate
        self.minutes: MinuteTable = MinuteTable()
        self.total: int = 0
        self.dropped: int = 0
        self._capacity = capacity
        self._records: deque[ErrorRecord] = deque(maxlen=capacity)
        self._groups: OrderedDict[str, _Group] = OrderedDict()
        self._tallies: dict[tuple[ErrorCategory, Severity, Outcome], int] = {}
        self._stacks = Stacks()
        self._pending: dict[bytes, list[tuple[int, bytes]]] = {}
        self._seen: OrderedDict[bytes, Seen] = OrderedDict()
        self._processes: dict[bytes, dict[bytes, list[Any]]] = {}  # the last heartbeat of each of their writers
        self._positions = array("q")  # of the records that are still in the journal
        self._first = 0

    def stack(self, head: Head, data: bytes, now: float) -> list[ReadRecord]:
        """Read a stack; return the records that waited for it."""
        stack = self._stacks.add(head, data)
        return [self._enter(stack, record, position, now) for position, record in self._pending.pop(stack, [])]

    def record(self, head: Head, data: bytes, position: int, now: float) -> list[ReadRecord]:
        """Read a record; return it, unless it was read before or waits for its stack.

        Args:
            head: The entry's head.
            data: The entry.
            position: Its position; 0 if the journal does not tell.
            now: The journal's clock, in seconds since 1970.
        """
        writer, number = head.id[:8], int.from_bytes(head.id[8:], "big")
        seen = self._seen.get(writer)
        if seen is None:
            seen = self._seen[writer] = Seen()
            if len(self._seen) > _SEEN:
                self._seen.popitem(last=False)
        if not seen.add(number):
            return []
        if head.needs not in self._stacks:
            if sum(map(len, self._pending.values())) < _PENDING:
                self._pending.setdefault(head.needs, []).append((position, data))
            return []
        return [self._enter(head.needs, data, position, now)]

    def _enter(self, needs: bytes, data: bytes, position: int, now: float) -> ReadRecord:
        read = self._stacks.record(needs, data)._replace(arrived=position / 1e6)
        record, moment = read.record, min(read.moment, now)
        kind, timestamp = record._kind, read.record._moment
        is_skewed = abs(read.moment - cast("float", timestamp)) > _SKEWED
        set_number(record, int((moment if is_skewed else cast("float", timestamp)) * 1e6))
        self.total += 1
        if position:
            self._positions.append(position)
        self._records.append(record)
        tally = kind.category, kind.severity, kind.outcome
        self._tallies[tally] = self._tallies.get(tally, 0) + 1
        self.minutes.add(kind.fingerprint, kind.severity, moment)
        if kind.severity in _COUNTED and moment > now - self.rate.window:
            self.rate.add_late(moment)
        group = self._groups.get(kind.fingerprint)
        if group is None:
            group = self._groups[kind.fingerprint] = _Group(read)
            if len(self._groups) > self._capacity:
                self._groups.popitem(last=False)
        else:
            self._groups.move_to_end(kind.fingerprint)
        group.count += 1
        if record._number >= group.last.record._number:
            group.last = read
        if record._number < group.first.record._number:
            group.first = read
        return read

    def heartbeat(self, head: Head, data: bytes) -> None:
        """Read a heartbeat."""
        facts = facts_of(data)
        beats = self._processes.setdefault(head.id[:8], {})
        known = beats.get(head.id[8:])
        if known is None or known[3] <= facts[3]:
            beats[head.id[8:]] = facts

    def remove_before(self, oldest: int | None) -> None:
        """Note that the journal has only records from this position on, or none."""
        end = len(self._positions)
        first = end if oldest is None else bisect.bisect_left(self._positions, oldest, lo=self._first)
        if first > self._first:
            self.dropped += first - self._first
            self._first = first
            if first > 10_000 and first * 2 > end:
                del self._positions[:first]
                self._first = 0

    def records(self) -> list[ErrorRecord]:
        """Return the newest records, newest first."""
        return sorted(self._records, key=lambda record: record._number, reverse=True)

    def groups(self) -> list[ErrorGroup]:
        """Return the groups, the one seen last first."""
        groups = sorted(self._groups.values(), key=lambda group: group.last.record._number, reverse=True)
        found = []
        for group in groups:
            first, last = group.first.record, group.last.record
            found.append(
                ErrorGroup(
                    last.fingerprint, last.category, last._kind.group, last.error_type, group.count,
                    first.timestamp, last.timestamp,
                )
            )  # fmt: skip
        return found

    def group_count(self) -> int:
        """Return how many groups there are."""
        return len(self._groups)

    def counts(self) -> dict[Outcome, int]:
        """Return how many records there were of each outcome."""
        return {outcome: self.count(outcome) for outcome in OUTCOMES}

    def count(self, what: object) -> int:
        """Return how many records there were of a category, a severity or an outcome."""
        return sum(count for key, count in self._tallies.items() if what in key)

    def processes(self, now: float, max_age: float) -> list[ProcessStatus]:
        """Return the processes that were seen in the last `max_age` seconds, the one seen last first."""
        found = []
        for id_, writers in list(self._processes.items()):
            beats = list(writers.values())
            started, seen = min(beat[2] for beat in beats), max(beat[3] for beat in beats)
            if now - seen > max_age:
                del self._processes[id_]
                continue
            found.append(
                ProcessStatus(
                    host=beats[0][0],
                    pid=beats[0][1],
                    started=as_datetime(started),
                    last_seen=as_datetime(seen),
                    records=sum(beat[4] for beat in beats),
                    unjournaled=sum(beat[5] for beat in beats),
                )
            )
        return sorted(found, key=lambda status: status.last_seen, reverse=True)
