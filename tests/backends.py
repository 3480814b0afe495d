"""The Appwrite that a test runs on: the embedded one, or a real one named by the environment."""

from __future__ import annotations

import os
import time
import uuid
from dataclasses import dataclass
from typing import Any

import pytest
from appwrite.exception import AppwriteException
from appwrite.query import Query
from appwrite.services.tables_db import TablesDB

from booking_resilience.appwrite import AppwriteClient
from booking_resilience.appwrite.rows import row_of

LIVE = ("APPWRITE_ENDPOINT", "APPWRITE_PROJECT", "APPWRITE_KEY")
JSON = {"content-type": "application/json"}
SLOTS: dict[str, dict[str, Any]] = {
    "slot": {"type": "varchar", "size": 64, "required": True},
    "doctor": {"type": "varchar", "size": 64, "required": False},
    "price": {"type": "float", "required": False},
    "count": {"type": "integer", "required": False},
    "at": {"type": "datetime", "required": False},
    "tags": {"type": "varchar", "size": 16, "required": False, "array": True},
    "data": {"type": "varchar", "size": 64, "required": False},
}
"""The columns of a table of bookings, of all kinds that are compared in a way of their own."""


def live_client() -> AppwriteClient:
    """Return a client of the Appwrite that the environment names; skips the test if it names none."""
    missing = [name for name in LIVE if not os.environ.get(name)]
    if missing:
        pytest.skip(f"needs a real Appwrite: {', '.join(missing)} not set")
    endpoint, project, key = (os.environ[name] for name in LIVE)
    client: Any = AppwriteClient()
    return client.set_endpoint(endpoint).set_project(project).set_key(key)


def setting(client: Any, name: str) -> str:
    """Return the project or the key that a client was given; the SDK keeps it in one of two places."""
    get = getattr(client, "get_config", lambda _: "")
    return str(get(name) or client._global_headers.get(f"x-appwrite-{name}", ""))


def call(client: Any, method: str, path: str, **params: Any) -> Any:
    """Call a route by itself: the SDK's methods for columns differ between its versions."""
    return client.call(method, path, {**JSON, "X-Appwrite-Project": setting(client, "project")}, params)


def wait_until_available(client: Any, path: str, kind: str) -> None:
    """Wait until the server's worker has made all columns or indexes; the embedded one makes them at once."""
    end = time.monotonic() + 60
    while any(item["status"] != "available" for item in call(client, "get", f"{path}/{kind}")[kind]):
        assert time.monotonic() < end, f"{path}/{kind} are not available"
        time.sleep(0.1)


def make_table(
    client: Any, database_id: str, table_id: str, columns: dict[str, dict[str, Any]], indexes: dict[str, Any]
) -> str:
    """Make a table and return its ID; `indexes` are lists of columns, or parameters."""
    tables = f"/tablesdb/{database_id}/tables"
    path = f"{tables}/{table_id}"
    call(client, "post", tables, tableId=table_id, name=table_id)
    for key, column in columns.items():
        facts = {name: value for name, value in column.items() if name != "type"}
        call(client, "post", f"{path}/columns/{column['type']}", key=key, **facts)
    wait_until_available(client, path, "columns")
    for key, index in indexes.items():
        facts = index if isinstance(index, dict) else {"type": "key", "columns": index}
        call(client, "post", f"{path}/indexes", key=key, **facts)
    wait_until_available(client, path, "indexes")
    return table_id


@dataclass(frozen=True, slots=True)
class Backend:
    """An Appwrite with a database for one test run.

    Attributes:
        client: A client with a key that may do everything.
        database_id: The database.
        server: The embedded server, None if it is a real one.
    """

    client: Any
    database_id: str
    server: Any = None

    @property
    def tables(self) -> Any:
        """The SDK's service."""
        return TablesDB(self.client)

    def make_table(
        self,
        columns: dict[str, dict[str, Any]] | None = None,
        indexes: dict[str, Any] | None = None,
        *,
        named: str = "",
    ) -> str:
        """Make a table, of bookings if nothing else is asked for, and return its ID."""
        table_id = named or f"t-{uuid.uuid4().hex[:12]}"
        return make_table(self.client, self.database_id, table_id, SLOTS if columns is None else columns, indexes or {})

    def rows(self, table_id: str) -> dict[str, dict[str, Any]]:
        """Return the data of up to 5,000 rows, by their IDs."""
        listed = self.tables.list_rows(self.database_id, table_id, [Query.limit(5000)])
        return {row.id: dict(row.data) for row in map(row_of, listed.rows)}


def make_database(client: Any, server: Any = None) -> Backend:
    """Make a database of its own."""
    database_id = f"test-{uuid.uuid4().hex[:12]}"
    call(client, "post", "/tablesdb", databaseId=database_id, name="Tests of booking_resilience")
    return Backend(client, database_id, server)


def drop_database(backend: Backend) -> None:
    """Remove the database again."""
    try:
        call(backend.client, "delete", f"/tablesdb/{backend.database_id}")
    except AppwriteException as error:
        assert error.code == 404
