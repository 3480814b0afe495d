"""Bookings that survive outages and crashes: `python examples/durable_booking.py [--bookings 20] [--kill]`.

A booking is a workflow. The customer gets "received" as soon as it is kept; its slots and row, its chat room and two
messages follow. One that is refused for good is told to `on_refused`; one that is cancelled is undone. With `--kill`
the worker is killed and started again while it works, and what is stored is counted at the end.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import multiprocessing
import random
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from appwrite.query import Query
from appwrite.services.tables_db import TablesDB

from booking_resilience import Pipeline, message_for
from booking_resilience.appwrite import (
    AppwriteClient,
    NewRow,
    RowConflictError,
    SlotTakenError,
    appwrite_breaker,
    appwrite_retry,
    create_row_once,
    create_rows_once,
    delete_row_once,
    time_slots,
)
from booking_resilience.durable import CallError, Durable, GaveUpError, WorkflowCancelledError
from booking_resilience.testing import AppwriteServer, Fault

DATABASE = "durable"
ROWS = (("rooms", "room-"), ("messages", "welcome-"), ("messages", "received-"))
OPENING = datetime.datetime(2027, 1, 4, 8, 0, tzinfo=datetime.UTC)
HALF_AN_HOUR = datetime.timedelta(minutes=30)
REFUSED = (CallError, SlotTakenError, RowConflictError, GaveUpError, WorkflowCancelledError)
KILLS = 3
FAULTS = [Fault.status(503), Fault.reset(), Fault.close(after_commit=True), Fault.cut_body(after_commit=True)]


class OnRefused(Protocol):
    """Is told of bookings that were refused for good, at least once each; the booking's ID is the key."""

    async def __call__(self, booking_id: str, message: str) -> None:
        """Tell the customer."""
        ...


async def print_refused(booking_id: str, message: str) -> None:
    """Tell whoever watches."""
    print(f"refused: {booking_id}: {message}")


def bookings(database: str, client: AppwriteClient, on_refused: OnRefused = print_refused) -> tuple[Durable, Any]:
    """Return a `Durable` and the workflow that makes a booking."""
    tables: Any = TablesDB(client)
    pipeline = Pipeline(retry=appwrite_retry(), breaker=appwrite_breaker(cooldown=2.0))
    durable = Durable(database, version="1", pipeline=pipeline)

    async def undo(table: str, row_id: str, expected: Mapping[str, Any]) -> None:
        place = {"database_id": DATABASE, "table_id": table, "row_id": row_id}
        with contextlib.suppress(RowConflictError):  # it is somebody else's: a slot, say
            await durable.call_once(delete_row_once, tables, operation=f"undo {table}", expected=expected, **place)

    @durable.workflow
    async def book(booking_id: str, therapist: str, start: str) -> str:
        begin, data = datetime.datetime.fromisoformat(start), {"booking": booking_id}
        slots = time_slots(
            database_id=DATABASE, resource_id=therapist, holder=booking_id, start=begin, end=begin + HALF_AN_HOUR
        )
        rows = [NewRow(DATABASE, "bookings", booking_id, data), *slots]
        try:
            await durable.call_once(create_rows_once, tables, rows, operation="create the booking")
            for table, prefix in ROWS:
                await durable.call_once(
                    create_row_once,
                    tables,
                    operation=f"create {table}",
                    database_id=DATABASE,
                    table_id=table,
                    row_id=f"{prefix}{booking_id}",
                    data=data,
                )
        except REFUSED as error:
            for table, prefix in reversed(ROWS):  # also the write that was under way
                await undo(table, f"{prefix}{booking_id}", data)
            for row in reversed(rows):
                await undo(row.table_id, row.row_id, {"holder": booking_id} if row in slots else data)
            if not isinstance(error, WorkflowCancelledError):
                await durable.call("tell", on_refused, booking_id, message_for(error))
            raise
        return booking_id

    return durable, book


def client_of(endpoint: str) -> AppwriteClient:
    """Return a client of the embedded server."""
    client: Any = AppwriteClient()
    made: AppwriteClient = client.set_endpoint(endpoint).set_project("demo").set_key("demo-key")
    return made


def work(database: str, endpoint: str, count: int) -> None:
    """Submit bookings, by the key of their request, and work until all are made."""
    durable, book = bookings(database, client_of(endpoint))
    with durable:
        for number in range(count):
            key = f"request-{number}"  # the request's idempotency key: a double click is one booking
            start = OPENING + number * HALF_AN_HOUR
            durable.submit(book, key, "therapist", start.isoformat(), id=key)
        for number in range(count):
            with contextlib.suppress(*REFUSED):
                durable.result(f"request-{number}")


def make_tables(client: AppwriteClient) -> Any:
    """Make the example's tables."""
    tables: Any = TablesDB(client)
    tables.create(DATABASE, DATABASE)
    for table in ("bookings", "rooms", "messages"):
        tables.create_table(DATABASE, table, table)
        tables.create_varchar_column(DATABASE, table, "booking", 64, True)
    tables.create_table(DATABASE, "slots", "slots")
    tables.create_varchar_column(DATABASE, "slots", "resource", 64, True)
    tables.create_varchar_column(DATABASE, "slots", "holder", 64, True)
    tables.create_datetime_column(DATABASE, "slots", "start", True)
    return tables


def stored(tables: Any, table: str) -> int:
    """Return how many rows a table has."""
    query: Any = Query
    return int(tables.list_rows(DATABASE, table, [query.limit(1)]).total)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options; exits with code 2 if one is wrong."""
    parser = argparse.ArgumentParser(description="Durable bookings on the embedded server.")
    parser.add_argument("--bookings", type=int, default=20)
    parser.add_argument("--fault-rate", type=float, default=0.2)
    parser.add_argument("--kill", action="store_true", help="kill the worker again and again while it works")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args(arguments)


def main() -> int:
    """Run the example; 0 if every booking is stored once, whole."""
    options = parse()
    with tempfile.TemporaryDirectory() as folder, AppwriteServer() as server:
        tables = make_tables(server.client())
        server.faults.rate(options.fault_rate, seed=options.seed, kinds=FAULTS)
        database = f"sqlite:///{Path(folder) / 'bookings.db'}"
        kills = _run(database, server.endpoint, options)
        server.faults.clear()
        counts = {table: stored(tables, table) for table in ("bookings", "slots", "rooms", "messages")}
    print(f"{options.bookings} bookings, {kills} kills: stored {counts}")
    wanted = dict.fromkeys(("bookings", "rooms"), options.bookings) | dict.fromkeys(
        ("slots", "messages"), 2 * options.bookings
    )
    return 0 if counts == wanted else 1


def _run(database: str, endpoint: str, options: argparse.Namespace) -> int:
    """Run workers until one has ended by itself; return how many were killed.

    They are forked from a process that has imported what they need, so that they begin at once.
    """
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload([__name__, "dbos"])
    draw, kills = random.Random(options.seed), 0
    while True:
        worker = processes.Process(target=work, args=(database, endpoint, options.bookings))
        worker.start()
        worker.join(draw.uniform(0.5, 2.0) if options.kill and kills < KILLS else None)
        if worker.exitcode is not None:
            return kills
        worker.kill()
        worker.join()
        kills += 1


if __name__ == "__main__":
    sys.exit(main())
