"""The entries of a journal: bytes with a binary head, and JSON behind it.

The head tells what has to be known of every entry: its kind and its ID, and of a record its stack and moment. The JSON
of a record is read only when somebody asks for the record.
"""

from __future__ import annotations

import bisect
import hashlib
import json
import struct
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

from booking_resilience.callbacks import is_coroutine_function
from booking_resilience.checks import check_type
from booking_resilience.events import ErrorCategory
from booking_resilience.monitor.record import Details, ErrorRecord, Kind, Origin, Severity, make_record
from booking_resilience.monitor.redact import Cleaner
from booking_resilience.monitor.stacks import Frames, frames_of

RECORD, STACK, HEARTBEAT, CLAIM, TOLD, SECRET = b"r", b"s", b"h", b"c", b"t", b"k"
STACK_AGAIN = 60.0  # seconds of use after which a process writes a stack again, so that its age tells its use
STACKS = 10_000  # that a journal keeps though no record needs them, and that a reader keeps
_STACK_GRACE = 10 * STACK_AGAIN
_CLAIMS = 1000
HEAD = 17  # bytes: kind and ID
RECORD_HEAD = struct.Struct(">c8sQ8sdd")  # kind, writer, number, stack, moment, how far the journal's clock is ahead

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


def check_journal(journal: Any) -> None:
    """Check that something is a journal.

    Raises:
        TypeError: If it lacks a method, or has one that would have to be awaited.
    """
    for name in ("append", "read", "close"):
        method = getattr(journal, name, None)
        is_right = callable(method) and not isinstance(journal, type) and not is_coroutine_function(method)
        check_type("journal", journal, is_right, f"a journal, whose {name} is a plain function")


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


def entry(kind: bytes, id: bytes, facts: Any) -> bytes:  # noqa: A002 - the field's own name
    """Return an entry that isn't a record; its ID has 16 bytes."""
    return kind + id + _json(facts)


def facts_of(data: bytes) -> Any:
    """Return the content of an entry that isn't a record.

    Raises:
        ValueError: If it isn't JSON.
    """
    return json.loads(data[HEAD:])


def _json(facts: Any) -> bytes:
    return json.dumps(facts, separators=(",", ":"), allow_nan=False).encode()


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


_DEFAULTS = Details()._asdict()


def record_entry(record: ErrorRecord, writer: bytes, number: int, stack: bytes, ahead: float) -> bytes:
    """Return the entry of a record.

    Args:
        record: The record.
        writer: The ID of who writes it, 8 bytes.
        number: Its number among those of the writer.
        stack: The ID of its stack.
        ahead: Seconds by which the journal's clock is ahead of this process's.
    """
    details = record._details
    rare = {
        name: [line for line, _ in details.causes] if name == "causes" else value
        for name, value in details._asdict().items()
        if name != "id" and value != _DEFAULTS[name]
    }
    head = RECORD_HEAD.pack(RECORD, writer, number, stack, record._moment, ahead)
    return head + _json([record.id, record.host, record.pid, record.message, *([rare] if rare else [])])


class Stack:
    """A stack that a reader has met: what its records have in common.

    Attributes:
        kind: The kind of its records.
    """

    __slots__ = ("_causes", "kind")

    def __init__(self, data: bytes) -> None:
        *plain, group, frames, self._causes = facts_of(data)
        named = dict(zip(Kind._fields, plain, strict=False))
        named["category"], named["severity"] = ErrorCategory(named["category"]), Severity(named["severity"])
        self.kind: Kind = Kind(**named, stack=Frames(frames), group=group)

    def record(self, moment: float, data: bytes) -> ErrorRecord:
        """Return the record of an entry.

        Raises:
            Exception: If it is none.
        """
        id_, host, pid, message, *rare = json.loads(data[RECORD_HEAD.size :])
        details: dict[str, Any] = {**rare[0]} if rare else {}
        if details:
            details["causes"] = tuple(zip(details.get("causes", ()), map(Frames, self._causes), strict=False))
            for name in ("attempt_errors", "notes"):
                details[name] = tuple(details.get(name, ()))
        return make_record(self.kind, Details(**details, id=id_), message, moment, Origin(host, pid))


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
        kinds.setdefault(data[:1], {}).setdefault(data[1:HEAD], []).append(position)
    gone: list[int] = []
    needed = min(now * 1e6, oldest or now * 1e6) - _STACK_GRACE * 1e6
    stacks = sorted(kinds.get(STACK, {}).values(), key=lambda places: places[-1], reverse=True)
    for place, places in enumerate(stacks):
        is_needed = places[-1] >= needed and place < records + STACKS
        gone += places[1:-1] if is_needed else places
    for places in kinds.get(HEARTBEAT, {}).values():
        gone += places[:-1] if places[-1] >= (now - max_age) * 1e6 else places
    for kind, kept in ((CLAIM, slice(None, -_CLAIMS)), (TOLD, slice(None, -_CLAIMS)), (SECRET, slice(1, None))):
        gone += sorted(place for places in kinds.get(kind, {}).values() for place in places)[kept]
    return gone


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
