"""Rows as values, whatever the SDK makes of them, and the calls that write and read them."""

from __future__ import annotations

import datetime
import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from appwrite.query import Query

from booking_resilience.appwrite.calls import Call

T = TypeVar("T")

MISSING: Final = ("row_not_found", "document_not_found")
"""The types of the answers that a row isn't there."""

_Q: Final[Any] = Query  # the SDK has no annotations


@dataclass(frozen=True, slots=True)
class Row:
    """A stored row (or document).

    Attributes:
        id: Its ID.
        data: Its columns, without those of the system.
        created_at: When it was stored, aware UTC; None if the answer did not say.
        sequence: Its place in the order of storing, as the server writes it; None if the answer did not say.
        updated_at: When it was last changed, aware UTC; None if the answer did not say.
    """

    id: str
    data: Mapping[str, Any]
    created_at: datetime.datetime | None = None
    sequence: str | None = None
    updated_at: datetime.datetime | None = None


def row_of(answer: Any) -> Row:
    """Return a row from what a service of the SDK returned: a model, or a dict as the wire has it.

    Raises:
        AttributeError, KeyError, TypeError or ValueError: If it is neither, or has no ID.
    """
    if isinstance(answer, Mapping):
        data = {name: value for name, value in answer.items() if not name.startswith("$")}
        row_id, sequence = answer["$id"], answer.get("$sequence")
        created, updated = answer.get("$createdAt"), answer.get("$updatedAt")
    else:
        row_id, data, sequence = answer.id, dict(answer.data), answer.sequence
        created, updated = answer.createdat, answer.updatedat
    if not isinstance(row_id, str) or not row_id:  # the SDK's models from 25 on make one up where the answer has none
        raise ValueError("the row has no ID")
    if isinstance(sequence, float):  # the models of SDK 16
        sequence = int(sequence)
    return Row(row_id, data, _moment(created), None if sequence in (None, "") else str(sequence), _moment(updated))


def _moment(text: str | None) -> datetime.datetime | None:
    return datetime.datetime.fromisoformat(text) if text else None


def _plain(value: Any) -> Any:
    """Return a value as the SDK's services send it: enums by their values, models by what they hold."""
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value.to_dict() if hasattr(type(value), "to_dict") else value


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
        named = {"documentId" if self._is_old else "rowId": str(_plain(row_id)), "data": _plain(data)}
        if permissions is not None:
            named["permissions"] = list(permissions)
        return self._direct("post", (database_id, table_id), named, row_of)

    def delete(
        self, database_id: str, table_id: str, row_id: str, *, unchanged_since: datetime.datetime | None = None
    ) -> Call[bool]:
        """Return the call that deletes a row; it gives whether the row was there.

        Args:
            database_id: The database's ID.
            table_id: The table's ID.
            row_id: The row's ID.
            unchanged_since: Refuse it if the row was changed after this moment; the server's check is not atomic.
        """
        place = (database_id, table_id, row_id)
        return self._direct("delete", place, {}, lambda _: True, unchanged_since=unchanged_since, may_miss=MISSING)

    def update(
        self, database_id: str, table_id: str, row_id: str, data: Mapping[str, Any], unchanged_since: datetime.datetime
    ) -> Call[Row]:
        """Return the call that changes a row, unless it was changed after a moment."""
        place = (database_id, table_id, row_id)
        return self._direct("patch", place, {"data": _plain(data)}, row_of, unchanged_since=unchanged_since)

    def _direct(
        self,
        method: str,
        place: tuple[str, ...],
        params: dict[str, Any],
        read: Callable[[Any], T],
        *,
        unchanged_since: datetime.datetime | None = None,
        may_miss: tuple[str, ...] = (),
    ) -> Call[T]:
        """Return a call by the client itself.

        The SDK's services take no headers, and their models make an empty list of an answer without one.
        """
        path = "/databases/{}/collections/{}/documents" if self._is_old else "/tablesdb/{}/tables/{}/rows"
        path = "/".join((path.format(*map(_plain, place[:2])), *place[2:]))
        client = self._tables.client
        names = {"get": ("accept",), "post": ("content-type", "accept")}.get(method, ("content-type",))
        headers = dict.fromkeys(names, "application/json")
        if hasattr(client, "get_config"):  # the clients of older SDKs (16, say) send the project by themselves
            headers["X-Appwrite-Project"] = client.get_config("project")
        if unchanged_since is not None:  # with milliseconds: cut to seconds, the row itself would be newer
            moment = unchanged_since.astimezone(datetime.UTC).isoformat(timespec="milliseconds")
            headers["X-Appwrite-Timestamp"] = moment
        return Call(client.call, (method, path, headers, params), read, {}, may_miss)

    def list(
        self, database_id: str, table_id: str, queries: Sequence[str], *, may_miss: tuple[str, ...] = ()
    ) -> Call[tuple[Row, ...] | None]:
        """Return the call that reads the rows that the queries ask for, without counting how many there are.

        Args:
            database_id: The database's ID.
            table_id: The table's ID.
            queries: The queries.
            may_miss: The types of Appwrite's errors that aren't failures here but mean None.
        """
        # A string, since the clients of SDKs up to 19 or so send False as "False", which the server refuses.
        params = {"queries": [*queries], "total": "false"}
        return self._direct("get", (database_id, table_id), params, self._rows_of, may_miss=may_miss)

    def find(self, database_id: str, table_id: str, row_id: str) -> Call[Row | None]:
        """Return the call that reads the row of exactly this ID; it gives None if there is none.

        By a query: what a GET of the ID says may come from a cache, which also remembers that there was nothing. The
        server compares IDs without regard to case; here a row whose ID differs in case is another one.
        """
        reading = self.find_all(database_id, table_id, [row_id])
        return Call(reading.method, reading.args, lambda answer: reading.read(answer).get(row_id), reading.kwargs)

    def find_all(self, database_id: str, table_id: str, row_ids: Sequence[str]) -> Call[Mapping[str, Row]]:
        """Return the call that reads the rows of exactly these IDs, 100 at most; it gives them by ID."""
        queries = [_Q.equal("$id", [str(_plain(row_id)) for row_id in row_ids]), _Q.limit(len(row_ids))]
        reading = self.list(database_id, table_id, queries)

        def by_id(answer: Any) -> Mapping[str, Row]:
            return {row.id: row for row in self._rows_of(answer) if row.id in row_ids}

        return Call(reading.method, reading.args, by_id, reading.kwargs)

    def _rows_of(self, answer: Any) -> tuple[Row, ...]:
        return tuple(row_of(row) for row in answer["documents" if self._is_old else "rows"])
