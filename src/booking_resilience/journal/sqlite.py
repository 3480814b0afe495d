"""A journal in a file: SQLite with a write-ahead log, for all processes of one machine."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from booking_resilience import clock
from booking_resilience.checks import check_number, check_type, check_whole
from booking_resilience.journal.entries import RECORD, Cursor, Page, surplus
from booking_resilience.journal.writer import close_writer, pausing

_APPLICATION = 0x62724A31  # "brJ1": what tells our files from others
_BUSY = 0.5  # seconds that one waits for another process that writes
_PRUNE_EVERY = 20.0
_OLD_AT_ONCE = 10_000  # records removed with one batch
_TABLES = """
CREATE TABLE records (position INTEGER PRIMARY KEY, entry BLOB NOT NULL);
CREATE TABLE notes (position INTEGER PRIMARY KEY, entry BLOB NOT NULL);
CREATE TABLE numbers (records INTEGER NOT NULL);
INSERT INTO numbers VALUES (0);
"""
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
        self.place: str = f"the journal {self._path}"
        self.max_age, self.max_records = max_age, max_records
        _check_file(self._path)
        self._is_closed = False
        self._begin()
        pausing.add(self)

    def _begin(self) -> None:
        self._writing, self._reading = _Connection(self._path), _Connection(self._path)
        self._next_prune = time.monotonic() + _PRUNE_EVERY / 4

    def append(self, entries: Sequence[bytes]) -> None:
        """Append all entries in one transaction.

        Raises:
            TypeError: If an entry is no bytes.
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
        page = self.page(after, limit)
        return [data for _, data in page.entries], page.cursor

    def page(self, after: Cursor, limit: int) -> Page:
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
    def _open(self, connection: _Connection, *, create: bool) -> Iterator[Any]:
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
        held: list[_Connection] = []
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
            _keep_for_good(self._writing.db, self._reading.db)
        self._begin()


class _Connection:
    """A connection to the file that lies at the path just now."""

    def __init__(self, path: str) -> None:
        self.lock = threading.Lock()
        self.db: sqlite3.Connection | None = None
        self._path = path
        self._file: tuple[int, int] | None = None

    def open(self, *, create: bool) -> sqlite3.Connection | None:
        """Return the connection; None if there is no file and none is to be made."""
        if self.db is not None and self.is_current():
            return self.db
        self.close()
        if not _is_there(self._path):
            if not create:
                return None
            _make(self._path)
        before = _identity(self._path)
        db = _connect(self._path)
        try:
            if db.execute("PRAGMA application_id").fetchone()[0] != _APPLICATION:
                raise sqlite3.DatabaseError("the file is no journal")
            db.execute("PRAGMA synchronous = NORMAL")
            db.execute("PRAGMA journal_size_limit = 4194304")
        except BaseException:
            db.close()
            raise
        if before != _identity(self._path):
            db.close()
            raise sqlite3.OperationalError("the file was replaced just now")
        self.db, self._file = db, before
        return db

    def is_current(self) -> bool:
        """Tell whether the file is still the one at the path."""
        return self._file == _identity(self._path)

    def close(self) -> None:
        """Close it, if it is open."""
        db, self.db, self._file = self.db, None, None
        if db is not None:
            with contextlib.suppress(sqlite3.Error):
                db.close()


def _check_file(path: str) -> None:
    """Check that a file, if there is one, is a journal; nothing is written, nor any lock of this process's dropped.

    Raises:
        ValueError: If it is something else.
    """
    if Path(path).is_dir():
        raise ValueError(f"path must be a journal or a new file, not the folder {path!r}")
    if not _is_there(path):
        return
    try:
        db = sqlite3.connect(f"{Path(path).as_uri()}?immutable=1", uri=True)
        with contextlib.closing(db):
            is_ours = db.execute("PRAGMA application_id").fetchone()[0] == _APPLICATION
    except sqlite3.OperationalError:  # it cannot be read now: it counts as gone
        return
    except sqlite3.DatabaseError:
        is_ours = False
    if not is_ours:
        raise ValueError(f"path must be a journal or a new file; {path!r} is something else")


def _connect(path: str) -> sqlite3.Connection:
    uri = f"{Path(path).as_uri()}?mode=rw"
    return sqlite3.connect(uri, uri=True, timeout=_BUSY, isolation_level=None, check_same_thread=False)


def _is_there(path: str) -> bool:
    try:
        return Path(path).stat().st_size > 0  # an empty file is as good as none
    except FileNotFoundError:
        return False


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = Path(path).stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _make(path: str) -> None:
    """Make the file, complete before it gets its name; what is left of a former one's log goes first."""
    handle, beside = tempfile.mkstemp(prefix=".journal-", suffix=".tmp", dir=Path(path).parent)  # mode 0600
    os.close(handle)
    try:
        with contextlib.closing(_connect(beside)) as db:
            db.execute("PRAGMA journal_mode = WAL")
            db.executescript(f"BEGIN; PRAGMA application_id = {_APPLICATION}; {_TABLES} COMMIT")
        with _folder_locked(Path(path).parent):
            if not _is_there(path):
                for rest in ("-wal", "-shm", "-journal"):
                    Path(path + rest).unlink(missing_ok=True)
                Path(beside).replace(path)
    finally:
        for rest in ("", "-wal", "-shm", "-journal"):
            Path(beside + rest).unlink(missing_ok=True)


@contextlib.contextmanager
def _folder_locked(folder: Path) -> Iterator[None]:
    """Keep other processes from making the same file; where that cannot be done, the chance is small."""
    try:
        import fcntl

        handle = os.open(folder, os.O_RDONLY)
    except (ImportError, OSError):
        yield
        return
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


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


def _keep_for_good(*things: object) -> None:
    """Have the things never be freed, not even at the end: their memory belongs to a connection of the parent's."""
    with contextlib.suppress(ImportError):
        import ctypes

        for thing in things:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))
