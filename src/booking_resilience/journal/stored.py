"""What the journals of this library share: settings, reading, upkeep and closing."""

from __future__ import annotations

import abc
import time
from collections.abc import Sequence
from typing import Any

from booking_resilience.checks import check_number, check_type, check_whole
from booking_resilience.journal.entries import Cursor, Page
from booking_resilience.journal.writer import close_writer

_PRUNE_EVERY = 20.0  # seconds


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
