"""The routes of rows: create, get, list, update, delete."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from booking_resilience.testing.appwrite_server import parameters, queries
from booking_resilience.testing.appwrite_server.access import UNAUTHORIZED, granted
from booking_resilience.testing.appwrite_server.dialect import ApiError, argument, not_optional
from booking_resilience.testing.appwrite_server.exchange import Answer, nowhere
from booking_resilience.testing.appwrite_server.limits import RateLimits
from booking_resilience.testing.appwrite_server.schema import now
from booking_resilience.testing.appwrite_server.store import Database, DuplicateError, Row, Store, Table

if TYPE_CHECKING:
    from booking_resilience.testing.appwrite_server.access import Caller
    from booking_resilience.testing.appwrite_server.dialect import Dialect
    from booking_resilience.testing.appwrite_server.exchange import Request


class RowRoutes:
    """What can be done with rows.

    Args:
        store: Where they are.
        unique_violation: How a violated unique index is told, `legacy` or `new`.
    """

    def __init__(self, store: Store, unique_violation: str) -> None:
        self._store = store
        self._unique_violation = unique_violation
        self._limits = RateLimits()

    def handle(
        self, request: Request, method: str, caller: Caller, dialect: Dialect, rest: list[str], headers: dict[str, str]
    ) -> Answer:
        """Return the answer to a request for a row, or for the rows of a table.

        Args:
            request: The request.
            method: Its method; GET for a HEAD.
            caller: Who sent it; they have the scope.
            dialect: The vocabulary.
            rest: The parts of the path behind the API's name.
            headers: Gets the headers that an error has as well.

        Raises:
            ApiError: If the answer is one.
        """
        if method == "GET":
            read = self._list if len(rest) == 4 else self._get
            return read(request, caller, dialect, rest)
        if method not in ("POST", "PUT", "PATCH", "DELETE") or (method == "POST" and len(rest) == 5):
            return nowhere()
        remaining = self._limits.check(request, caller.is_guest, headers)
        if len(rest) == 4 and (method != "POST" or f"{dialect.row}s" in request.body):
            if method == "PUT" and f"{dialect.row}s" not in request.body:
                raise not_optional(f"{dialect.row}s")
            raise parameters.not_emulated(request)
        if method == "PUT" or request.body.get("transactionId") is not None:  # the SDK 16 sends null
            raise parameters.not_emulated(request)
        change = {"POST": self._create, "PATCH": self._update, "DELETE": self._delete}[method]
        answer = change(request, caller, dialect, rest)
        if caller.is_guest:
            headers["X-Ratelimit-Remaining"] = str(max(0, remaining - 1))
        answer.headers.update(headers)
        return answer

    def _create(self, request: Request, caller: Caller, dialect: Dialect, rest: list[str]) -> Answer:
        body, name = request.body, f"{dialect.row}Id"
        data = body.get("data")
        if isinstance(data, str):
            try:
                data = json.loads(data)
            except ValueError:
                raise argument("data", "Value must be a valid JSON string") from None
        if not data:
            raise dialect.missing_data()
        if body.get(name) is None:
            what = "Document" if dialect.row == "document" else "Row"
            message = f"{what} ID is required when creating a single {dialect.row}."
            raise ApiError(400, f"{dialect.row}_missing_data", message)
        row_id = parameters.new_id(body, name)
        permissions = parameters.permissions(body)
        database, table = self._store.table(dialect, rest)
        if not isinstance(data, dict):
            data = {}
        if caller.is_guest and not granted(table.permissions, "create"):
            raise ApiError(401, "user_unauthorized", "No permissions provided for action 'create'")
        moment = now()
        values = {key: value for key, value in data.items() if not key.startswith("$")}
        created = moment if caller.is_guest else data.get("$createdAt", moment)
        updated = moment if caller.is_guest else data.get("$updatedAt", moment)
        _check(dialect, table, values, complete=True)
        stored = {
            key: column.stored(values[key] if values.get(key) is not None else column.default)
            for key, column in table.columns.items()
            if column.status == "available"
        }
        row = Row(row_id, 0, created, updated, permissions or [], stored)
        try:
            table.insert(row)
        except DuplicateError as duplicate:
            raise self._duplicate(dialect, row_id, duplicate) from None
        return Answer(201, _row_body(dialect, database, table, row))

    def _get(self, request: Request, caller: Caller, dialect: Dialect, rest: list[str]) -> Answer:
        database, table, row = self._row(caller, dialect, rest, "read")
        listing = queries.parse(parameters.queries(request), table)
        body = _row_body(dialect, database, table, row, listing.select)
        return Answer(200, body, {"X-Debug-Operations": "1"})

    def _list(self, request: Request, caller: Caller, dialect: Dialect, rest: list[str]) -> Answer:
        asked, wants_total = parameters.queries(request), parameters.wants_total(request)
        if len(asked) > 100:
            queries.parse(asked, Table("", "", [], False, True, ""))
        database, table = self._store.table(dialect, rest)
        listing = queries.parse(asked, table)
        if caller.is_guest and not granted(table.permissions, "read") and not table.row_security:
            raise ApiError(401, "user_unauthorized", UNAUTHORIZED)
        total, rows = queries.carry_out(listing, table, dialect)
        if caller.is_guest and not granted(table.permissions, "read"):
            rows = [row for row in rows if granted(row.permissions, "read")]
        if not wants_total and dialect.row == "row":
            total = 0
        listed = [_row_body(dialect, database, table, row, listing.select) for row in rows]
        return Answer(200, {"total": min(total, 5000), f"{dialect.row}s": listed})

    def _update(self, request: Request, caller: Caller, dialect: Dialect, rest: list[str]) -> Answer:
        body = request.body
        data = body.get("data")
        permissions = parameters.permissions(body)
        if not data and permissions is None:
            parameters.uid(rest[4], f"{dialect.row}Id")
            raise dialect.missing_payload()
        database, table, row = self._row(caller, dialect, rest, "update")
        newest = request.headers.get("x-appwrite-timestamp")
        if newest and row.updated > newest:
            raise ApiError(409, f"{dialect.row}_update_conflict", "Remote row is newer than local.")
        values = {key: value for key, value in (data or {}).items() if not key.startswith("$")}
        _check(dialect, table, values, complete=False)
        changes = {key: table.columns[key].stored(value) for key, value in values.items()}
        changed = any(row.data.get(key) != value for key, value in changes.items())
        try:
            table.update(row, changes)
        except DuplicateError as duplicate:
            raise self._duplicate(dialect, row.id, duplicate) from None
        if permissions is not None:
            changed, row.permissions = changed or permissions != row.permissions, permissions
        if changed:
            row.updated = now()
        return Answer(200, _row_body(dialect, database, table, row))

    def _delete(self, request: Request, caller: Caller, dialect: Dialect, rest: list[str]) -> Answer:
        _, table, row = self._row(caller, dialect, rest, "delete")
        table.delete(row)
        return Answer(204, headers={"X-Debug-Operations": "1"}, content_type="text/html")

    def _row(self, caller: Caller, dialect: Dialect, rest: list[str], action: str) -> tuple[Database, Table, Row]:
        parameters.uid(rest[4], f"{dialect.row}Id")
        database, table = self._store.table(dialect, rest)
        row = table.find(rest[4])
        readable = row is not None and (
            not caller.is_guest
            or granted(table.permissions, "read")
            or (table.row_security and granted(row.permissions, "read"))
        )
        if row is None or not readable:
            raise dialect.not_found(dialect.row, rest[4])
        if caller.is_guest and action != "read" and not granted(table.permissions, action):
            raise ApiError(401, "user_unauthorized", UNAUTHORIZED)
        return database, table, row

    def _duplicate(self, dialect: Dialect, row_id: str, duplicate: DuplicateError) -> ApiError:
        if duplicate.index is None or self._unique_violation == "legacy":
            return dialect.exists(dialect.row, row_id)
        start = f"{dialect.row.capitalize()} violates a unique {dialect.column} constraint."
        message = f"{start} Try again with different value(s)."
        return ApiError(409, f"{dialect.row}_unique_constraint_violation", message)


def _check(dialect: Dialect, table: Table, values: dict[str, Any], *, complete: bool) -> None:
    columns = {key: column for key, column in table.columns.items() if column.status == "available"}
    for key, column in columns.items():
        missing = values.get(key) is None and (complete or key in values)
        if column.required and missing:
            raise dialect.structure(f'Missing required attribute "{key}"')
    for key in values:
        if key not in columns:
            raise dialect.structure(f'Unknown attribute: "{key}"')
    for key, value in values.items():
        if value is not None and (problem := columns[key].problem(value)):
            raise dialect.structure(problem)


def _row_body(
    dialect: Dialect, database: Database, table: Table, row: Row, select: list[str] | None = None
) -> dict[str, Any]:
    wanted = row.data if select is None or "*" in select else {key: row.data[key] for key in row.data if key in select}
    return {
        **wanted,
        "$sequence": str(row.sequence),
        "$id": row.id,
        "$createdAt": row.created,
        "$updatedAt": row.updated,
        "$permissions": row.permissions,
        "$databaseId": database.id,
        f"${dialect.table}Id": table.id,
    }
