"""A journal in a file: SQLite with a write-ahead log, for all processes of one machine."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from typing import Any

from booking_resilience import clock
from booking_resilience.checks import check, check_type
from booking_resilience.journal.entries import RECORD
from booking_resilience.journal.protocol import Page
from booking_resilience.journal.sqlite_file import Connection, check_file
from booking_resilience.journal.stored import StoredJournal, surplus

_OLD_AT_ONCE = 10_000  # records removed with one batch
_TOP = "SELECT max(coalesce((SELECT max(position) FROM records), 0), coalesce((SELECT max(position) FROM notes), 0))"
_OLDEST = "SELECT min(position) FROM records"
_READ = "SELECT position, entry FROM {} WHERE position > ? ORDER BY position LIMIT ?"
_NOTES = "SELECT position, substr(entry, 1, 17) FROM notes ORDER BY position"
_TOO_MANY = "DELETE FROM records WHERE position <= (SELECT position FROM records ORDER BY position LIMIT 1 OFFSET ?)"
_TOO_OLD = """DELETE FROM records WHERE position IN
    (SELECT position FROM records WHERE position < ? ORDER BY position LIMIT ?)"""


class SQLiteJournal(StoredJournal):
    """A journal in a file, which all processes of one machine may write and read at once.

    The file is made when something is to be written, readable by its owner only, and made anew if it is deleted. While
    it is locked, full or damaged nothing is lost as long as no more than 10,000 records wait.

    Args:
        path: Where the file is; its folder must be there, and on a local disk.
        max_age: Seconds for which records are kept; above 0.
        max_records: Records that are kept at most; 1 or more.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If a setting is out of its range, the path isn't that of a file on disk (a URL, `:memory:`), or the
            file exists and isn't a journal.
    """

    def __init__(self, path: str | os.PathLike[str], *, max_age: float = 604_800.0, max_records: int = 100_000) -> None:
        check_type("path", path, isinstance(path, (str, os.PathLike)), "a string or a Path")
        name = os.fsdecode(path)
        is_file = name not in ("", ":memory:") and "\0" not in name and "://" not in name
        check("path", path, is_file, "the path of a file on disk")
        place = os.path.realpath(name)
        super().__init__(place, max_age, max_records)
        check_file(place)
        self._writing, self._reading = Connection(place), Connection(place)

    def _disconnect(self) -> None:
        for connection in (self._writing, self._reading):
            with connection.lock:
                connection.close()

    def _append(self, entries: Sequence[bytes], *, prune: bool) -> None:
        with self._writing.transaction(create=True) as db:
            position = max(_number(db, _TOP), int(clock.timestamp() * 1e6))
            rows = [(position + place, data) for place, data in enumerate(entries, 1)]
            records = [row for row in rows if row[1].startswith(RECORD)]
            db.executemany("INSERT INTO records VALUES (?, ?)", records)
            db.executemany("INSERT INTO notes VALUES (?, ?)", [row for row in rows if not row[1].startswith(RECORD)])
            count = _number(db, "SELECT records FROM numbers") + len(records)
            removed = 0
            if count > self.max_records:
                removed = db.execute(_TOO_MANY, (count - self.max_records - 1,)).rowcount
            cutoff = int(max(0.0, clock.timestamp() - self.max_age) * 1e6)
            removed += db.execute(_TOO_OLD, (cutoff, _OLD_AT_ONCE)).rowcount
            db.execute("UPDATE numbers SET records = ?", (count - removed,))
            if prune:
                notes, oldest = db.execute(_NOTES).fetchall(), _number(db, _OLDEST)
                gone = surplus(notes, oldest or None, clock.timestamp(), self.max_age, self.max_records)
                db.executemany("DELETE FROM notes WHERE position = ?", [(place,) for place in gone])
        if not self._writing.is_current():  # deleted meanwhile: what was written is gone with it
            raise sqlite3.OperationalError("the file was deleted")

    def _read(self, after: Any, limit: int) -> Page:
        with self._reading.transaction(create=False) as db:
            if db is None:
                return Page([], after, None)
            start = -1 if after is None or after > _number(db, _TOP) else after
            rows = [row for table in ("records", "notes") for row in db.execute(_READ.format(table), (start, limit))]
            oldest = _number(db, _OLDEST)
        rows = sorted(rows)[:limit]
        return Page(rows, rows[-1][0] if rows else after, oldest or None)


def _number(db: Any, sql: str) -> int:
    """Return the one number that a question is answered with; 0 for none."""
    return db.execute(sql).fetchone()[0] or 0
