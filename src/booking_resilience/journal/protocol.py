"""What a journal is to the processes that write and read it, and how they say that it is in trouble."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

from booking_resilience.callbacks import is_coroutine_function
from booking_resilience.checks import check_type

logger: logging.Logger = logging.getLogger("booking_resilience.journal")


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
        check_type("journal", journal, is_right, f"a journal like SQLiteJournal(path), whose {name} isn't async")


class Page(NamedTuple):
    """What a journal of this library's tells its readers: entries with their positions, and more.

    A position is when the entry was appended, in microseconds since 1970 on the journal's clock; no two are the same.

    Attributes:
        entries: Position and entry.
        cursor: After which to go on.
        oldest: The position of the oldest record that is there; None if there is none.
    """

    entries: list[tuple[int, bytes]]
    cursor: Cursor
    oldest: int | None


class Trouble:
    """Says in the log that a journal can't be `written` or `read`, at what cost, and that it can again; once each."""

    def __init__(self, journal: Any, doing: str, cost: str = "") -> None:
        self._place, self._doing, self._cost, self._is_told = place_of(journal), doing, cost, False

    def failed(self, error: BaseException) -> None:
        """Say that it failed; of the error its type alone, since texts may hold secrets."""
        if not self._is_told:
            self._is_told = True
            self._log(logging.WARNING, f"%s cannot be {self._doing} (%s){self._cost}", type(error).__name__)

    def worked(self) -> None:
        """Say that it works again."""
        if self._is_told:
            self._is_told = False
            self._log(logging.INFO, f"%s is {self._doing} again")

    def _log(self, level: int, text: str, *facts: str) -> None:
        with contextlib.suppress(Exception):  # a logging handler that raises
            logger.log(level, text, self._place, *facts, extra={"journal": self._place})


def place_of(journal: Any) -> str:
    """Return a journal's name for people."""
    return getattr(journal, "_place", None) or f"the journal {type(journal).__name__}"
