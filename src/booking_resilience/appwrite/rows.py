"""Rows as values, whatever the SDK makes of them, and the calls that create and read them."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from appwrite.query import Query

from booking_resilience.appwrite.calls import Call

_Q: Final[Any] = Query  # the SDK has no annotations


@dataclass(frozen=True, slots=True)
class Row:
    """A stored row (or document).

    Attributes:
        id: Its ID.
        data: Its columns, without those of the system.
        created_at: When it was stored, aware UTC; None if the answer did not say.
        sequence: Its place in the order of storing, as the server writes it; None if the answer did not say.
    """

    id: str
    data: Mapping[str, Any]
    created_at: datetime.datetime | None = None
    sequence: str | None = None


def row_of(answer: Any) -> Row:
    """Return a row from what a service of the SDK returned: a model, or a dict as the wire has it.

    Raises:
        AttributeError, KeyError, TypeError or ValueError: If it is neither.
    """
    if isinstance(answer, Mapping):
        data = {name: value for name, value in answer.items() if not name.startswith("$")}
        row_id, created, sequence = answer["$id"], answer.get("$createdAt"), answer.get("$sequence")
    else:
        row_id, data, created, sequence = answer.id, dict(answer.data), answer.createdat, answer.sequence
    if isinstance(sequence, float):  # the models of SDK 16
        sequence = int(sequence)
    moment = datetime.datetime.fromisoformat(created) if created else None
    return Row(str(row_id), data, moment, None if sequence in (None, "") else str(sequence))


class RowStore:
    """The calls that are needed of `TablesDB`, or of the older `Databases`, in one vocabulary.

    Args:
        tables: The service, of a client of either colour.

    Raises:
        TypeError: If it is neither.
    """

    def __init__(self, tables: Any) -> None:
        self._is_old = not hasattr(tables, "create_row")
        if self._is_old and not hasattr(tables, "create_document"):
            raise TypeError(f"tables must be the SDK's TablesDB or Databases, not {tables!r}")
        self._tables = tables

    def create(
        self, database_id: str, table_id: str, row_id: str, data: Mapping[str, Any], permissions: Sequence[str] | None
    ) -> Call[Row]:
        """Return the call that creates a row."""
        allowed = None if permissions is None else list(permissions)
        create = self._tables.create_document if self._is_old else self._tables.create_row
        return Call(create, (database_id, table_id, row_id, dict(data), allowed), row_of)

    def list(
        self, database_id: str, table_id: str, queries: Sequence[str], *, may_miss: str | None = None
    ) -> Call[tuple[Row, ...] | None]:
        """Return the call that reads the rows that the queries ask for, without counting how many there are.

        Args:
            database_id: The database's ID.
            table_id: The table's ID.
            queries: The queries.
            may_miss: The type of Appwrite's error that is no failure here but means None.
        """
        read = self._tables.list_documents if self._is_old else self._tables.list_rows
        # A string, since the clients of SDKs up to 19 or so send False as "False", which the server refuses.
        return Call(read, (database_id, table_id, [*queries]), self._rows_of, {"total": "false"}, may_miss)

    def find(self, database_id: str, table_id: str, row_id: str) -> Call[Row | None]:
        """Return the call that reads the row of exactly this ID; it gives None if there is none.

        By a query: what a GET of the ID says may come from a cache, which also remembers that there was nothing. The
        server compares IDs without regard to case; here a row whose ID differs in case is another one.
        """
        reading = self.list(database_id, table_id, [_Q.equal("$id", [row_id]), _Q.limit(1)])

        def the_one(answer: Any) -> Row | None:
            return next((row for row in self._rows_of(answer) if row.id == row_id), None)

        return Call(reading.method, reading.args, the_one, reading.kwargs)

    def _rows_of(self, answer: Any) -> tuple[Row, ...]:
        name = "documents" if self._is_old else "rows"
        rows = answer[name] if isinstance(answer, Mapping) else getattr(answer, name)
        return tuple(row_of(row) for row in rows)
