"""Transactions as they are staged: what they hold, and how rows look from inside of one."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field
from typing import Any

from booking_resilience import clock
from booking_resilience.testing.appwrite_server import filters, parameters, queries
from booking_resilience.testing.appwrite_server.bodies import row_body
from booking_resilience.testing.appwrite_server.dates import now, timestamp
from booking_resilience.testing.appwrite_server.dialect import ApiError, Dialect, bad_request
from booking_resilience.testing.appwrite_server.store import Database, Row, Table

MOST_OPERATIONS = 100
_MOST_KEPT = 10_000  # transactions
NOT_PENDING = "Invalid or non‑pending transaction"  # noqa: RUF001 - the real server's hyphen


@dataclass(frozen=True, slots=True)
class Operation:
    """One staged operation; `data` depends on the action, `moment` is when it was staged."""

    action: str
    database: Database
    table: Table
    row_id: str | None
    data: Any
    moment: str


@dataclass(slots=True)
class Transaction:
    """One transaction; of one that is over the operations are forgotten, `staged` still tells how many they were."""

    id: str
    created: str
    updated: str
    expires: datetime.datetime
    status: str = "pending"
    operations: list[Operation] = field(default_factory=list)
    staged: int = 0

    @property
    def is_over(self) -> bool:
        """Whether its time is up."""
        return clock.utc_now() > self.expires

    def body(self) -> dict[str, Any]:
        """Return it as an answer holds it."""
        return {
            "$id": self.id,
            "$createdAt": self.created,
            "$updatedAt": self.updated,
            "status": self.status,
            "operations": self.staged,
            "expiresAt": timestamp(self.expires),
        }


class Transactions:
    """All transactions of the project."""

    def __init__(self) -> None:
        self.kept: dict[str, Transaction] = {}

    def begin(self, ttl: int) -> Transaction:
        """Begin one that ends after so many seconds."""
        moment = now()
        expires = clock.utc_now() + datetime.timedelta(seconds=ttl)
        made = Transaction(parameters.unique_id(), moment, moment, expires)
        if len(self.kept) >= _MOST_KEPT:  # the real server removes old ones, too
            self.kept = {id_: one for id_, one in self.kept.items() if one.status == "pending" and not one.is_over}
        self.kept[made.id] = made
        return made

    def find(self, id_: str, *, is_guest: bool) -> Transaction:
        """Return the transaction with an ID; guests find none.

        Raises:
            ApiError: If there is none.
        """
        found = None if is_guest else self.kept.get(id_)
        if found is None:
            message = f"Transaction with the requested ID '{id_}' could not be found."
            raise ApiError(404, "transaction_not_found", message)
        return found

    def pending(self, id_: str, *, is_guest: bool, adds: int = 0, is_strict: bool = False) -> Transaction:
        """Return a transaction that is pending and has room.

        Args:
            id_: Its ID.
            is_guest: Whether a guest asks.
            adds: How many operations are to be added.
            is_strict: Whether the request is a bad one where there is none, as some routes say.

        Raises:
            ApiError: If there is none, or its time is up, or it is full.
        """
        if is_strict and (is_guest or id_ not in self.kept or self.kept[id_].status != "pending"):
            raise bad_request(NOT_PENDING)
        found = self.find(id_, is_guest=is_guest)
        if found.status != "pending":
            raise not_ready()
        check_room(found, adds)
        return found

    def stage(self, transaction: Transaction, operations: list[Operation]) -> None:
        """Add operations to a transaction."""
        transaction.operations += operations
        transaction.staged += len(operations)
        transaction.updated = now()


def check_room(transaction: Transaction, adds: int) -> None:
    """Check that a transaction's time isn't up, and that it has room for so many operations.

    Raises:
        ApiError: If not. Of an expired one 1.9.6 tells by a 500 of its own type.
    """
    if transaction.is_over:
        raise ApiError(500, "transaction_expired", "Server Error")
    there = transaction.staged
    if there + adds > MOST_OPERATIONS:
        text = f"adding {adds} would exceed the maximum of {MOST_OPERATIONS}"
        raise ApiError(400, "transaction_limit_exceeded", f"Transaction already has {there} operations, {text}")


def not_ready() -> ApiError:
    """Return the error for a transaction that is committed or has failed."""
    return ApiError(400, "transaction_not_ready", "The transaction is not ready yet. Please try again later.")


class View:
    """A table as it looks from inside a transaction: what is stored, and what is staged over it.

    Args:
        dialect: The vocabulary.
        database: The table's database.
        table: The table.
        transaction: The transaction; None for what is stored.
    """

    def __init__(self, dialect: Dialect, database: Database, table: Table, transaction: Transaction | None) -> None:
        self._dialect, self._database, self._table = dialect, database, table
        self.staged: dict[str, tuple[str, dict[str, Any]]] = {}  # of each row's ID: the action, and what is set
        pending = transaction is not None and transaction.status == "pending"
        for operation in transaction.operations if transaction is not None and pending else ():
            if operation.table is table:
                self._replay(operation)

    def _replay(self, operation: Operation) -> None:
        action, data, row_id = operation.action, operation.data, operation.row_id or ""
        if action in ("create", "upsert", "update"):
            self._set(action, row_id, data)
        elif action == "delete":
            self.staged[row_id.lower()] = ("delete", {})
        elif action in ("increment", "decrement"):
            self._add(row_id, data, -1 if action == "decrement" else 1)
        elif action in ("bulkCreate", "bulkUpsert"):
            for item in data:
                self._set("create" if action == "bulkCreate" else "upsert", str(item.get("$id", "")), item)
        else:
            self._replay_bulk(action, data)

    def _set(self, action: str, row_id: str, data: dict[str, Any]) -> None:
        before, fields = self.staged.get(row_id.lower(), (action, {}))
        if action == "update" and before in ("create", "upsert"):
            action = before
        kept = fields if action != "create" and before != "delete" else {}
        self.staged[row_id.lower()] = (action, {**kept, **data, "$id": row_id})

    def _add(self, row_id: str, data: dict[str, Any], sign: int) -> None:
        key, value = data.get("column", data.get("attribute")), data.get("value", 1)
        body = self.body(row_id)
        if body is not None and isinstance(key, str) and isinstance(body.get(key) or 0, (int, float)):
            self._set("update", row_id, {key: (body.get(key) or 0) + sign * value})

    def _replay_bulk(self, action: str, data: dict[str, Any]) -> None:
        tests = [
            filters.test_of(query, self._table)
            for query in queries.check(queries.parse(data["queries"]), self._table).filters
        ]
        for row_id, (before, fields) in list(self.staged.items()):
            row = Row(str(fields.get("$id", row_id)), 0, "", "", [], fields)
            if before != "delete" and all(test(row) for test in tests):
                changed = ("delete", {}) if action == "bulkDelete" else (before, {**fields, **data["data"]})
                self.staged[row_id] = changed

    def body(self, row_id: str) -> dict[str, Any] | None:
        """Return a row as it looks; None if there is none."""
        stored = self._table.find(row_id)
        body = None if stored is None else row_body(self._dialect, self._database, self._table, stored)
        return self.over(row_id, body)

    def over(self, row_id: str, body: dict[str, Any] | None) -> dict[str, Any] | None:
        """Return what is staged over a stored row; None if it is not there."""
        action, fields = self.staged.get(row_id.lower(), ("", {}))
        if action == "delete":
            return None
        if not action or (action == "update" and body is None):
            return body
        if action == "create" or body is None:
            return self.mock(str(fields["$id"]), fields)
        return {**body, **fields, "$id": body["$id"]}

    def mock(self, row_id: str, fields: dict[str, Any]) -> dict[str, Any]:
        """Return what is told of a row that is only staged: no moments, no sequence."""
        names = {"$databaseId": self._database.id, f"${self._dialect.table}Id": self._table.id, "$sequence": ""}
        return {"$permissions": [], **fields, "$id": row_id, **names}


def selected(body: dict[str, Any], select: list[str] | None) -> dict[str, Any]:
    """Return the columns of a staged row that are wanted, and what the system keeps."""
    if select is None or "*" in select:
        return body
    return {key: value for key, value in body.items() if key in select or key.startswith("$")}
