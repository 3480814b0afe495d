"""The tables that the bookings are stored in, made as far as they are missing: `python -m tables`."""

from __future__ import annotations

import os
from typing import Any

from appwrite.exception import AppwriteException
from appwrite.services.tables_db import TablesDB

from booking_resilience.appwrite import AppwriteClient

DATABASE = "clinic"


def make_tables(client: AppwriteClient) -> None:
    """Make the database and its tables, unless they are there. Appwrite takes a moment until columns can be used."""
    tables: Any = TablesDB(client)
    make(tables.create, DATABASE, "Clinic")
    for table in ("bookings", "slots"):
        make(tables.create_table, DATABASE, table, table)
    for column in ("therapist", "start", "customer"):
        make(tables.create_varchar_column, DATABASE, "bookings", column, 64, True)
    make(tables.create_varchar_column, DATABASE, "slots", "resource", 64, True)
    make(tables.create_varchar_column, DATABASE, "slots", "holder", 64, True)
    make(tables.create_datetime_column, DATABASE, "slots", "start", True)


def make(create: Any, *arguments: Any) -> None:
    """Make something; that it is there already is as good."""
    try:
        create(*arguments)
    except AppwriteException as error:
        if error.code != 409:
            raise


def main() -> None:
    """Make the tables in the Appwrite that the environment names."""
    client: Any = AppwriteClient()
    client.set_endpoint(os.environ["APPWRITE_ENDPOINT"]).set_project(os.environ["APPWRITE_PROJECT"])
    make_tables(client.set_key(os.environ["APPWRITE_KEY"]))


if __name__ == "__main__":
    main()
