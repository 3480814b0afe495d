"""Which databases there may be, a SQLite file or PostgreSQL, and whether one can be used now."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from booking_resilience.checks import check_text
from booking_resilience.durable.errors import DurableStoreError

if TYPE_CHECKING:
    import sqlite3

PATIENCE: Final = 2.0  # seconds: as long as another may hold the database without a commit
_LOAD: Final = 8.0  # seconds to wait for one's turn among others that do commit

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
    """Return SQLAlchemy's URL of a database; PostgreSQL is reached by psycopg."""
    import sqlalchemy as sa

    if database.startswith("postgres://"):
        database = f"postgresql{database.removeprefix('postgres')}"
    url = sa.make_url(database)
    return url if url.get_backend_name() == "sqlite" else url.set(drivername="postgresql+psycopg")


def refuse_foreign_file(path: Path) -> None:
    """Raise if a file holds something else than durable workflows; it is left untouched."""
    import sqlite3

    try:
        try:
            names = _tables_of(path, "ro")
        except sqlite3.OperationalError:  # a process died in the middle of a commit, which must be rolled back
            if not path.with_name(f"{path.name}-journal").exists():
                raise
            names = _tables_of(path, "rw")
    except sqlite3.Error as error:
        raise trouble(error) from error
    if names and "booking_resilience_calls" not in names:
        raise DurableStoreError(f"{path} holds something else: {', '.join(sorted(names)[:5])}")


def _tables_of(path: Path, mode: str) -> set[str]:
    import sqlite3

    uri = f"{path.resolve().as_uri()}?mode={mode}"
    with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=PATIENCE)) as connection:
        return {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def probe_file(path: Path) -> None:
    """Take a SQLite file's write lock and give it back; wait longer as long as others do commit."""
    import sqlite3

    end = time.monotonic() + _LOAD
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=PATIENCE, isolation_level=None)) as connection:
            while not _locked(connection):
                if time.monotonic() > end:
                    raise DurableStoreError(f"{path} is locked by others that write to it")
            connection.execute("ROLLBACK")
    except sqlite3.Error as error:
        raise trouble(error) from error


def _locked(connection: sqlite3.Connection) -> bool:
    """Take the write lock; False if others kept it for themselves but committed meanwhile."""
    import sqlite3

    before = connection.execute("PRAGMA data_version").fetchone()
    try:
        connection.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError:
        if connection.execute("PRAGMA data_version").fetchone() == before:
            raise
        return False
    return True


def trouble(error: BaseException) -> DurableStoreError:
    """Return the error to raise for one of the database's."""
    original = getattr(error, "orig", None) or error
    return DurableStoreError(f"{type(original).__name__}: {original}".strip())


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
    """Return the URL without its password."""
    scheme, _, rest = database.partition("://")
    return repr(f"{scheme}://{rest.rpartition('@')[2]}")
