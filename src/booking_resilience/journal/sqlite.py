"""A journal in a file: SQLite with a write-ahead log, for all processes of one machine."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from typing import Any

from booking_resilience import clock
from booking_resilience.checks import check_number, check_type, check_whole
from booking_resilience.journal import forks
from booking_resilience.journal.entries import RECORD, Cursor, Page, surplus
from booking_resilience.journal.sqlite_file import Connection, check_file, keep_for_good
from booking_resilience.journal.writer import close_writer

_PRUNE_EVERY = 20.0
_OLD_AT_ONCE = 10_000  # records removed with one batch
_PART = "SELECT * FROM (SELECT * FROM {} WHERE position > :start ORDER BY position LIMIT :limit)"
_READ = f"{_PART.format('records')} UNION ALL {_PART.format('notes')} ORDER BY position LIMIT :limit"


class SQLiteJournal:
    """A journal in a file, which all processes of one machine may write and read at once.

    The file is made when something is to be written, readable by its owner only, and made anew if it is deleted. While
    it is locked, full or damaged nothing is lost as long as no more than 10,000 records wait.

    Args:
        path: Where the file is; its folder must be there, and on a local disk.
        max_age: Seconds for which records are kept; above 0.
        max_records: Records that are kept at most; 1 or more.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If a setting is out of its range, or the file is there and no journal.
    """

    def __init__(self, path: str | os.PathLike[str], *, max_age: float = 604_800.0, max_records: int = 100_000) -> None:
        check_type("path", path, isinstance(path, (str, os.PathLike)), "a path")
        check_number("max_age", max_age, above=True)
        check_whole("max_records", max_records)
        self._path = os.path.realpath(path)
        self._place: str = f"the journal {self._path}"
        self.max_age: float = max_age
        self.max_records: int = max_records
        check_file(self._path)
        self._is_closed = False
        self._begin()
        forks.journals.add(self)

    def _begin(self) -> None:
        self._writing, self._reading = Connection(self._path), Connection(self._path)
        self._next_prune = time.monotonic() + _PRUNE_EVERY / 4

    def append(self, entries: Sequence[bytes]) -> None:
        """Append all entries in one transaction.

        Raises:
            TypeError: If an entry isn't bytes.
            sqlite3.Error: If the file cannot be written.
        """
        for data in entries:
            check_type("an entry", data, isinstance(data, bytes), "bytes")
        with self._open(self._writing, create=True) as db, _transaction(db):
            position = max(_top(db), int(clock.timestamp() * 1e6))
            rows = [(position + place, data) for place, data in enumerate(entries, 1)]
            records = [row for row in rows if row[1].startswith(RECORD)]
            db.executemany("INSERT INTO records VALUES (?, ?)", records)
            db.executemany("INSERT INTO notes VALUES (?, ?)", [row for row in rows if not row[1].startswith(RECORD)])
            removed = self._remove_old(db, len(records))
            db.execute("UPDATE numbers SET records = records + ?", (len(records) - removed,))
            if time.monotonic() >= self._next_prune:
                self._next_prune = time.monotonic() + _PRUNE_EVERY
                self._prune(db)
        if not self._writing.is_current():  # deleted meanwhile: what was written is gone with it
            raise sqlite3.OperationalError("the file was deleted")

    def read(self, after: Cursor = None, limit: int = 1000) -> tuple[list[bytes], Cursor]:
        """Return the next entries after a cursor, at most `limit`, and the cursor after the last of them.

        Raises:
            sqlite3.Error: If the file cannot be read.
        """
        page = self._page(after, limit)
        return [data for _, data in page.entries], page.cursor

    def _page(self, after: Cursor, limit: int) -> Page:
        """Return the next entries with what else a reader of this library's wants to know."""
        with self._open(self._reading, create=False) as db:
            if db is None:
                return Page([], after, clock.timestamp(), None)
            with _transaction(db, "BEGIN"):
                start = -1 if after is None or after > _top(db) else after
                rows = db.execute(_READ, {"start": start, "limit": limit}).fetchall()
                oldest = _oldest(db)
        return Page(rows, rows[-1][0] if rows else after, clock.timestamp(), oldest)

    def close(self) -> None:
        """Write what waits, for up to 2 s, and close the file. Closing twice is harmless."""
        if not self._is_closed:
            close_writer(self)
            self._is_closed = True
            for connection in (self._writing, self._reading):
                with connection.lock:
                    connection.close()

    def __repr__(self) -> str:
        return f"<SQLiteJournal {self._path}>"

    @contextlib.contextmanager
    def _open(self, connection: Connection, *, create: bool) -> Iterator[Any]:
        with connection.lock:
            if self._is_closed:
                raise ValueError("the journal is closed")
            try:
                yield connection.open(create=create)
            except BaseException:
                connection.close()  # whatever it was, the next time begins anew
                raise

    def _remove_old(self, db: sqlite3.Connection, new: int) -> int:
        """Remove records that are too old or too many; return how many."""
        count = db.execute("SELECT records FROM numbers").fetchone()[0] + new
        removed = 0
        if count > self.max_records:
            last = db.execute(
                "SELECT position FROM records ORDER BY position LIMIT 1 OFFSET ?", (count - self.max_records - 1,)
            ).fetchone()
            if last is not None:
                removed += db.execute("DELETE FROM records WHERE position <= ?", last).rowcount
        cutoff = int(max(0.0, clock.timestamp() - self.max_age) * 1e6)
        old = "SELECT position FROM records WHERE position < ? ORDER BY position LIMIT ?"
        removed += db.execute(f"DELETE FROM records WHERE position IN ({old})", (cutoff, _OLD_AT_ONCE)).rowcount  # noqa: S608 - both parts are constants
        return removed

    def _prune(self, db: sqlite3.Connection) -> None:
        notes = db.execute("SELECT position, substr(entry, 1, 32) FROM notes ORDER BY position").fetchall()
        gone = surplus(notes, _oldest(db), clock.timestamp(), self.max_age, self.max_records)
        db.executemany("DELETE FROM notes WHERE position = ?", [(position,) for position in gone])

    # -- forks: SQLite's connections and locks must not be carried over one

    def pause(self, end: float) -> bool:
        """Close the connections over a fork; tell whether nobody was using them."""
        held: list[Connection] = []
        for connection in (self._writing, self._reading):
            if not connection.lock.acquire(timeout=max(0.0, end - time.monotonic())):
                for other in held:
                    other.lock.release()
                return False
            held.append(connection)
        for connection in held:
            connection.close()
        return True

    def resume(self) -> None:
        """Go on after a fork."""
        for connection in (self._writing, self._reading):
            connection.lock.release()

    def reborn(self, *, was_paused: bool) -> None:
        """Go on in a child process."""
        if not was_paused:  # what the parent is in the middle of is the parent's: never closed, never used
            for connection in (self._writing, self._reading):
                keep_for_good(connection.db)
                connection.db = None
        self._begin()


@contextlib.contextmanager
def _transaction(db: sqlite3.Connection, begin: str = "BEGIN IMMEDIATE") -> Iterator[None]:
    db.execute(begin)
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            db.execute("ROLLBACK")
        raise


def _top(db: sqlite3.Connection) -> int:
    """Return the last position; 0 if there is none."""
    sql = "SELECT max(coalesce((SELECT max(position) FROM records), 0), coalesce((SELECT max(position) FROM notes), 0))"
    return int(db.execute(sql).fetchone()[0])


def _oldest(db: sqlite3.Connection) -> int | None:
    found = db.execute("SELECT min(position) FROM records").fetchone()[0]
    return None if found is None else int(found)
