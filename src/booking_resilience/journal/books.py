"""What the monitor of a fleet knows of what it has read: records, groups, numbers, processes. Pure.

A journal may hold a million records of which the newest are shown, so counting one must cost little: it is done by the
record's stack, and the record itself is made when somebody asks for it.
"""

from __future__ import annotations

import bisect
import contextlib
import datetime
from array import array
from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import Any

from booking_resilience.checks import check, check_whole
from booking_resilience.journal.entries import HEAD, RECORD_HEAD, STACKS, Stack, facts_of
from booking_resilience.monitor.export import check_fields
from booking_resilience.monitor.history import MinuteTable
from booking_resilience.monitor.rate import SlidingRate
from booking_resilience.monitor.record import COUNTED, ErrorRecord, as_datetime, set_number
from booking_resilience.monitor.store import ErrorGroup

_YEAR_9999 = 253_370_764_800.0  # in seconds since 1970
_SKEWED = 0.5  # seconds between a process's clock and the journal's above which records are ordered by the latter
_PENDING = 10_000  # records that wait for their stack at most
_WRITERS = 10_000


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


class ReadRecord:
    """A record that was read, made when it is asked for.

    Attributes:
        stack: Its stack.
        number: By which records are ordered.
        timestamp: When it was made, on its process's clock, in seconds since 1970.
        moment: The same on the journal's clock.
        arrived: When it came into the journal; 0 if the journal does not tell.
    """

    __slots__ = ("_data", "_record", "arrived", "moment", "number", "stack", "timestamp")

    def __init__(self, stack: Stack, data: bytes, position: int, now: float) -> None:
        self.timestamp: float
        *_, self.timestamp, ahead = RECORD_HEAD.unpack_from(data)
        check("timestamp", self.timestamp, 0.0 <= self.timestamp < _YEAR_9999, "a moment from 1970 on")
        self.stack: Stack = stack
        self.moment: float = self.timestamp + ahead
        self.arrived: float = position / 1e6
        self.number: int = int((min(now, self.moment) if abs(ahead) > _SKEWED else self.timestamp) * 1e6)
        self._data = data
        self._record: ErrorRecord | None = None

    def record(self) -> ErrorRecord | None:
        """Return the record; None if what stands in its entry is none."""
        data = self._data
        if data:
            with contextlib.suppress(Exception):  # whatever somebody wrote there
                record = self.stack.record(self.timestamp, data)
                set_number(record, self.number)
                self._record = record
            self._data = b""  # not before: another thread may ask meanwhile
        return self._record


class Seen:
    """The numbers that a writer's records had so far: as a rule they come one after the other.

    It holds where runs of numbers begin and, one beyond, end, in turn and ascending. A number was seen if it lies
    behind a beginning.
    """

    __slots__ = ("_bounds",)

    def __init__(self) -> None:
        self._bounds: list[int] = []

    def add(self, number: int) -> bool:
        """Note a number; tell whether it is new."""
        bounds = self._bounds
        if bounds and bounds[-1] == number:
            bounds[-1] += 1
            return True
        place = bisect.bisect_right(bounds, number)
        if place % 2:
            return False
        joins_left = place > 0 and bounds[place - 1] == number
        joins_right = place < len(bounds) and bounds[place] == number + 1
        new = ([] if joins_left else [number]) + ([] if joins_right else [number + 1])
        bounds[place - joins_left : place + joins_right] = new
        return True


class _Group:
    __slots__ = ("count", "first", "last")

    def __init__(self, read: ReadRecord) -> None:
        self.count = 0
        self.first = self.last = read


