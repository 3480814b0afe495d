"""What the journals of this library share: settings, reading, upkeep and closing."""

from __future__ import annotations

import abc
import time
from collections.abc import Iterable, Sequence
from typing import Any

from booking_resilience.checks import check_number, check_type, check_whole
from booking_resilience.journal.entries import CLAIM, HEAD, HEARTBEAT, SECRET, STACK, STACK_AGAIN, STACKS, TOLD
from booking_resilience.journal.protocol import Cursor, Page
from booking_resilience.journal.writer import close_writer

_PRUNE_EVERY = 20.0  # seconds
_STACK_GRACE = 10 * STACK_AGAIN
_CLAIMS = 1000


class StoredJournal(abc.ABC):
    """A journal that is stored at a place. `max_age` and `max_records` are as they were given."""

    def __init__(self, place: str, max_age: float, max_records: int) -> None:
        check_number("max_age", max_age, above=True)
        check_whole("max_records", max_records)
        self._place = f"the journal {place}"
        self.max_age: float = max_age
        self.max_records: int = max_records
        self._is_closed = False
        self._next_prune = time.monotonic() + _PRUNE_EVERY / 4

    def append(self, entries: Sequence[bytes]) -> None:
        """Append all entries, or none.

        Raises:
            TypeError: If an entry isn't bytes.
            ValueError: If the journal is closed.
            Exception: SQLite's or the Redis client's, if the journal cannot be written.
        """
        for data in entries:
            check_type("an entry", data, isinstance(data, bytes), "bytes")
        is_due = time.monotonic() >= self._next_prune
        self._check_open()
        self._append(entries, prune=is_due)
        if is_due:
            self._next_prune = time.monotonic() + _PRUNE_EVERY

    def read(self, after: Cursor = None, limit: int = 1000) -> tuple[list[bytes], Cursor]:
        """Return the next entries after a cursor, at most `limit`, and the cursor after the last of them.

        Raises:
            TypeError: If the limit is no number.
            ValueError: If the limit is no whole number of 1 or more, or the journal is closed.
            Exception: SQLite's or the Redis client's, if the journal cannot be read.
        """
        check_whole("limit", limit)
        page = self._page(after, limit)
        return [data for _, data in page.entries], page.cursor

    def close(self) -> None:
        """Write what waits, for up to 2 s, and close it. Closing twice is harmless."""
        if not self._is_closed:
            close_writer(self)
            self._is_closed = True
            self._disconnect()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._place.removeprefix('the journal ')}>"

    def _page(self, after: Cursor, limit: int) -> Page:
        """Return the next entries with what else a reader of this library's wants to know."""
        self._check_open()
        return self._read(after, limit)

    def _check_open(self) -> None:
        if self._is_closed:
            raise ValueError("the journal is closed")

    @abc.abstractmethod
    def _disconnect(self) -> None:
        """Close the connections."""

    @abc.abstractmethod
    def _append(self, entries: Sequence[bytes], *, prune: bool) -> None:
        """Append entries; remove what nothing needs any more if that is due."""

    @abc.abstractmethod
    def _read(self, after: Any, limit: int) -> Page:
        """Return a page."""


def surplus(
    notes: Iterable[tuple[int, bytes]], oldest: int | None, now: float, max_age: float, max_records: int
) -> list[int]:
    """Return the positions of entries other than records that nothing needs any more.

    Of each stack the first and the last entry are kept, and both go when no record is there that came before the last
    one was `_STACK_GRACE` old. Of a process the last heartbeat is kept, of secrets the first, of claims the newest.

    Args:
        notes: Position and at least the head of each, in order.
        oldest: The position of the oldest record; None if there is none.
        now: The journal's clock, in seconds since 1970.
        max_age: Seconds after which a process is forgotten.
        max_records: Records that are kept at most.
    """
    kinds: dict[bytes, dict[bytes, list[int]]] = {}
    for position, data in notes:
        kinds.setdefault(data[:1], {}).setdefault(data[1:HEAD], []).append(position)
    gone: list[int] = []
    needed = min(now * 1e6, oldest or now * 1e6) - _STACK_GRACE * 1e6
    stacks = sorted(kinds.get(STACK, {}).values(), key=lambda places: places[-1], reverse=True)
    for place, places in enumerate(stacks):
        is_needed = places[-1] >= needed and place < max_records + STACKS
        gone += places[1:-1] if is_needed else places
    for places in kinds.get(HEARTBEAT, {}).values():
        gone += places[:-1] if places[-1] >= (now - max_age) * 1e6 else places
    for kind, kept in ((CLAIM, slice(None, -_CLAIMS)), (TOLD, slice(None, -_CLAIMS)), (SECRET, slice(1, None))):
        gone += sorted(place for places in kinds.get(kind, {}).values() for place in places)[kept]
    return gone
