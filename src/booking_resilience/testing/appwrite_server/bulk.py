"""The routes of many rows: create, update, upsert and delete at once; all of them happen, or none. Keys only."""

from __future__ import annotations

from typing import Any

from booking_resilience.testing.appwrite_server import dates, listing, parameters, queries, writes
from booking_resilience.testing.appwrite_server import permissions as rights
from booking_resilience.testing.appwrite_server.bodies import Refusing, row_body
from booking_resilience.testing.appwrite_server.dialect import ID_RULE, ApiError, bad_request, is_id
from booking_resilience.testing.appwrite_server.exchange import Answer, Call
from booking_resilience.testing.appwrite_server.shared import Settings, staged
from booking_resilience.testing.appwrite_server.store import Database, Row, Table

_MOST_SHOWN = 100


class BulkRoutes:
    """What can be done with many rows of a table at once.

    Args:
        settings: Where they are, and what else the routes share.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def create(self, call: Call, rows: list[dict[str, Any]], transaction_id: str | None) -> Answer:
        """Add rows; without IDs they get some."""
        _keys_only(call)
        database, table = self._table(call, "create")
        made = [_with_id(fields) for fields in rows]
        if transaction_id is not None:
            staged(self._settings, call, transaction_id, "bulkCreate", None, made)
            return _answer(call, 200, len(made), [])
        moment = dates.now()
        with self._all_or_none(call), self._settings.store.journal:
            created = [
                writes.create(table, fields["$id"], writes.written(fields), fields["$permissions"], moment)
                for fields in made
            ]
        return self._shown(call, 201, database, table, created)

    def update(self, call: Call) -> Answer:
        """Change the rows that queries find, by default all."""
        _ids(call)
        data, asked = parameters.data(call.body), parameters.queries(call.body)
        transaction_id = parameters.transaction_id(call.body)
        _keys_only(call)
        if not data:
            raise call.dialect.missing_payload()
        database, table = self._table(call, "update")
        parsed = queries.parse(asked)
        given = data.get("$permissions")
        if given is not None and (problem := rights.problem(given)):
            raise bad_request(problem)
        values = writes.written(data)
        if transaction_id is not None:
            fields = values if given is None else {**values, "$permissions": given}
            staged(self._settings, call, transaction_id, "bulkUpdate", None, {"data": fields, "queries": asked})
            return _answer(call, 200, 0, [])
        with self._all_or_none(call), self._settings.store.journal:
            writes.check(table, values, is_whole=False)
            found = self._found(call, table, parsed)
            moment = dates.now()
            for row in found:
                writes.update(table, row, values, given, moment, always_moves=True)
        return self._shown(call, 200, database, table, found)

    def upsert(self, call: Call) -> Answer:
        """Make or change rows; ID by ID they are as single upserts."""
        _ids(call)
        parameters.required(call.body, f"{call.dialect.row}s")
        rows = parameters.rows(call.body, f"{call.dialect.row}s")
        transaction_id = parameters.transaction_id(call.body)
        _keys_only(call)
        database, table = self._table(call, "upsert")
        made = [_with_id(fields, keeps_permissions=True) for fields in rows]
        if transaction_id is not None:
            staged(self._settings, call, transaction_id, "bulkUpsert", None, made)
            return _answer(call, 200, len(made), [])
        moment = dates.now()
        with self._all_or_none(call), self._settings.store.journal:
            done = [
                writes.upsert(table, fields["$id"], writes.written(fields), fields["$permissions"], moment)
                for fields in made
            ]
        return self._shown(call, 200, database, table, done)

    def delete(self, call: Call) -> Answer:
        """Remove the rows that queries find, by default all."""
        _ids(call)
        asked, transaction_id = parameters.queries(call.body), parameters.transaction_id(call.body)
        _keys_only(call)
        database, table = self._table(call, "delete")
        parsed = queries.parse(asked)
        if transaction_id is not None:
            staged(self._settings, call, transaction_id, "bulkDelete", None, {"queries": asked})
            return _answer(call, 200, 0, [])
        found = self._found(call, table, parsed)
        for row in found:
            table.delete(row)
        return self._shown(call, 200, database, table, found)

    @staticmethod
    def _found(call: Call, table: Table, parsed: list[queries.Query]) -> list[Row]:
        return listing.carry_out(queries.check(parsed, table), table, call.dialect, default=None)[1]

    def _table(self, call: Call, word: str) -> tuple[Database, Table]:
        database, table = self._settings.store.table(call.dialect, call.ids[0], call.ids[2])
        if any(column.relation for column in table.columns.values()):
            text = f"Bulk {word} is not supported for {call.dialect.namespace} with relationship"
            raise bad_request(f"{text} {call.dialect.column if word == 'create' else 'attribute'}s")
        return database, table

    def _all_or_none(self, call: Call) -> Refusing:
        return Refusing(call.dialect, "", self._settings.unique_violation)

    @staticmethod
    def _shown(call: Call, status: int, database: Database, table: Table, rows: list[Row]) -> Answer:
        bodies = [row_body(call.dialect, database, table, row, is_written=True) for row in rows[:_MOST_SHOWN]]
        return _answer(call, status, len(rows), bodies)


def _answer(call: Call, status: int, total: int, bodies: list[dict[str, Any]]) -> Answer:
    return Answer(status, {"total": total, f"{call.dialect.row}s": bodies})


def _ids(call: Call) -> None:
    parameters.uid(call.ids[0], "databaseId")
    parameters.uid(call.ids[2], f"{call.dialect.table}Id")


def _keys_only(call: Call) -> None:
    if call.is_guest:
        text = "The current user or API key does not have the required scopes to access the requested resource."
        raise ApiError(401, "general_unauthorized_scope", text)


def _with_id(fields: dict[str, Any], *, keeps_permissions: bool = False) -> dict[str, Any]:
    """Return a row's fields with an ID and permissions: none, or None to keep those that are there."""
    id_ = fields.get("$id")
    if id_ is None or id_ == "unique()":
        id_ = parameters.unique_id()
    elif id_ is True:
        id_ = "1"
    if not is_id(id_):
        raise bad_request(ID_RULE)
    given = fields.get("$permissions")
    if given and (problem := rights.problem(given)):
        raise bad_request(problem)
    permissions = rights.aggregated(given) if given else None if keeps_permissions else []
    return {**fields, "$id": id_, "$permissions": permissions}
