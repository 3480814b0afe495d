"""Which processes live: each holds a lock that the kernel, or PostgreSQL, takes back when the process dies.

A frozen process still holds its lock. A child made by `fork` lets go of what it inherited, else it would hold its dead
parent's lock.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, ClassVar

from booking_resilience.durable.databases import as_store_error, postgres_settings
from booking_resilience.durable.store import Store

_held: set[int] = set()
"""The descriptors of this process' locks: of a file, or of a session's socket."""


class FileLives:
    """Locks on files in a folder beside the SQLite file."""

    grace: ClassVar[float] = 0.0
    """Seconds that a lock must be free before its process counts as dead; a process can't lose a file."""

    def __init__(self, path: Path, id: str) -> None:
        self._folder = path.with_name(f"{path.name}-processes")
        self._id = id
        self._fd: int | None = None

    def hold(self) -> None:
        """Take this process' own lock, unless it is held."""
        import fcntl

        if self._fd is not None:
            return
        with as_store_error(OSError):
            self._folder.mkdir(exist_ok=True)
            self._fd = os.open(self._folder / self._id, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        _held.add(self._fd)
        fcntl.flock(self._fd, fcntl.LOCK_EX)

    def dead(self, ids: list[str]) -> set[str]:
        """Return which of these processes have died."""
        return {id for id in ids if id != self._id and self._is_dead(self._folder / id)}

    def _is_dead(self, path: Path) -> bool:
        import fcntl

        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return True
        except OSError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: two that look don't take each other for alive
        except OSError:
            return False
        finally:
            os.close(fd)
        return True

    def clear(self, id: str) -> None:
        """Remove what a dead process has left."""
        (self._folder / id).unlink(missing_ok=True)

    def close(self) -> None:
        """Give the lock back."""
        fd, self._fd = self._fd, None
        if fd is not None:
            _held.discard(fd)
            os.close(fd)
            self.clear(self._id)


class SessionLives:
    """Advisory locks of PostgreSQL, each held by a session of its own."""

    grace: ClassVar[float] = 3.0
    """The same: a process that lives may lose its session, and takes its lock again."""

    def __init__(self, store: Store, id: str) -> None:
        self._store, self._id = store, id
        self._connection: Any = None
        self._fd = -1  # its socket
        self._is_over = False

    def hold(self) -> None:
        """Take this process' own lock, again if its session was lost."""
        import psycopg

        try:
            if self._connection is not None:
                self._connection.execute("SELECT 1")
                return
        except psycopg.Error:
            self._drop()
        url = self._store.url.set(drivername="postgresql").render_as_string(hide_password=False)
        with as_store_error(psycopg.Error):
            connection = psycopg.connect(url, autocommit=True, **postgres_settings(2.0))
            for setting in ("idle = 2", "interval = 1", "count = 3"):  # for a machine that died
                connection.execute(f"SET tcp_keepalives_{setting}".encode())
            connection.execute("SELECT pg_advisory_lock(%s)", (key_of(self._id),))
        self._connection, self._fd = connection, connection.fileno()
        _held.add(self._fd)
        if self._is_over:  # it was stopped meanwhile
            self._drop()

    def dead(self, ids: list[str]) -> set[str]:
        """Return which of these processes hold no lock."""
        import psycopg

        if self._connection is None:  # it was stopped meanwhile
            return set()
        with as_store_error(psycopg.Error):
            rows = self._connection.execute(
                "SELECT (classid::bigint << 32) | objid::bigint FROM pg_locks WHERE locktype = 'advisory' "
                "AND objsubid = 1 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            ).fetchall()
        held = {key for (key,) in rows}
        return {id for id in ids if id != self._id and key_of(id) not in held}

    def clear(self, id: str) -> None:
        """Remove what a dead process has left: nothing."""

    def close(self) -> None:
        """Give the lock back, for good."""
        self._is_over = True
        self._drop()

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            _held.discard(self._fd)
            connection.close()


def key_of(id: str) -> int:
    """Return the key of a process' advisory lock: 60 bits of its ID."""
    return int(id[:15], 16)


def _let_go() -> None:
    """Have a child's copies of the descriptors lead nowhere, so that nothing it does reaches the parent's lock."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for fd in _held:
        os.dup2(nothing, fd, inheritable=False)
    os.close(nothing)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)
