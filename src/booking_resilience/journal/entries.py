"""The entries of a journal: bytes with a binary head, and JSON behind it.

The head tells what has to be known of every entry: its kind and its ID, and of a record its stack and moment. The JSON
of a record is read only when somebody asks for the record.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from typing import Any

from booking_resilience.events import ErrorCategory
from booking_resilience.monitor.export import check_fields, parsed
from booking_resilience.monitor.record import Details, ErrorRecord, Kind, Origin, Severity, make_record
from booking_resilience.monitor.redact import Cleaner
from booking_resilience.monitor.stacks import Frames, frames_of

RECORD, STACK, HEARTBEAT, CLAIM, TOLD, SECRET = b"r", b"s", b"h", b"c", b"t", b"k"
STACK_AGAIN = 60.0  # seconds of use after which a process writes a stack again, so that its age tells its use
STACKS = 10_000  # that a journal keeps though no record needs them, and that a reader keeps
_KNOWN = 1000
HEAD = 17  # bytes: kind and ID
RECORD_HEAD = struct.Struct(">c8sQ8sdd")  # kind, writer, number, stack, moment, how far the journal's clock is ahead


def entry(kind: bytes, id: bytes, facts: Any) -> bytes:  # noqa: A002 - the field's own name
    """Return an entry that isn't a record; its ID has 16 bytes."""
    return kind + id + _json(facts)


def facts_of(data: bytes) -> Any:
    """Return the content of an entry that isn't a record.

    Raises:
        ValueError: If it isn't JSON.
    """
    return parsed(data[HEAD:].decode())


def _json(facts: Any) -> bytes:
    return json.dumps(facts, separators=(",", ":"), allow_nan=False).encode()


class StackEntry:
    """A stack's entry.

    Attributes:
        id: Its ID, 8 bytes.
        data: The entry.
        sent: When the writer has written it last, on the monotonic clock.
    """

    def __init__(self, kind: Kind, causes: list[Any], origin: Origin) -> None:
        self._made_of = kind, causes  # keeps alive what `StackEntries` knows by its `id()`
        cleaner = Cleaner(origin.redact)
        own_stack: Any = kind.stack  # of a record that was made here, so no text
        *texts, own = [frames_of(stack, cleaner) for stack in (*reversed(causes), own_stack)]
        facts = [*kind[: Kind._fields.index("stack")], kind.group, own, texts[::-1]]
        self.id: bytes = hashlib.blake2b(json.dumps(facts).encode(), digest_size=8).digest()
        self.data: bytes = entry(STACK, self.id * 2, facts)
        self.sent: float = -math.inf


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
            if len(self._known) >= _KNOWN:
                self._known.clear()
            found = self._known[key] = StackEntry(kind, [stack for _, stack in causes], record._origin)
        return found


_DEFAULTS = Details()._asdict()


def record_entry(record: ErrorRecord, writer: bytes, number: int, stack: bytes, ahead: float) -> bytes:
    """Return the entry of a record, which has a number among those of its writer.

    Its writer and its stack have IDs of 8 bytes; `ahead` are the seconds by which the journal's clock is ahead of this
    process's.
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
        tally: Where its records are counted.
    """

    __slots__ = ("_causes", "kind", "tally")

    def __init__(self, data: bytes) -> None:
        *plain, group, frames, self._causes = facts_of(data)
        named: dict[str, Any] = dict(zip(Kind._fields, plain, strict=False))
        check_fields({**named, "stacktrace": frames, "causes": self._causes})
        named["category"], named["severity"] = ErrorCategory(named["category"]), Severity(named["severity"])
        self.kind: Kind = Kind(**named, stack=Frames(frames), group=group)
        self.tally: list[int] = [0]

    def record(self, moment: float, data: bytes) -> ErrorRecord:
        """Return the record of an entry, whatever errors that raises if it is none."""
        id_, host, pid, message, *rare = parsed(data[RECORD_HEAD.size :].decode())
        details: dict[str, Any] = {**rare[0]} if rare else {}
        check_fields({**details, "id": id_, "host": host, "pid": pid, "message": message})
        if details:
            details["causes"] = tuple(zip(details.get("causes", ()), map(Frames, self._causes), strict=False))
            for name in ("attempt_errors", "notes"):
                details[name] = tuple(details.get(name, ()))
        return make_record(self.kind, Details(**details, id=id_), message, moment, Origin(host, pid))
