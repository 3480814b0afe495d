"""The commit of a transaction: its operations one after the other, all of them or none, unless it is torn."""

from __future__ import annotations

from typing import Any

from booking_resilience.testing.appwrite_server import listing, parameters, permissions, php, queries, writes
from booking_resilience.testing.appwrite_server.dates import now
from booking_resilience.testing.appwrite_server.dialect import DIALECTS, ApiError, Dialect
from booking_resilience.testing.appwrite_server.staging import Operation, Transaction
from booking_resilience.testing.appwrite_server.store import DuplicateError, Row, Store

_CONFLICT = "The transaction has a conflict. Please resolve the conflict and try again."
_STAGED_ONLY = ("$createdAt", "$updatedAt")


class _MissingError(Exception):
    """The row of an operation is gone."""

    def __init__(self, row_id: str) -> None:
        super().__init__(row_id)
        self.row_id = row_id


def commit(transaction: Transaction, store: Store, dialect: Dialect, torn: tuple[int, str] | None) -> None:
    """Carry a transaction's operations out, and set its state.

    Args:
        transaction: The transaction.
        store: Where the rows are.
        dialect: The vocabulary.
        torn: How many operations are carried out, and whether it then tells `committed` or `conflict`; None for all.

    Raises:
        ApiError: If one can't be carried out; then none is. A torn commit that tells of a conflict leaves its part.
    """
    operations = transaction.operations if torn is None else transaction.operations[: torn[0]]
    transaction.status = "failed"
    try:
        with store.journal:
            _Commit(store, dialect).carry_out(operations)
    except (DuplicateError, writes.ConflictError):
        raise ApiError(409, "transaction_conflict", _CONFLICT) from None
    except _MissingError as missing:
        raise DIALECTS["databases"].not_found("document", missing.row_id) from None
    except writes.StructureError as error:
        raise ApiError(400, "document_invalid_structure", str(error)) from None
    except writes.BoundError as error:
        raise ApiError(400, "attribute_limit_exceeded", str(error)) from None
    except writes.NotANumberError:
        raise ApiError(400, "attribute_type_invalid", "Attribute is not a number") from None
    except writes.RelationError as error:
        raise ApiError(400, "relationship_value_invalid", str(error)) from None
    if torn is not None and torn[1] == "conflict":
        raise ApiError(409, "transaction_conflict", _CONFLICT)
    transaction.status = "committed"


class _Commit:
    """One commit; it knows which rows it has touched itself, whose changes are no conflict."""

    def __init__(self, store: Store, dialect: Dialect) -> None:
        self._store, self._dialect = store, dialect
        self._touched: set[tuple[int, str]] = set()

    def carry_out(self, operations: list[Operation]) -> None:
        for operation in operations:
            database = self._store.databases.get(operation.database.id.lower())
            if database is None or database.tables.get(operation.table.id.lower()) is not operation.table:
                raise _MissingError(operation.row_id or "")
            getattr(self, f"_{operation.action}")(operation)

    def _known(self, operation: Operation, row_id: str) -> str | None:
        """Return up to when a row's changes are known: when it was staged; None for a row that the commit made."""
        return None if (id(operation.table), row_id.lower()) in self._touched else operation.moment

    def _touch(self, operation: Operation, row_id: str) -> None:
        self._touched.add((id(operation.table), row_id.lower()))

    def _create(self, operation: Operation) -> None:
        self._make(operation, operation.row_id or "", operation.data)

    def _make(self, operation: Operation, row_id: str, fields: dict[str, Any]) -> None:
        values = {key: value for key, value in writes.written(fields).items() if key not in _STAGED_ONLY}
        given = fields.get("$permissions") or []
        if permissions.problem(given):  # as its source has it: nothing catches this one
            raise ApiError(500, "general_unknown", "Server Error")
        writes.create(operation.table, row_id, values, given, now())
        self._touch(operation, row_id)

    def _update(self, operation: Operation) -> None:
        row_id = operation.row_id or ""
        row = operation.table.find(row_id)
        if row is None:
            raise _MissingError(row_id)
        values, known = writes.written(operation.data), self._known(operation, row_id)
        writes.update(operation.table, row, values, operation.data.get("$permissions"), now(), known=known)
        self._touch(operation, row_id)

    def _upsert(self, operation: Operation) -> None:
        """As recorded: the ID that counts is the one in the data, which rows staged by `operations` lack."""
        self._put(operation, str(operation.data.get("$id") or parameters.unique_id()), operation.data)

    def _put(self, operation: Operation, row_id: str, fields: dict[str, Any]) -> None:
        known = self._known(operation, row_id)
        values = writes.written(fields)
        writes.upsert(operation.table, row_id, values, fields.get("$permissions"), now(), known=known)
        self._touch(operation, row_id)

    def _delete(self, operation: Operation) -> None:
        row_id = operation.row_id or ""
        row = operation.table.find(row_id)
        if row is None:
            raise _MissingError(row_id)
        writes.delete(operation.table, row, self._known(operation, row_id))
        self._touched.discard((id(operation.table), row_id.lower()))

    def _increment(self, operation: Operation) -> None:
        self._increase(operation, 1)

    def _decrement(self, operation: Operation) -> None:
        self._increase(operation, -1)

    def _increase(self, operation: Operation, sign: int) -> None:
        data, row_id = operation.data, operation.row_id or ""
        key = str(data.get("column", data.get("attribute", "")))
        bound = data.get("max" if sign > 0 else "min")
        limit = {"high" if sign > 0 else "low": php.number(bound) if php.is_numeric(bound) else None}
        value = php.number(data.get("value") or 1)
        try:
            writes.increase(
                operation.table, row_id, key, sign * value, now(), known=self._known(operation, row_id), **limit
            )
        except writes.GoneError:
            raise _MissingError(row_id) from None
        self._touch(operation, row_id)

    def _bulkCreate(self, operation: Operation) -> None:  # noqa: N802 - the action's name
        for fields in operation.data:
            self._make(operation, str(fields["$id"]), fields)

    def _bulkUpsert(self, operation: Operation) -> None:  # noqa: N802 - the action's name
        for fields in operation.data:
            self._put(operation, str(fields["$id"]), fields)

    def _bulkUpdate(self, operation: Operation) -> None:  # noqa: N802 - the action's name
        values = writes.written(operation.data["data"])
        writes.check(operation.table, values, is_whole=False)
        for row in self._found(operation):
            given, known = operation.data["data"].get("$permissions"), self._known(operation, row.id)
            writes.update(operation.table, row, values, given, now(), known=known, always_moves=True)
            self._touch(operation, row.id)

    def _bulkDelete(self, operation: Operation) -> None:  # noqa: N802 - the action's name
        for row in self._found(operation):
            writes.delete(operation.table, row, self._known(operation, row.id))

    def _found(self, operation: Operation) -> list[Row]:
        asked = queries.check(queries.parse(operation.data["queries"]), operation.table)
        return listing.carry_out(asked, operation.table, self._dialect, default=None)[1]
