"""What is kept beside DBOS' tables: the state of calls that wait, and which processes there are.

One row for each workflow that waits or was cancelled, overwritten in place; one for each process. Of DBOS' own tables
only `workflow_status` is read, and nothing in them is written here. Nothing waits longer than a few seconds.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from booking_resilience.durable import databases

SCHEMA: Final = "dbos"
_ALONE: Final = 0x626F6F6B696E67  # the key of an advisory lock: "booking"

_TABLES: Final = (
    """CREATE TABLE IF NOT EXISTS {p}booking_resilience_calls (
        id TEXT PRIMARY KEY, call INTEGER, operation TEXT, attempts INTEGER, setbacks INTEGER, error TEXT,
        since DOUBLE PRECISION, next_try DOUBLE PRECISION, misfit TEXT,
        cancelled INTEGER NOT NULL DEFAULT 0, woken INTEGER NOT NULL DEFAULT 0)""",
    """CREATE INDEX IF NOT EXISTS booking_resilience_told ON {p}booking_resilience_calls (id)
        WHERE cancelled = 1 OR woken = 1""",
    """CREATE INDEX IF NOT EXISTS booking_resilience_misfits ON {p}booking_resilience_calls (id)
        WHERE misfit IS NOT NULL""",
    """CREATE TABLE IF NOT EXISTS {p}booking_resilience_processes (
        id TEXT PRIMARY KEY, version TEXT NOT NULL, adopter TEXT NOT NULL DEFAULT '')""",
)


class Store:
    """The database (SQLAlchemy's URL) as this library sees it. For threads; everything blocks."""

    def __init__(self, url: Any) -> None:
        import sqlalchemy as sa
        from sqlalchemy.exc import SQLAlchemyError

        self._sa, self._failure = sa, SQLAlchemyError
        self.url: Any = url
        self.path: Path | None = Path(url.database) if url.get_backend_name() == "sqlite" else None
        self._prefix = f"{SCHEMA}." if self.path is None else ""
        if self.path is not None:
            self._engine: Any = sa.create_engine(url, creator=functools.partial(databases.connect_file, self.path))
        else:
            settings = databases.postgres_settings(databases.PATIENCE)
            self._engine = sa.create_engine(url, connect_args=settings, pool_timeout=5, pool_pre_ping=True)

    def _run(self, sql: str, **facts: Any) -> Any:
        """Run one statement in a transaction of its own; return its rows, or how many rows it changed."""
        with databases.as_store_error(self._failure), self._engine.begin() as connection:
            result = connection.execute(self._sa.text(sql.format(p=self._prefix)), facts)
            return result.fetchall() if result.returns_rows else result.rowcount

    # Before and while it is used

    def prepare(self) -> None:
        """Look whether the database is ours or empty, and make the tables."""
        if self.path is not None:
            databases.prepare_file(self.path)
        else:
            self._run(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
        for statement in _TABLES:
            self._run(statement)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Let one process at a time make the tables of PostgreSQL; a SQLite file sees to that itself.

        The lock is asked for again and again: a statement that waits would have a snapshot, for the end of which the
        other's `CREATE INDEX CONCURRENTLY` waits.
        """
        if self.path is not None:
            yield
            return
        with databases.as_store_error(self._failure), self._engine.connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT")
            while not connection.execute(self._sa.text(f"SELECT pg_try_advisory_lock({_ALONE})")).scalar():
                time.sleep(0.1)
            try:
                yield
            finally:
                connection.execute(self._sa.text(f"SELECT pg_advisory_unlock({_ALONE})"))

    def probe(self) -> None:
        """Return if the database could be written to now; another may hold it for 2 s without a commit."""
        if self.path is not None:
            databases.probe_file(self.path)
        else:
            self._run("LOCK TABLE {p}workflow_status IN ROW EXCLUSIVE MODE")

    def tidy(self) -> None:
        """Put what was written ahead of a SQLite file into the file, now and then."""
        if self.path is not None:
            databases.checkpoint(self.path)

    # Calls that wait

    def state(self, id: str) -> dict[str, Any]:
        """Return what is kept of a workflow's call, by the names of the columns; nothing if nothing is."""
        rows = self._run("SELECT * FROM {p}booking_resilience_calls WHERE id = :id", id=id)
        return dict(rows[0]._mapping) if rows else {}

    def keep(self, id: str, **facts: Any) -> None:
        """Keep facts of a workflow's call, by the names of the columns; the others stay."""
        self._run(
            f"INSERT INTO {{p}}booking_resilience_calls (id, {', '.join(facts)}) "  # noqa: S608 - our own names
            f"VALUES (:id, {', '.join(f':{name}' for name in facts)}) "
            f"ON CONFLICT (id) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in facts)}",
            id=id,
            **facts,
        )

    def forget_finished(self) -> None:
        """Forget the calls of all workflows that have ended or are gone."""
        self._run(
            "DELETE FROM {p}booking_resilience_calls WHERE NOT EXISTS (SELECT 1 FROM {p}workflow_status "
            "WHERE workflow_uuid = {p}booking_resilience_calls.id AND status IN ('ENQUEUED', 'PENDING'))"
        )

    def told(self) -> list[tuple[str, bool, bool]]:
        """Return the workflows that are to be cancelled or tried now: ID, and which of the two."""
        sql = "SELECT id, cancelled, woken FROM {p}booking_resilience_calls WHERE cancelled = 1 OR woken = 1"
        return [(row[0], bool(row[1]), bool(row[2])) for row in self._run(sql)]

    def misfits(self, version: str) -> list[str]:
        """Return the workflows that another version than this couldn't run, and that nobody runs now."""
        sql = (
            "SELECT c.id FROM {p}booking_resilience_calls c JOIN {p}workflow_status w ON w.workflow_uuid = c.id "
            "WHERE c.misfit IS NOT NULL AND c.misfit <> :version AND w.status = 'PENDING'"
        )
        return [row[0] for row in self._run(sql, version=version)]

    def unfinished(self) -> list[dict[str, Any]]:
        """Return the workflows that have not ended, oldest first, with what is kept of their calls."""
        rows = self._run(
            "SELECT w.workflow_uuid AS workflow, w.created_at, c.* FROM {p}workflow_status w "
            "LEFT JOIN {p}booking_resilience_calls c ON c.id = w.workflow_uuid "
            "WHERE w.status IN ('ENQUEUED', 'PENDING') ORDER BY w.created_at, w.workflow_uuid"
        )
        return [dict(row._mapping) for row in rows]

    # Workflows

    def status(self, id: str) -> str | None:
        """Return a workflow's status; None if there is no such workflow."""
        rows = self._run("SELECT status FROM {p}workflow_status WHERE workflow_uuid = :id", id=id)
        return rows[0][0] if rows else None

    def steps(self, id: str) -> int:
        """Return how many calls of a workflow have ended."""
        sql = "SELECT COUNT(*) FROM {p}operation_outputs WHERE workflow_uuid = :id"
        return int(self._run(sql, id=id)[0][0])

    def pending_of(self, process: str) -> list[str]:
        """Return the workflows that a process runs, or ran when it died."""
        sql = "SELECT workflow_uuid FROM {p}workflow_status WHERE executor_id = :id AND status = 'PENDING'"
        return [row[0] for row in self._run(sql, id=process)]

    def enqueued(self) -> list[tuple[str, str | None]]:
        """Return the workflows that no process has begun, and their queues."""
        rows = self._run("SELECT workflow_uuid, queue_name FROM {p}workflow_status WHERE status = 'ENQUEUED'")
        return [(row[0], row[1]) for row in rows]

    def finished_before(self, moment: float) -> list[str]:
        """Return the workflows that ended before a moment, in seconds since 1970."""
        sql = "SELECT workflow_uuid FROM {p}workflow_status WHERE completed_at < :moment AND status <> 'PENDING'"
        return [row[0] for row in self._run(sql, moment=int(moment * 1000))]

    # Processes

    def processes(self) -> list[tuple[str, str, str]]:
        """Return all processes, the dead included: ID, version, and who adopts its work, or an empty string."""
        rows = self._run("SELECT id, version, adopter FROM {p}booking_resilience_processes")
        return [(row[0], row[1], row[2]) for row in rows]

    def add_process(self, id: str, version: str) -> None:
        """Add a process, unless it is there."""
        self._run(
            "INSERT INTO {p}booking_resilience_processes (id, version) VALUES (:id, :version) "
            "ON CONFLICT (id) DO NOTHING",
            id=id,
            version=version,
        )

    def claim(self, dead: str, former: str, adopter: str) -> bool:
        """Become who adopts a dead process' work, in the place of a former one; tell whether that worked."""
        sql = "UPDATE {p}booking_resilience_processes SET adopter = :adopter WHERE id = :dead AND adopter = :former"
        return bool(self._run(sql, dead=dead, former=former, adopter=adopter))

    def remove_process(self, id: str) -> None:
        """Remove a process."""
        self._run("DELETE FROM {p}booking_resilience_processes WHERE id = :id", id=id)

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()
