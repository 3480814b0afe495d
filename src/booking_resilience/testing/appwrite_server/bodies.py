"""Rows as answers hold them, and the errors of writes in the words of an API."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from booking_resilience.testing.appwrite_server.dialect import ApiError, Dialect
from booking_resilience.testing.appwrite_server.store import Database, DuplicateError, Row, Table
from booking_resilience.testing.appwrite_server.writes import ConflictError, RelationError, StructureError


def row_body(
    dialect: Dialect,
    database: Database,
    table: Table,
    row: Row,
    select: list[str] | None = None,
    *,
    is_written: bool = False,
) -> dict[str, Any]:
    """Return a row as an answer holds it.

    Args:
        dialect: The vocabulary.
        database: The row's database.
        table: The row's table.
        row: The row.
        select: The columns that are wanted; None for all.
        is_written: Whether it has just been written; then related rows are nested, else they are absent.
    """
    every = select is None or "*" in select
    data = {}
    for key, column in table.available().items():
        related = is_written or (select is not None and any(name.startswith(f"{key}.") for name in select))
        if column.relation:
            if related:
                data[key] = _related(dialect, database, column.relation, row.data.get(key))
        elif every or key in (select or ()):
            value = row.data.get(key)
            data[key] = [] if value is None and column.array else value  # kept as null, which sorts and is found so
    return {
        **data,
        "$sequence": str(row.sequence or ""),
        "$id": row.id,
        "$createdAt": row.created,
        "$updatedAt": row.updated,
        "$permissions": row.permissions,
        "$databaseId": database.id,
        f"${dialect.table}Id": table.id,
    }


def _related(dialect: Dialect, database: Database, relation: dict[str, Any], value: Any) -> Any:
    """Return a related row nested, without those that it is related to; null where it isn't there."""
    table = database.tables.get(next(iter(relation.values())).lower())
    if isinstance(value, list):
        return [found for item in value if (found := _related(dialect, database, relation, item)) is not None]
    row = None if table is None or value is None else table.find(value)
    return None if table is None or row is None else row_body(dialect, database, table, row)


class Refusing:
    """A context manager that tells what a write refuses in the words of an API.

    Args:
        dialect: The vocabulary.
        row_id: The ID that a conflict names.
        unique_violation: How a violated unique index is told, `legacy` or `new`.
    """

    def __init__(self, dialect: Dialect, row_id: str, unique_violation: str) -> None:
        self._dialect, self._row_id, self._unique_violation = dialect, row_id, unique_violation

    def __enter__(self) -> None:
        """Nothing to do."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if isinstance(error, StructureError):
            raise self._dialect.structure(str(error)) from None
        if isinstance(error, ConflictError):
            raise self._dialect.newer() from None
        if isinstance(error, RelationError):
            raise ApiError(400, "relationship_value_invalid", str(error)) from None
        if isinstance(error, DuplicateError):
            raise self._duplicate(error) from None

    def _duplicate(self, duplicate: DuplicateError) -> ApiError:
        dialect = self._dialect
        if duplicate.index is None or self._unique_violation == "legacy":
            return dialect.exists(dialect.row, self._row_id)
        start = f"{dialect.row.capitalize()} violates a unique {dialect.column} constraint."
        message = f"{start} Try again with different value(s)."
        return ApiError(409, f"{dialect.row}_unique_constraint_violation", message)
