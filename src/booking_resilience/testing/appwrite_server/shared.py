"""What the routes of single rows and those of many share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from booking_resilience.testing.appwrite_server import dates
from booking_resilience.testing.appwrite_server.access import granted
from booking_resilience.testing.appwrite_server.dialect import ApiError
from booking_resilience.testing.appwrite_server.exchange import Call
from booking_resilience.testing.appwrite_server.staging import Operation, Transactions
from booking_resilience.testing.appwrite_server.store import Row, Store, Table


@dataclass(frozen=True, slots=True)
class Settings:
    """What the routes of rows share: where rows and transactions are, and how a violated unique index is told."""

    store: Store
    transactions: Transactions
    unique_violation: str


def permitted(call: Call, table: Table, row: Row, action: str) -> bool:
    """Tell whether the caller may do something with a row."""
    if not call.is_guest or granted(table.permissions, action):
        return True
    return table.row_security and granted(row.permissions, action)


def staged(settings: Settings, call: Call, transaction_id: str, action: str, row_id: str | None, data: Any) -> None:
    """Stage an operation of one of the row routes."""
    is_strict = action in ("increment", "decrement", "bulkUpdate", "bulkUpsert", "bulkDelete")
    pending = settings.transactions.pending(transaction_id, is_guest=call.is_guest, adds=1, is_strict=is_strict)
    database, table = settings.store.table(call.dialect, call.ids[0], call.ids[2])
    settings.transactions.stage(pending, [Operation(action, database, table, row_id, data, dates.now())])


def guest_permissions(call: Call, permissions: list[str] | None) -> None:
    """Check that a guest gives no permissions to others."""
    if call.is_guest and permissions:
        roles = {text.partition('("')[2].removesuffix('")') for text in permissions}
        if not roles <= {"any", "guests"}:
            raise ApiError(401, "user_unauthorized", "Permissions must be one of: (any, guests)")
