"""The file of a journal: made whole, found again at its path, and never mistaken for another one."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from booking_resilience.checks import check
from booking_resilience.journal import forks
from booking_resilience.locks import new_lock

_APPLICATION = 0x62724A31  # "brJ1": what tells our files from others
_BUSY = 0.5  # seconds that one waits for another process that writes
_TABLES = """
CREATE TABLE records (position INTEGER PRIMARY KEY, entry BLOB NOT NULL);
CREATE TABLE notes (position INTEGER PRIMARY KEY, entry BLOB NOT NULL);
CREATE TABLE numbers (records INTEGER NOT NULL);
INSERT INTO numbers VALUES (0);
"""


class Connection(forks.Pausing):
    """A connection to the file that lies at the path just now.

    SQLite's connections and locks must not be carried over a fork, so it is closed before, and opened anew after it.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._begin()
        with forks.registry:
            forks.connections.add(self)

    def _begin(self) -> None:
        self.lock: Any = new_lock()  # its type is private until Python 3.13
        self.fork_locks: tuple[Any, ...] = (self.lock,)
        self._db: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None

    def __del__(self) -> None:
        self.close()

    @contextlib.contextmanager
    def transaction(self, *, create: bool) -> Iterator[Any]:
        """Give the connection for a transaction; None if there is no file and none is to be made."""
        with self.lock:
            try:
                db = self._open(create=create)
                if db is None:
                    yield None
                    return
                db.execute("BEGIN IMMEDIATE" if create else "BEGIN")
                yield db
                db.execute("COMMIT")
            except BaseException:
                self.close()  # whatever it was, it is rolled back, and the next time begins anew
                raise

    def _open(self, *, create: bool) -> sqlite3.Connection | None:
        if self._db is not None and self.is_current():
            return self._db
        self.close()
        if not _is_there(self._path):
            if not create:
                return None
            _make(self._path)
        before = _identity(self._path)
        db = _connect(self._path)
        try:
            if db.execute("PRAGMA application_id").fetchone()[0] != _APPLICATION:
                raise sqlite3.DatabaseError("the file isn't a journal")
            db.execute("PRAGMA synchronous = NORMAL")
            db.execute("PRAGMA journal_size_limit = 4194304")
            if before != _identity(self._path):
                raise sqlite3.OperationalError("the file was replaced just now")
        except BaseException:
            db.close()
            raise
        self._db, self._file = db, before
        return db

    def is_current(self) -> bool:
        """Tell whether the file is still the one at the path."""
        return self._file == _identity(self._path)

    def close(self) -> None:
        """Close it, if it is open."""
        db, self._db, self._file = self._db, None, None
        if db is not None:
            with contextlib.suppress(sqlite3.Error):
                db.close()

    def paused(self) -> None:
        """Close it over a fork."""
        self.close()

    def reborn(self, *, was_paused: bool) -> None:
        """Be closed; one that the parent is in the middle of is the parent's, so it is never freed here."""
        if not was_paused:
            with contextlib.suppress(ImportError):
                import ctypes

                ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._db))
        self._begin()


def check_file(path: str) -> None:
    """Check that a file, if there is one, is a journal; nothing is written, nor any lock of this process's dropped.

    Raises:
        ValueError: If it is something else.
    """
    check("path", path, not Path(path).is_dir(), "a journal or a new file")
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
    check("path", path, is_ours, "a journal or a new file")


def _connect(path: str) -> sqlite3.Connection:
    """Connect; without a cache of statements, which a free-threaded Python lets go of later than the connection."""
    uri = f"{Path(path).as_uri()}?mode=rw"
    return sqlite3.connect(
        uri, uri=True, timeout=_BUSY, isolation_level=None, check_same_thread=False, cached_statements=0
    )


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
