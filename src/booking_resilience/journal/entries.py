"""The entries of a journal: bytes with a short head, and what stands in them as JSON.

The head tells the journals what they have to know: the entry's kind, its ID and, of a record, the stack that it needs.
All else is the readers' business.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

from booking_resilience.events import ErrorCategory
from booking_resilience.monitor.record import Details, ErrorRecord, Kind, Origin, Severity, make_record
from booking_resilience.monitor.redact import Cleaner
from booking_resilience.monitor.stacks import Frames, frames_of

RECORD, STACK, HEARTBEAT, CLAIM, TOLD, SECRET = b"r", b"s", b"h", b"c", b"t", b"k"
STACK_AGAIN = 60.0  # seconds of use after which a process writes a stack again, so that its age tells its use
_STACK_GRACE = 10 * STACK_AGAIN
_STACKS, _CLAIMS = 10_000, 1000  # kept though nothing needs them
_HEAD = struct.Struct(">c16s8s")
_NO_STACK = bytes(8)

Cursor: TypeAlias = Any


@runtime_checkable
class Journal(Protocol):
    """An ordered log of entries, which are bytes. Write one of your own, or use those that come with the library."""

    def append(self, entries: Sequence[bytes], /) -> object:
        """Append all of the entries, or raise and append none; one thread at a time calls this."""
        ...

    def read(self, after: Cursor = None, limit: int = 1000) -> tuple[Sequence[bytes], Cursor]:
        """Return the next entries after a cursor (None is the beginning), in the same order to all readers.

        Returns:
            At most `limit` entries, and the cursor after the last of them; at the end none and `after`.
        """
        ...

    def close(self) -> object:
        """Close it; closing twice is harmless."""
        ...


class Page(NamedTuple):
    """What a journal of this library's tells its readers: entries with their positions, and more.

    A position is when the entry was appended, in microseconds since 1970 on the journal's clock; no two are the same.

    Attributes:
        entries: Position and entry.
        cursor: After which to go on.
        now: The journal's clock, in seconds since 1970.
        oldest: The position of the oldest record that is there; None if there is none.
    """

    entries: list[tuple[int, bytes]]
    cursor: Cursor
    now: float
    oldest: int | None


class Head(NamedTuple):
    """The head of an entry: its kind, its ID and the stack that it needs."""

    kind: bytes
    id: bytes
    needs: bytes


def entry(kind: bytes, id: bytes, facts: Any, needs: bytes = _NO_STACK) -> bytes:  # noqa: A002 - the field's own name
    """Return an entry."""
    return _HEAD.pack(kind, id, needs) + json.dumps(facts, separators=(",", ":"), allow_nan=False).encode()


def head_of(data: bytes) -> Head:
    """Return an entry's head.

    Raises:
        struct.error: If the bytes are no entry.
    """
    return Head(*_HEAD.unpack_from(data))


def facts_of(data: bytes) -> Any:
    """Return what stands in an entry.

    Raises:
        ValueError: If it is no JSON.
    """
    return json.loads(data[_HEAD.size :].decode())


class StackEntry(NamedTuple):
    """A stack's entry and ID, and what it was made of, which is kept alive by it."""

    id: bytes
    data: bytes
    made_of: object


class StackEntries:
    """Makes entries of what records have in common: their kind with its stack, and the stacks of their causes."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, ...], StackEntry] = {}

    def of(self, record: ErrorRecord) -> StackEntry:
        """Return the entry of a record's stack."""
        kind, causes = record._kind, record._details.causes
        key = (id(kind), *(id(stack) for _, stack in causes))
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= _CLAIMS:
                self._known.clear()
            found = self._known[key] = _stack_entry(kind, [stack for _, stack in causes], record._origin)
        return found


def _stack_entry(kind: Kind, causes: list[Any], origin: Origin) -> StackEntry:
    cleaner = Cleaner(origin.redact)
    own_stack: Any = kind.stack  # of a record that was made here, so no text
    *texts, own = [frames_of(stack, cleaner) for stack in (*reversed(causes), own_stack)]
    facts = [*kind[: Kind._fields.index("stack")], kind.group, own, texts[::-1]]
    stack = hashlib.blake2b(json.dumps(facts).encode(), digest_size=8).digest()
    return StackEntry(stack, entry(STACK, stack * 2, facts), (kind, causes))


def record_entry(record: ErrorRecord, id: bytes, stack: bytes, offset: float) -> bytes:  # noqa: A002 - as above
    """Return the entry of a record.

    Args:
        record: The record.
        id: The entry's ID.
        stack: The ID of the stack.
        offset: Seconds by which the journal's clock is ahead of this process's.
    """
    details = record._details
    rare = {
        name: [line for line, _ in details.causes] if name == "causes" else value
        for name, value in details._asdict().items()
        if name != "id" and value != _DEFAULTS[name]
    }
    facts = [record.id, record._moment, offset, record.host, record.pid, record.message, *([rare] if rare else [])]
    return entry(RECORD, id, facts, stack)


