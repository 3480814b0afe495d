"""Transactions of Appwrite: the calls, and whether a server has them at all.

The word of a transaction is never taken for what became of it: it has been seen to lie both ways.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from booking_resilience.appwrite.calls import Call
from booking_resilience.appwrite.classify import classify
from booking_resilience.appwrite.findings import staged_data
from booking_resilience.appwrite.new_rows import NewRow
from booking_resilience.deadlines import remaining_time

_SHORTEST, _USUAL, _LONGEST = 60, 300, 3600  # seconds that a server lets a transaction live
_NO_ROUTE: Final = (None, "general_route_not_found")
_NEVER: Final = (405, 501)
_AGAIN: Final = frozenset({"transaction_conflict", "transaction_not_ready", "transaction_expired"})


class Begun(NamedTuple):
    """A transaction that was begun.

    Attributes:
        id: Its ID.
        created_at: When, by the server's clock; None if the answer did not say.
    """

    id: str
    created_at: datetime.datetime | None


class Transactions:
    """The calls that make a transaction, of `TablesDB` or of the older `Databases`.

    Args:
        tables: The service, of a client of either colour.
    """

    def __init__(self, tables: Any) -> None:
        self._tables = tables
        is_old = not hasattr(tables, "create_row")
        self._names = ("collectionId", "documentId") if is_old else ("tableId", "rowId")

    def begin(self) -> Call[Begun]:
        """Return the call that begins one that outlives what is left of the deadline."""
        left = remaining_time()
        ttl = _USUAL if left is None else min(max(math.ceil(left) + 1, _SHORTEST), _LONGEST)
        return Call(self._tables.create_transaction, (ttl,), _begun)

    def stage(self, begun: Begun, operations: Sequence[dict[str, Any]]) -> Call[None]:
        """Return the call that stages operations; it must be made once at most for a transaction."""
        return Call(self._tables.create_operations, (begun.id, list(operations)), lambda _: None)

    def commit(self, begun: Begun) -> Call[bool]:
        """Return the call that commits; it gives True, whatever the answer says beyond its status."""
        return Call(self._tables.update_transaction, (begun.id, True), lambda _: True)

    def creation(self, row: NewRow) -> dict[str, Any]:
        """Return the operation that creates a row."""
        data = staged_data(row)
        if row.permissions is not None:
            data["$permissions"] = list(row.permissions)
        return {**self._place("create", row.database_id, row.table_id, row.row_id), "data": data}

    def deletion(self, database_id: str, table_id: str, row_id: str) -> dict[str, Any]:
        """Return the operation that deletes a row."""
        return self._place("delete", database_id, table_id, row_id)

    def _place(self, action: str, database_id: str, table_id: str, row_id: str) -> dict[str, Any]:
        table, row = self._names
        return {"action": action, "databaseId": database_id, table: table_id, row: str(row_id)}


def are_missing(error: BaseException) -> bool:
    """Tell whether the answer to the beginning of a transaction says that the server has none."""
    verdict = classify(error)
    return verdict.status in _NEVER or (verdict.status == 404 and verdict.type in _NO_ROUTE)


def may_begin_anew(error: BaseException) -> bool:
    """Tell whether a transaction that ended so may succeed when it is made anew."""
    return classify(error).type in _AGAIN


def _begun(answer: Any) -> Begun:
    if isinstance(answer, dict):
        id_, created = answer["$id"], answer.get("$createdAt")
    else:
        id_, created = answer.id, answer.createdat
    if not id_:
        raise ValueError("the transaction has no ID")
    return Begun(str(id_), datetime.datetime.fromisoformat(created) if created else None)
