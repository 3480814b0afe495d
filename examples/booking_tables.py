"""The tables of the booking workflow, and how they are made on any Appwrite. Used by `booking_flow.py`."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

from appwrite.exception import AppwriteException
from appwrite.services.tables_db import TablesDB

from booking_resilience import BookingSource, Pipeline
from booking_resilience.appwrite import CHAT_TABLES, SLOT_TABLE, AppwriteClient, appwrite_retry

if TYPE_CHECKING:
    from collections.abc import Callable

DATABASE_ID = "booking_resilience"
BOOKINGS = "bookings"
SLOTS = "slots"
DURATIONS = range(15, 481)
"""How long a booking may be, in minutes."""
SETUP = Pipeline(retry=appwrite_retry(max_attempts=5, base_delay=0.1, attempt_timeout=None, deadline=None))
"""How tables are made and read beside the bookings: patiently, and without a breaker."""

_TEXT_64 = {"type": "varchar", "size": 64, "required": True}
TABLES: dict[str, dict[str, Any]] = {
    BOOKINGS: {
        "columns": {
            "reference": _TEXT_64,
            "run": _TEXT_64,
            "therapistId": _TEXT_64,
            "therapistName": {"type": "varchar", "size": 128, "required": True},
            "userId": _TEXT_64,
            "duration": {"type": "integer", "min": DURATIONS.start, "max": DURATIONS.stop - 1, "required": True},
            "start": {"type": "datetime", "required": False},
            "bookingType": {"type": "enum", "elements": ["immediate", "scheduled"], "required": True},
            "mode": {"type": "enum", "elements": ["immediate", "scheduled"], "required": True},
            "source": {"type": "enum", "elements": [source.value for source in BookingSource], "required": True},
            "chatWindowOpen": {"type": "boolean", "required": True},
        },
        "indexes": {"by_run": ["run"], "by_user": ["userId"]},
    },
    **CHAT_TABLES,
    **SLOT_TABLE,
}


def bootstrap(client: AppwriteClient, *, timeout: float = 30.0) -> None:
    """Make the database, its tables, columns and indexes, as far as they are not there yet; the same for any Appwrite.

    Transient failures are retried.

    Args:
        client: A client with a key that may do so.
        timeout: Seconds to wait at most until Appwrite has made columns and indexes, which it does in the background.

    Raises:
        AppwriteException: If Appwrite refuses or does not answer.
        TimeoutError: If a column or an index is still not there after `timeout`.
    """
    tables = TablesDB(client)
    _unless_there(tables.create, database_id=DATABASE_ID, name="Bookings")
    for table_id, table in TABLES.items():
        place = {"database_id": DATABASE_ID, "table_id": table_id}
        _unless_there(tables.create_table, **place, name=table_id)
        for key, column in table["columns"].items():
            settings = {name: value for name, value in column.items() if name != "type"}
            _unless_there(getattr(tables, f"create_{column['type']}_column"), **place, key=key, **settings)
        _wait_until_available(partial(_listed, tables.list_columns, "columns", table_id), table_id, timeout)
        for key, columns in table["indexes"].items():
            _unless_there(tables.create_index, **place, key=key, type="key", columns=columns)
        _wait_until_available(partial(_listed, tables.list_indexes, "indexes", table_id), table_id, timeout)


def _unless_there(create: Callable[..., Any], **arguments: Any) -> None:
    """Create something; what is there already, maybe by an attempt whose answer got lost, is as good."""
    try:
        SETUP.call("bootstrap", create, **arguments)
    except AppwriteException as error:
        if error.code != 409:
            raise


def _listed(list_them: Callable[..., Any], name: str, table_id: str) -> list[Any]:
    """Return what one of the SDK's list calls holds under the name.

    Raises:
        AppwriteException: If it holds no such thing: some web servers answer 200 to whatever they are asked.
    """
    answer = SETUP.call("bootstrap", list_them, database_id=DATABASE_ID, table_id=table_id)
    items = answer.get(name) if isinstance(answer, dict) else getattr(answer, name, None)
    if not isinstance(items, list):
        raise AppwriteException(f"the answer to a request for {name} holds none; is this an Appwrite?")
    return items


def _wait_until_available(listing: Callable[[], list[Any]], table_id: str, timeout: float) -> None:
    end = time.monotonic() + timeout
    while waiting := [item for item in listing() if _value(item, "status") != "available"]:
        if time.monotonic() > end:
            raise TimeoutError(
                f"table {table_id!r}: {len(waiting)} columns or indexes are not available after {timeout} s"
            )
        time.sleep(0.1)


def _value(item: Any, name: str) -> str:
    """Return a field of what the SDK's list calls hold: models or dicts, with enums or texts."""
    value = item[name] if isinstance(item, dict) else getattr(item, name)
    return str(getattr(value, "value", value))
