"""The routes of single rows: create, get, list, update, upsert, delete, increment, decrement."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from booking_resilience import clock
from booking_resilience.testing.appwrite_server import dates, listing, parameters, php, queries, writes
from booking_resilience.testing.appwrite_server.access import UNAUTHORIZED, granted, not_granted
from booking_resilience.testing.appwrite_server.bodies import Refusing, row_body
from booking_resilience.testing.appwrite_server.bulk import BulkRoutes
from booking_resilience.testing.appwrite_server.dialect import ID_RULE, ApiError, argument, bad_request, is_id
from booking_resilience.testing.appwrite_server.exchange import Answer, Call
from booking_resilience.testing.appwrite_server.shared import Settings, guest_permissions, permitted, staged
from booking_resilience.testing.appwrite_server.staging import View, selected
from booking_resilience.testing.appwrite_server.store import Database, Row, Table

_MOST_CACHED = 1000  # lists


class RowRoutes:
    """What can be done with single rows.

    Args:
        settings: Where they are, and what else the routes share.
        bulk: What makes several at once.
    """

    def __init__(self, settings: Settings, bulk: BulkRoutes) -> None:
        self._settings, self._bulk = settings, bulk
        self._cached: dict[tuple[str, str], tuple[float, dict[str, Any]]] = {}

    def create(self, call: Call) -> Answer:
        """Add a row, or several."""
        dialect, body, name, many = call.dialect, call.body, f"{call.dialect.row}Id", f"{call.dialect.row}s"
        self._check_ids(call, with_row=False)
        row_id = parameters.checked_id(body[name], name) if name in body and body[name] != "0" else ""
        self._check_table_id(call)
        data = parameters.data(body)
        permissions = parameters.permissions(body)
        bulk = parameters.rows(body, many) if many in body else []
        transaction_id = parameters.transaction_id(body)
        if not data and not bulk:
            raise dialect.missing_data()
        if data and bulk:
            raise bad_request(f"You can only send one of the following parameters: data, {many}")
        if bulk:
            self._check_bulk(call, row_id, permissions)
            return self._bulk.create(call, bulk, transaction_id)
        if not row_id:
            message = f"{dialect.row.capitalize()} ID is required when creating a single {dialect.row}."
            raise ApiError(400, f"{dialect.row}_missing_data", message)
        database, table = self._table(call)
        guest_permissions(call, permissions)
        if call.is_guest and not granted(table.permissions, "create"):
            raise not_granted(table.permissions, "create")
        values = writes.written(data, may_date=not call.is_guest)
        if transaction_id is not None:
            fields = {**values, "$id": row_id, "$permissions": permissions or []}
            staged(self._settings, call, transaction_id, "create", row_id, fields)
            return Answer(201, View(dialect, database, table, None).mock(row_id, fields))
        with self._refusing(call, row_id):
            row = writes.create(table, row_id, values, permissions or [], dates.now())
        return Answer(201, row_body(dialect, database, table, row, is_written=True))

    @staticmethod
    def _check_bulk(call: Call, row_id: str, permissions: list[str] | None) -> None:
        many, where = f"{call.dialect.row}s", "on each instead"
        if row_id:
            name = f"{call.dialect.row}Id"
            raise bad_request(f'Param "{name}" is not allowed when creating multiple {many}, set "$id" {where}.')
        if permissions:
            raise bad_request(
                f'Param "permissions" is disallowed when creating multiple {many}, set "$permissions" {where}'
            )

    def get(self, call: Call) -> Answer:
        """Get a row; only `select` makes sense among the queries."""
        self._check_ids(call)
        asked, transaction_id = parameters.queries(call.body), parameters.transaction_id(call.body)
        database, table = self._table(call)
        select = queries.check(queries.parse(asked), table, only=("select",)).select
        row = table.find(call.ids[4])
        if row is not None and not permitted(call, table, row, "read"):
            row = None
        if transaction_id is not None:
            body = self._view(call, database, table, transaction_id).body(call.ids[4])
            body = body and selected(body, select)
        else:
            body = None if row is None else row_body(call.dialect, database, table, row, select)
        if not body:
            raise call.dialect.not_found(call.dialect.row, call.ids[4])
        return Answer(200, body, {"X-Debug-Operations": "1"})

    def list(self, call: Call) -> Answer:
        """List the rows that queries find."""
        self._check_ids(call, with_row=False)
        asked, transaction_id = parameters.queries(call.body), parameters.transaction_id(call.body)
        wants_total = parameters.boolean(call.body, "total", True, is_loose=True)
        ttl = parameters.whole(call.body, "ttl", 0, 86_400, 0)
        database, table = self._table(call)
        parsed = queries.parse(asked)
        if call.is_guest and not granted(table.permissions, "read") and not table.row_security:
            raise ApiError(401, "user_unauthorized", UNAUTHORIZED)
        found = queries.check(parsed, table)
        moment, place = clock.utc_now().timestamp(), (call.request.path, call.request.query)
        until, body = self._cached.get(place, (0.0, {}))
        if ttl and transaction_id is None and moment < until and not call.is_guest:
            return Answer(200, body)
        may_see: Callable[[Row], bool] | None = None
        if call.is_guest and not granted(table.permissions, "read"):
            may_see = lambda row: granted(row.permissions, "read")  # noqa: E731 - one of two, and the other is None
        total, rows = listing.carry_out(found, table, call.dialect, may_see, default=listing.DEFAULT_LIMIT)
        bodies = [row_body(call.dialect, database, table, row, found.select) for row in rows]
        if transaction_id is not None:
            view = self._view(call, database, table, transaction_id)
            total, bodies = _staged_list(view, total, bodies, found.select)
        counts = wants_total or not call.dialect.is_tables  # the older API counts in any case
        total = min(total, listing.MOST_COUNTED) if counts else 0
        body = {"total": total, f"{call.dialect.row}s": bodies}
        if ttl and transaction_id is None:
            if len(self._cached) >= _MOST_CACHED:
                self._cached.clear()
            self._cached[place] = (moment + ttl, body)
        return Answer(200, body)

    def update(self, call: Call) -> Answer:
        """Change some of a row's data."""
        self._check_ids(call)
        data, permissions = parameters.data(call.body), parameters.permissions(call.body)
        transaction_id = parameters.transaction_id(call.body)
        if not data and permissions is None:
            raise call.dialect.missing_payload()
        database, table = self._table(call)
        known = _known(call)
        guest_permissions(call, permissions)
        values = writes.written(data, may_date=not call.is_guest)
        if transaction_id is not None:
            view = self._view(call, database, table, transaction_id)
            body = view.body(call.ids[4])
            if body is None:
                raise call.dialect.not_found(call.dialect.row, call.ids[4])
            rights = body["$permissions"] if permissions is None else permissions
            fields = {**values, "$permissions": rights}
            staged(self._settings, call, transaction_id, "update", call.ids[4], fields)
            return Answer(200, {**body, **fields, "$id": call.ids[4]})
        row = self._changed(call, table, "update")
        with self._refusing(call, row.id):
            writes.update(table, row, values, permissions, dates.now(), known=known)
        body = row_body(call.dialect, database, table, row, is_written=True)
        return Answer(200, {**body, "$id": call.ids[4]})  # in the letters that it was asked for

    def upsert(self, call: Call) -> Answer:
        """Make a row, or change it; the timestamp header is ignored."""
        self._check_ids(call, with_row=False)
        row_id = parameters.checked_id(call.ids[4], f"{call.dialect.row}Id")
        data, permissions = parameters.data(call.body), parameters.permissions(call.body)
        transaction_id = parameters.transaction_id(call.body)
        if not data and permissions is None:
            raise call.dialect.missing_payload()
        database, table = self._table(call)
        guest_permissions(call, permissions)
        old = table.find(row_id)
        values = writes.written(data, may_date=not call.is_guest)
        if old is None and call.is_guest and not granted(table.permissions, "create"):
            raise ApiError(401, "user_unauthorized", UNAUTHORIZED)
        if old is not None and not permitted(call, table, old, "update"):
            raise ApiError(401, "user_unauthorized", UNAUTHORIZED)
        if transaction_id is not None:
            view = self._view(call, database, table, transaction_id)
            there = view.body(row_id)
            rights = (there["$permissions"] if there else []) if permissions is None else permissions
            fields = {**values, "$id": row_id, "$permissions": rights}
            staged(self._settings, call, transaction_id, "upsert", row_id, fields)
            return Answer(201, view.mock(row_id, fields))
        with self._refusing(call, row_id):
            row = writes.upsert(table, row_id, values, permissions, dates.now())
        return Answer(200, row_body(call.dialect, database, table, row, is_written=True))

    def delete(self, call: Call) -> Answer:
        """Remove a row."""
        self._check_ids(call)
        transaction_id = parameters.transaction_id(call.body)
        database, table = self._table(call)
        known = _known(call)
        if transaction_id is not None:
            if self._view(call, database, table, transaction_id).body(call.ids[4]) is None:
                raise call.dialect.not_found(call.dialect.row, call.ids[4])
            staged(self._settings, call, transaction_id, "delete", call.ids[4], {})
        else:
            row = self._changed(call, table, "delete")
            with self._refusing(call, row.id):
                writes.delete(table, row, known)
        return Answer(204, headers={"X-Debug-Operations": "1"}, content_type="text/html")

    def increment(self, call: Call) -> Answer:
        """Add to a number, up to `max`."""
        return self._increase(call, "max", 1)

    def decrement(self, call: Call) -> Answer:
        """Take from a number, down to `min`."""
        return self._increase(call, "min", -1)

    def _increase(self, call: Call, bound: str, sign: int) -> Answer:
        dialect, key = call.dialect, call.ids[5]
        self._check_ids(call)
        value, limit = parameters.numeric(call.body, "value", 1), parameters.numeric(call.body, bound, None)
        transaction_id = parameters.transaction_id(call.body)
        database, table = self._table(call)
        if transaction_id is not None:
            data = {dialect.column: key, "value": value, bound: limit}
            action = "increment" if sign > 0 else "decrement"
            staged(self._settings, call, transaction_id, action, call.ids[4], data)
            body = self._view(call, database, table, transaction_id).body(call.ids[4])
            return Answer(200, body or View(dialect, database, table, None).mock(call.ids[4], {}))
        if value is None or value <= 0:
            raise ApiError(400, "general_argument_invalid", "Value must be numeric and greater than 0")
        row = table.find(call.ids[4])
        if row is not None and not permitted(call, table, row, "update"):
            raise ApiError(401, "user_unauthorized", UNAUTHORIZED)
        low, high = (None, limit) if sign > 0 else (limit, None)
        try:
            changed = writes.increase(table, call.ids[4], key, sign * value, dates.now(), low=low, high=high)
        except writes.GoneError:
            message = f"{dialect.column.capitalize()} with the requested key '%s' could not be found."
            raise ApiError(404, f"{dialect.column}_not_found", message) from None
        except writes.NotANumberError:
            message = f'{dialect.namespace} "{key}" is not a number'
            raise ApiError(400, "attribute_type_invalid", message) from None
        except writes.BoundError:
            word = "maximum" if sign > 0 else "minimum"
            message = f'{dialect.namespace} "{key}" has reached the {word} value of {php.text_of(limit)}'
            raise dialect.limit_exceeded(message) from None
        return Answer(200, row_body(dialect, database, table, changed))

    def _changed(self, call: Call, table: Table, action: str) -> Row:
        """Return the row that a request changes."""
        row = table.find(call.ids[4])
        if row is None:
            raise call.dialect.not_found(call.dialect.row, call.ids[4])
        if not permitted(call, table, row, action):
            if not permitted(call, table, row, "read"):
                raise call.dialect.not_found(call.dialect.row, call.ids[4])
            raise ApiError(401, "user_unauthorized", UNAUTHORIZED)
        return row

    def _check_ids(self, call: Call, *, with_row: bool = True) -> None:
        parameters.uid(call.ids[0], "databaseId")
        if with_row:
            self._check_table_id(call)
            parameters.uid(call.ids[4], f"{call.dialect.row}Id")
            if len(call.ids) > 5 and not is_id(call.ids[5]):
                raise argument(call.dialect.column, ID_RULE)

    @staticmethod
    def _check_table_id(call: Call) -> None:
        parameters.uid(call.ids[2], f"{call.dialect.table}Id")

    def _table(self, call: Call) -> tuple[Database, Table]:
        self._check_table_id(call)
        is_guest = call.is_guest
        return self._settings.store.table(call.dialect, call.ids[0], call.ids[2], for_guest=is_guest)

    def _view(self, call: Call, database: Database, table: Table, transaction_id: str) -> View:
        kept = self._settings.transactions.kept.get(transaction_id)
        return View(call.dialect, database, table, None if call.is_guest else kept)

    def _refusing(self, call: Call, row_id: str) -> Refusing:
        return Refusing(call.dialect, row_id, self._settings.unique_violation)


def _known(call: Call) -> str | None:
    """Return the moment up to which the caller knows a row's changes; None for no check."""
    header = call.request.headers.get("x-appwrite-timestamp", "")
    try:
        return dates.stored(header) if header else None
    except ValueError:
        text = "Invalid X-Appwrite-Timestamp header value"
        raise ApiError(400, "general_argument_invalid", text) from None


def _staged_list(
    view: View, total: int, bodies: list[dict[str, Any]], select: list[str] | None
) -> tuple[int, list[dict[str, Any]]]:
    """Return a page with what is staged over it, and behind it what is only staged, whatever the queries ask."""
    found = [view.over(str(body["$id"]), body) for body in bodies]
    there = {str(body["$id"]).lower() for body in bodies}
    made = [
        view.over(row_id, None)
        for row_id, (action, _) in view.staged.items()
        if row_id not in there and action in ("create", "upsert")
    ]
    listed = [selected(body, select) for body in (*found, *made) if body is not None]
    return total + len(listed) - len(bodies), listed
