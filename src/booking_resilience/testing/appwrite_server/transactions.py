"""The routes of transactions: begin, get, list, stage, commit, roll back, delete."""

from __future__ import annotations

from typing import Any

from booking_resilience.testing.appwrite_server import parameters, php
from booking_resilience.testing.appwrite_server import permissions as rights
from booking_resilience.testing.appwrite_server.access import UNAUTHORIZED
from booking_resilience.testing.appwrite_server.commit import commit
from booking_resilience.testing.appwrite_server.dates import now
from booking_resilience.testing.appwrite_server.dialect import DIALECTS, ApiError, Dialect, argument, bad_request
from booking_resilience.testing.appwrite_server.exchange import Answer, Call, deleted
from booking_resilience.testing.appwrite_server.shared import Settings
from booking_resilience.testing.appwrite_server.staging import (
    NOT_PENDING,
    Operation,
    Transaction,
    View,
    check_room,
    not_ready,
)
from booking_resilience.testing.appwrite_server.store import Database, Store, Table
from booking_resilience.testing.appwrite_server.tables import listed

_SINGLE = ("create", "update", "upsert", "delete", "increment", "decrement")
_ACTIONS = (*_SINGLE, "bulkCreate", "bulkUpdate", "bulkUpsert", "bulkDelete")
_SHORTEST, _LONGEST, _USUAL = 60, 3600, 300  # seconds


class TransactionRoutes:
    """What can be done with transactions.

    Args:
        settings: Where they and the rows are.
    """

    def __init__(self, settings: Settings) -> None:
        self._store, self._transactions = settings.store, settings.transactions

    def create(self, call: Call) -> Answer:
        """Begin a transaction."""
        ttl = parameters.whole(call.body, "ttl", _SHORTEST, _LONGEST, _USUAL)
        return Answer(201, self._transactions.begin(ttl).body())

    def list(self, call: Call) -> Answer:
        """List the transactions."""
        kept = [] if call.is_guest else self._transactions.kept.values()
        items = [(transaction.created, transaction.updated, transaction) for transaction in kept]
        return listed(call, "transactions", items, Transaction.body)

    def get(self, call: Call) -> Answer:
        """Get a transaction."""
        return Answer(200, self._find(call).body())

    def delete(self, call: Call) -> Answer:
        """Remove a transaction; what it has committed stays."""
        del self._transactions.kept[self._find(call).id]
        return deleted()

    def update(self, call: Call) -> Answer:
        """Commit a transaction, or roll it back."""
        parameters.uid(call.ids[1], "transactionId")
        commits = parameters.boolean(call.body, "commit", False)
        rolls_back = parameters.boolean(call.body, "rollback", False)
        if not commits and not rolls_back:
            raise bad_request("Either commit or rollback must be true")
        if commits and rolls_back:
            raise bad_request("Cannot commit and rollback at the same time")
        transaction = self._find(call)
        if transaction.status != "pending":
            raise not_ready()
        check_room(transaction, 0)
        try:
            if commits:
                commit(transaction, self._store, call.dialect, call.torn)
            else:
                transaction.status = "failed"
        finally:
            transaction.updated = now()
            transaction.operations = []
        return Answer(200, transaction.body())

    def stage(self, call: Call) -> Answer:
        """Stage operations."""
        parameters.uid(call.ids[1], "transactionId")
        asked = call.body.get("operations", [])
        if not isinstance(asked, list):
            raise argument("operations", "Value must a valid array")
        for fields in asked:
            if problem := _problem(fields, call.dialect):
                raise argument("operations", f"Value must a valid array and {problem}")
        if not asked:
            raise bad_request("Operations array cannot be empty")
        transaction = self._find(call)
        if transaction.status != "pending":
            raise bad_request(NOT_PENDING)
        check_room(transaction, len(asked))
        made: set[tuple[int, str]] = set()
        operations = [self._operation(call, transaction, fields, made) for fields in asked]
        self._transactions.stage(transaction, operations)
        return Answer(201, transaction.body())

    def _find(self, call: Call) -> Transaction:
        id_ = parameters.uid(call.ids[1], "transactionId")
        return self._transactions.find(id_, is_guest=call.is_guest)

    def _operation(
        self, call: Call, transaction: Transaction, fields: dict[str, Any], made: set[tuple[int, str]]
    ) -> Operation:
        action, dialect = fields["action"], call.dialect
        if call.is_guest and action not in _SINGLE:
            raise ApiError(401, "user_unauthorized", UNAUTHORIZED)
        database, table = _place(self._store, dialect, fields)
        if action not in _SINGLE and any(column.relation for column in table.columns.values()):
            text = f"Bulk operations are not supported for {dialect.table}Id with relationship attributes"
            raise bad_request(text)
        row_id, data = fields.get(f"{dialect.row}Id"), fields.get("data", {})
        if isinstance(data, dict):
            parameters.refuse_operators(data)
        if isinstance(row_id, str) and action in _SINGLE and action not in ("create", "upsert"):
            there = View(dialect, database, table, transaction).body(row_id)
            if there is None and (id(table), row_id.lower()) not in made:
                raise DIALECTS["databases"].not_found("document", row_id)
        if action == "create" and isinstance(row_id, str):
            row_id = parameters.unique_id() if row_id == "unique()" else row_id
            made.add((id(table), row_id.lower()))
        return Operation(action, database, table, row_id, _given(action, data), now())