class Books:
    """Everything that was read. Not safe to share by itself.

    Attributes:
        rate: Where errors are counted.
        minutes: The records of each minute.
        total: How many records there were.
        dropped: How many of them the journal has since removed.
    """

    def __init__(self, capacity: int, rate: SlidingRate) -> None:
        self.rate: SlidingRate = rate
        self.minutes: MinuteTable = MinuteTable()
        self.total: int = 0
        self.dropped: int = 0
        self._capacity = capacity
        self._records: deque[ReadRecord] = deque(maxlen=capacity)
        self._groups: OrderedDict[str, _Group] = OrderedDict()
        self._tallies: dict[tuple[Any, ...], list[int]] = {}  # one cell for each category, severity and outcome
        self._stacks: OrderedDict[bytes, Stack] = OrderedDict()  # the one used last at the end
        self._pending: dict[bytes, list[tuple[int, bytes]]] = {}  # records by the stack that they wait for
        self._seen: OrderedDict[bytes, Seen] = OrderedDict()
        self._processes: dict[bytes, dict[bytes, ProcessStatus]] = {}  # the last heartbeat of each of their writers
        self._positions = array("q")  # of the records that are still in the journal

    def stack(self, data: bytes, now: float) -> list[ReadRecord]:
        """Read a stack; return the records that waited for it."""
        id_ = data[1:9]
        if id_ in self._stacks:
            return []
        stack = self._stacks[id_] = Stack(data)
        kind = stack.kind
        stack.tally = self._tallies.setdefault((kind.category, kind.severity, kind.outcome), stack.tally)
        if len(self._stacks) > STACKS:  # a stack that is in use is written again, and then read again
            self._stacks.popitem(last=False)
        return [self._enter(stack, record, position, now) for position, record in self._pending.pop(id_, [])]

    def record(self, data: bytes, position: int, now: float) -> ReadRecord | None:
        """Read a record; return it, unless it was read before or waits for its stack.

        Args:
            data: The entry.
            position: Its position; 0 if the journal does not tell.
            now: The journal's clock, in seconds since 1970.
        """
        _, writer, number, stack, _, _ = RECORD_HEAD.unpack_from(data)
        seen = self._seen.get(writer)
        if seen is None:
            seen = self._seen[writer] = Seen()
            if len(self._seen) > _WRITERS:
                self._seen.popitem(last=False)
        if not seen.add(number):
            return None
        if stack not in self._stacks:
            if sum(map(len, self._pending.values())) < _PENDING:
                self._pending.setdefault(stack, []).append((position, data))
            return None
        self._stacks.move_to_end(stack)
        return self._enter(self._stacks[stack], data, position, now)

    def _enter(self, stack: Stack, data: bytes, position: int, now: float) -> ReadRecord:
        read, kind = ReadRecord(stack, data, position, now), stack.kind
        self.total += 1
        stack.tally[0] += 1
        self._records.append(read)
        if position:
            self._positions.append(position)
        moment = min(now, read.moment)
        self.minutes.add(kind.fingerprint, kind.severity, moment)
        if kind.severity in COUNTED and moment > now - self.rate.window:
            self.rate.add(moment)
        group = self._groups.get(kind.fingerprint)
        if group is None:
            group = self._groups[kind.fingerprint] = _Group(read)
            if len(self._groups) > self._capacity:
                self._groups.popitem(last=False)
        else:
            self._groups.move_to_end(kind.fingerprint)
        group.count += 1
        if read.number >= group.last.number:
            group.last = read
        if read.number < group.first.number:
            group.first = read
        return read

    def heartbeat(self, data: bytes) -> None:
        """Read a heartbeat."""
        host, pid, started, seen, records, unjournaled = facts_of(data)
        check_fields({"host": host, "pid": pid})
        check_whole("records", records, 0)
        check_whole("unjournaled", unjournaled, 0)
        beat = ProcessStatus(host, pid, as_datetime(started), as_datetime(seen), records, unjournaled)
        beats = self._processes.setdefault(data[1:9], {})
        known = beats.get(data[9:HEAD])
        if known is None or known.last_seen <= beat.last_seen:
            beats[data[9:HEAD]] = beat

    def remove_before(self, oldest: int | None) -> None:
        """Note that the journal has only records from this position on, or none."""
        positions = self._positions
        removed = len(positions) if oldest is None else bisect.bisect_left(positions, oldest)
        self.dropped += removed
        del positions[:removed]

    def records(self) -> list[ErrorRecord]:
        """Return the newest records, newest first."""
        reads = sorted(self._records, key=lambda read: read.number, reverse=True)
        return [record for read in reads if (record := read.record()) is not None]

    def groups(self) -> list[ErrorGroup]:
        """Return the groups, the one seen last first."""
        found = []
        for group in sorted(self._groups.values(), key=lambda group: group.last.number, reverse=True):
            kind = group.last.stack.kind
            seen = as_datetime(group.first.timestamp), as_datetime(group.last.timestamp)
            found.append(ErrorGroup(kind.fingerprint, kind.category, kind.group, kind.error_type, group.count, *seen))
        return found

    def group_count(self) -> int:
        """Return how many groups there are."""
        return len(self._groups)

    def count(self, what: object) -> int:
        """Return how many records there were of a category, a severity or an outcome."""
        return sum(cell[0] for key, cell in self._tallies.items() if what in key)

    def processes(self, now: float, max_age: float) -> list[ProcessStatus]:
        """Return the processes that were seen in the last `max_age` seconds, the one seen last first."""
        found = []
        for id_, writers in list(self._processes.items()):
            beats = list(writers.values())
            last_seen = max(beat.last_seen for beat in beats)
            if now - last_seen.timestamp() > max_age:
                del self._processes[id_]
                continue
            started = min(beat.started for beat in beats)
            records, unjournaled = sum(beat.records for beat in beats), sum(beat.unjournaled for beat in beats)
            found.append(ProcessStatus(beats[0].host, beats[0].pid, started, last_seen, records, unjournaled))
        return sorted(found, key=lambda status: status.last_seen, reverse=True)
