"""Which databases there may be, a SQLite file or PostgreSQL, and whether one can be used now."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from booking_resilience.checks import check_text
from booking_resilience.durable.errors import DurableStoreError

PATIENCE: Final = 2.0  # seconds: as long as another may hold the database without a commit
_LOAD: Final = 8.0  # seconds to wait for one's turn among others that do commit
_AHEAD: Final = 262_144  # bytes after which what was written ahead goes into the file
_ROOM: Final = 65_536  # bytes: what one commit may take
_STATEMENTS: Final = 16  # kept by each connection; DBOS has twenty, and its statements vary: 128 would take 40 MB
_UNTOUCHED: Final = "ro&immutable=1"  # takes no lock, makes no file beside, and reads the file as it lies there

_ALLOWED = "'sqlite:///FILE' or 'postgresql://HOST/DATABASE'"


def check_database(database: str) -> None:
    """Check a database's URL as far as that goes without SQLAlchemy.

    Raises:
        TypeError: If it isn't a string.
        ValueError: If it names neither a SQLite file nor PostgreSQL.
    """
    check_text("database", database)
    scheme, _, rest = database.partition("://")
    is_file = scheme == "sqlite" and rest.startswith("/") and rest.partition("?")[0] not in ("/", "/:memory:")
    if not is_file and not (scheme.partition("+")[0] in ("postgresql", "postgres") and rest):
        raise ValueError(f"database must be {_ALLOWED}, not {_shown(database)}")


def url_of(database: str) -> Any:
    """Return SQLAlchemy's URL of a database: a file by its absolute path, PostgreSQL by psycopg."""
    import sqlalchemy as sa

    if database.startswith("postgres://"):
        database = f"postgresql{database.removeprefix('postgres')}"
    url = sa.make_url(database)
    if url.get_backend_name() == "sqlite" and url.database:
        return url.set(database=str(Path(url.database).absolute()))
    return url.set(drivername="postgresql+psycopg")


def connect_file(path: Path, *, mode: str = "rw", timeout: float = PATIENCE) -> sqlite3.Connection:
    """Connect to a SQLite file, which isn't made anew where it is gone.

    What the connection writes ahead stays there until `checkpoint`, or until the last connection is closed.

    Args:
        path: The file.
        mode: Of SQLite's URI: `rw`, `ro` or `rwc`.
        timeout: Seconds to wait for a lock.
    """
    uri = f"{path.resolve().as_uri()}?mode={mode}"
    connection = sqlite3.connect(uri, uri=True, timeout=timeout, check_same_thread=False, cached_statements=_STATEMENTS)
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    if sqlite3.sqlite_version_info < (3, 42):  # which DBOS takes for granted from Python 3.12 on
        connection.create_function("unixepoch", 1, lambda _: round(time.time(), 3))
    return connection


def prepare_file(path: Path) -> None:
    """Make the file if it is missing, and have it written ahead (WAL), which costs one fsync for a commit, not four.

    Raises:
        DurableStoreError: If it can't be used, or holds something else; then it is left untouched.
    """
    is_unclean = _ahead_of(path).exists()
    if is_unclean and not path.exists():
        raise DurableStoreError(f"{path} is gone, but its write-ahead log is still there")
    with as_store_error(sqlite3.Error):
        if is_unclean or (path.exists() and path.stat().st_size):
            _check_header(path)
            _refuse_foreign(path)
        with contextlib.closing(connect_file(path, mode="rwc")) as connection:
            _take_lock(connection)
            mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if mode != "wal":
        raise DurableStoreError(f"{path}: SQLite can't use a write-ahead log (WAL) in this folder")


def probe_file(path: Path) -> None:
    """Return if the file could be written to now; wait longer for the lock as long as others do commit."""
    if not path.exists():
        raise DurableStoreError(f"{path} is gone")
    if hasattr(os, "statvfs") and (disk := os.statvfs(path.parent)).f_bavail * disk.f_frsize < _ROOM:
        raise DurableStoreError(f"{path}: the disk is full")
    with as_store_error(sqlite3.Error):
        _check_header(path)
        with contextlib.closing(connect_file(path)) as connection:
            _take_lock(connection)


def checkpoint(path: Path) -> None:
    """Put what was written ahead into the file if it has grown.

    Raises:
        DurableStoreError: If the file is gone or damaged, and may be put right.
    """
    if not path.exists():
        raise DurableStoreError(f"{path} is gone")
    with as_store_error(sqlite3.Error), contextlib.suppress(FileNotFoundError):  # nothing is open
        if _ahead_of(path).stat().st_size > _AHEAD:
            _check_header(path)
            with contextlib.closing(connect_file(path)) as connection:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _ahead_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def _refuse_foreign(path: Path) -> None:
    mode = _UNTOUCHED
    if _ahead_of(path).exists():  # in use, or a process died in the middle
        mode = "ro"
    elif path.with_name(f"{path.name}-journal").exists():  # a process died while it made the file
        mode = "rw"
    with contextlib.closing(connect_file(path, mode=mode)) as connection:
        names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if names and "booking_resilience_calls" not in names:
        raise DurableStoreError(f"{path} holds the tables of something else: {', '.join(sorted(names)[:5])}")


def _check_header(path: Path) -> None:
    """Raise if the file itself isn't a database any more, which open connections don't notice.

    Only SQLite may open the file in this process: to close it any other way gives back SQLite's locks.
    """
    with contextlib.closing(connect_file(path, mode=_UNTOUCHED)) as connection:
        try:
            pages = connection.execute("PRAGMA page_count").fetchone()[0]
        except sqlite3.DatabaseError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_NOTADB:
                raise
            return  # it was read while another process wrote
    if not pages:
        raise DurableStoreError(f"{path} is damaged: it is empty")


def _take_lock(connection: sqlite3.Connection) -> None:
    """Take the write lock and give it back; wait longer as long as others keep it for themselves but do commit."""
    end = time.monotonic() + _LOAD
    while True:
        before = connection.execute("PRAGMA data_version").fetchone()
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
            return
        except sqlite3.OperationalError:
            is_load = connection.execute("PRAGMA data_version").fetchone() != before
            if not is_load or time.monotonic() > end:
                raise


@contextlib.contextmanager
def as_store_error(*kinds: type[Exception]) -> Iterator[None]:
    """Raise `DurableStoreError` in the place of the database's errors, which are of these kinds."""
    try:
        yield
    except kinds as error:
        original = getattr(error, "orig", None) or error
        raise DurableStoreError(f"{type(original).__name__}: {original}".strip()) from error


def postgres_settings(lock_timeout: float) -> dict[str, Any]:
    """Return what a connection to PostgreSQL needs so as to notice within seconds that nobody answers."""
    options = f"-c lock_timeout={int(lock_timeout * 1000)} -c statement_timeout=30000"
    return {
        "connect_timeout": 3,
        "options": options,
        "keepalives_idle": 2,
        "keepalives_interval": 1,
        "keepalives_count": 3,
        "tcp_user_timeout": 6000,
        "application_name": "booking_resilience",
    }


def _shown(database: str) -> str:
    """Return the URL without its password and query."""
    scheme, separator, rest = database.partition("://")
    if not separator:
        scheme, rest = "", database
    place = rest.rpartition("@")[2].partition("?")[0]  # a query may hold a password, too
    return repr(f"{scheme}{separator}{place}")