def _place(store: Store, dialect: Dialect, fields: dict[str, Any]) -> tuple[Database, Table]:
    """Return the table of an operation; the real server calls a missing one a collection in both APIs."""
    database = store.database(dialect, fields["databaseId"])
    table_id = fields[f"{dialect.table}Id"]
    table = database.tables.get(table_id.lower())
    if table is None:
        raise DIALECTS["databases"].not_found("collection", table_id)
    return database, table


def _given(action: str, data: Any) -> Any:
    if action in ("bulkCreate", "bulkUpsert"):
        rows = data.values() if isinstance(data, dict) else data
        given = [row if isinstance(row, dict) else {} for row in rows]
        return [{**row, "$id": row.get("$id") or parameters.unique_id()} for row in given]
    if isinstance(data, dict) and isinstance(data.get("$permissions"), list):
        return {**data, "$permissions": rights.aggregated([str(text) for text in data["$permissions"]])}
    return {str(place): item for place, item in enumerate(data)} if isinstance(data, list) else data


def _problem(fields: Any, dialect: Dialect) -> str | None:
    """Return what is wrong with an operation, in Appwrite's words; None if nothing is."""
    if not isinstance(fields, dict):
        return "Value must be an array"
    needed, row_name = ("databaseId", "action", f"{dialect.table}Id"), f"{dialect.row}Id"
    for key in needed:
        if key not in fields:
            return f"Missing required key: {key}"
    for key in needed:
        if not isinstance(fields[key], str) or not fields[key].strip():
            return f"Key '{key}' must be a non‑empty string"  # noqa: RUF001 - the real server's hyphen
    action = fields["action"]
    if action not in _ACTIONS:
        return f"Key 'action' must be one of: {', '.join(_ACTIONS)}"
    if action in _SINGLE and row_name not in fields:
        return f"Key '{row_name}' is required for action '{action}'"
    if row_name in fields and (not isinstance(fields[row_name], str) or not fields[row_name].strip()):
        return f"Key '{row_name}' must be a non-empty string"
    if action != "delete" and "data" not in fields:
        return "Missing required key: data"
    if "data" in fields and not isinstance(fields["data"], (dict, list)):
        return "Key 'data' must be an array"
    return _problem_of_data(action, fields.get("data", {}), dialect)


def _problem_of_data(action: str, data: Any, dialect: Dialect) -> str | None:
    given = data if isinstance(data, dict) else {}
    if action in ("bulkUpdate", "bulkDelete"):
        if "queries" not in given:
            return f"Key 'queries' is required in data for {action}"
        if not isinstance(given["queries"], list) or not all(isinstance(text, str) for text in given["queries"]):
            return f"Key 'queries' must be an array for {action}"
    if action == "bulkUpdate":
        if "data" not in given:
            return f"Key 'data' is required in data for {action}"
        if not isinstance(given["data"], dict):
            return f"Key 'data.data' must be an array for {action}"
    if action in ("increment", "decrement"):
        if dialect.column not in given:
            return f"Key '{dialect.column}' is required in data for {action}"
        if "value" in given and not php.is_numeric(given["value"]):
            return f"Key 'value' must be a numeric value for {action}"
    return None