_DEFAULTS = Details()._asdict()


class ReadRecord(NamedTuple):
    """A record as it was read, and when it was made and arrived on the journal's clock, in seconds since 1970."""

    record: ErrorRecord
    moment: float
    arrived: float = 0.0


class Stacks:
    """The stacks that a reader has met; makes records with them."""

    def __init__(self) -> None:
        self._facts: dict[bytes, list[Any]] = {}
        self._kinds: dict[bytes, Kind] = {}

    def __contains__(self, stack: bytes) -> bool:
        return stack in self._facts

    def add(self, head: Head, data: bytes) -> bytes:
        """Take a stack's entry; return its ID."""
        stack = head.id[:8]
        self._facts.setdefault(stack, facts_of(data))
        return stack

    def record(self, needs: bytes, data: bytes) -> ReadRecord:
        """Return the record of an entry whose stack is there."""
        id_, moment, offset, host, pid, message, *rare = facts_of(data)
        facts = self._facts[needs]
        details: dict[str, Any] = {**rare[0]} if rare else {}
        if details:
            lines, frames = details.get("causes", ()), map(Frames, facts[-1])
            details["causes"] = tuple(zip(lines, frames, strict=False))
            for name in ("attempt_errors", "notes"):
                details[name] = tuple(details.get(name, ()))
        return ReadRecord(
            make_record(self._kind(needs, facts), Details(**details, id=id_), message, moment, Origin(host, pid)),
            moment + offset,
        )

    def _kind(self, needs: bytes, facts: list[Any]) -> Kind:
        kind = self._kinds.get(needs)
        if kind is None:
            named = dict(zip(Kind._fields, facts[:-3], strict=False))
            named["category"], named["severity"] = ErrorCategory(named["category"]), Severity(named["severity"])
            group, frames, _ = facts[-3:]
            kind = Kind(**named, stack=Frames(frames), group=group)
            if len(self._kinds) >= _STACKS:
                self._kinds.clear()
            self._kinds[needs] = kind
        return kind


def surplus(
    notes: Iterable[tuple[int, bytes]], oldest: int | None, now: float, max_age: float, records: int
) -> list[int]:
    """Return the positions of entries other than records that nothing needs any more.

    Of each stack the first and the last entry are kept, and both go when no record is there that came before the last
    one was `_STACK_GRACE` old. Of a process the last heartbeat is kept, of secrets the first, of claims the newest.

    Args:
        notes: Position and at least the head of each, in order.
        oldest: The position of the oldest record; None if there is none.
        now: The journal's clock, in seconds since 1970.
        max_age: Seconds after which a process is forgotten.
        records: How many records are kept at most.
    """
    kinds: dict[bytes, dict[bytes, list[int]]] = {}
    for position, data in notes:
        head = head_of(data)
        kinds.setdefault(head.kind, {}).setdefault(head.id, []).append(position)
    gone: list[int] = []
    needed = min(now * 1e6, oldest or now * 1e6) - _STACK_GRACE * 1e6
    stacks = sorted(kinds.get(STACK, {}).values(), key=lambda places: places[-1], reverse=True)
    for place, places in enumerate(stacks):
        is_needed = places[-1] >= needed and place < records + _STACKS
        gone += places[1:-1] if is_needed else places
    for places in kinds.get(HEARTBEAT, {}).values():
        gone += places[:-1] if places[-1] >= (now - max_age) * 1e6 else places
    for kind, kept in ((CLAIM, slice(None, -_CLAIMS)), (TOLD, slice(None, -_CLAIMS)), (SECRET, slice(1, None))):
        gone += sorted(place for places in kinds.get(kind, {}).values() for place in places)[kept]
    return gone


class Seen:
    """The numbers that a writer's records had so far, as ranges: they come one after the other, as a rule."""

    __slots__ = ("_ranges",)

    def __init__(self) -> None:
        self._ranges: list[list[int]] = []  # [first, one beyond the last], ascending, with gaps between

    def add(self, number: int) -> bool:
        """Note a number; tell whether it is new."""
        ranges = self._ranges
        place = len(ranges)
        while place and ranges[place - 1][0] > number:
            place -= 1
        if place and number < ranges[place - 1][1]:
            return False
        joins_left = bool(place) and ranges[place - 1][1] == number
        joins_right = place < len(ranges) and ranges[place][0] == number + 1
        if joins_left and joins_right:
            ranges[place - 1][1] = ranges.pop(place)[1]
        elif joins_left:
            ranges[place - 1][1] = number + 1
        elif joins_right:
            ranges[place][0] = number
        else:
            ranges.insert(place, [number, number + 1])
        return True
