"""Bookings that survive outages and crashes: `python examples/durable_booking.py [--bookings 20] [--kill]`.

A booking is a workflow. The customer gets "received" as soon as it is kept; the booking's row, its chat room and two
messages follow. One that is refused for good is told to `on_refused`; one that is cancelled is undone. With `--kill`
the worker is killed and started again while it works, and what is stored is counted at the end.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Protocol

from appwrite.exception import AppwriteException
from appwrite.query import Query
from appwrite.services.tables_db import TablesDB

from booking_resilience import Pipeline
from booking_resilience.appwrite import (
    AppwriteClient,
    appwrite_breaker,
    appwrite_retry,
    create_row_once,
)
from booking_resilience.durable import CallError, Durable, WorkflowCancelledError
from booking_resilience.testing import AppwriteServer, Fault

DATABASE = "durable"
ROWS = (("bookings", ""), ("rooms", "room-"), ("messages", "welcome-"), ("messages", "received-"))
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

    def delete(table: str, row_id: str) -> None:
        try:
            tables.delete_row(DATABASE, table, row_id)
        except AppwriteException as error:
            if error.code != 404:
                raise

    @durable.workflow
    async def book(booking_id: str, customer: str) -> str:
        try:
            for table, prefix in ROWS:
                await durable.call_once(
                    create_row_once,
                    tables,
                    operation=f"create {table}",
                    database_id=DATABASE,
                    table_id=table,
                    row_id=f"{prefix}{booking_id}",
                    data={"booking": booking_id, "customer": customer},
                )
        except (CallError, WorkflowCancelledError) as error:
            for table, prefix in reversed(ROWS):  # also the write that was under way
                await durable.call(f"undo {table}", delete, table, f"{prefix}{booking_id}")
            if isinstance(error, CallError):
                await durable.call("tell", on_refused, booking_id, error.text)
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
            durable.submit(book, key, f"customer {number}", id=key)
        for number in range(count):
            with contextlib.suppress(CallError, WorkflowCancelledError):
                durable.result(f"request-{number}")


def make_tables(client: AppwriteClient) -> Any:
    """Make the example's tables."""
    tables: Any = TablesDB(client)
    tables.create(DATABASE, DATABASE)
    for table in dict.fromkeys(table for table, _ in ROWS):
        tables.create_table(DATABASE, table, table)
        for column in ("booking", "customer"):
            tables.create_varchar_column(DATABASE, table, column, 64, True)
    return tables


def stored(tables: Any, table: str) -> int:
    """Return how many rows a table has."""
    query: Any = Query
    return int(tables.list_rows(DATABASE, table, [query.limit(1)]).total)


def main() -> int:
    """Run the example; 0 if every booking is stored once, whole."""
    parser = argparse.ArgumentParser(description="Durable bookings on the embedded server.")
    parser.add_argument("--bookings", type=int, default=20)
    parser.add_argument("--fault-rate", type=float, default=0.2)
    parser.add_argument("--kill", action="store_true", help="kill the worker again and again while it works")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--worker", nargs=2, metavar=("DATABASE", "ENDPOINT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        database, endpoint = options.worker
        work(database, endpoint, options.bookings)
        return 0
    with tempfile.TemporaryDirectory() as folder, AppwriteServer() as server:
        tables = make_tables(server.client())
        server.faults.rate(options.fault_rate, seed=options.seed, kinds=FAULTS)
        database = f"sqlite:///{Path(folder) / 'bookings.db'}"
        kills = _run(database, server.endpoint, options)
        server.faults.clear()
        counts = {table: stored(tables, table) for table in ("bookings", "rooms", "messages")}
    print(f"{options.bookings} bookings, {kills} kills: stored {counts}")
    wanted = {"bookings": options.bookings, "rooms": options.bookings, "messages": 2 * options.bookings}
    return 0 if counts == wanted else 1


def _run(database: str, endpoint: str, options: argparse.Namespace) -> int:
    """Run workers until one has ended by itself; return how many were killed."""
    draw, kills = random.Random(options.seed), 0
    command = [sys.executable, __file__, "--worker", database, endpoint, "--bookings", str(options.bookings)]
    while True:
        worker = subprocess.Popen(command, env=dict(os.environ))  # noqa: S603 - this file
        try:
            worker.wait(draw.uniform(2.0, 6.0) if options.kill and kills < 3 else None)
        except subprocess.TimeoutExpired:
            worker.send_signal(signal.SIGKILL)
            worker.wait()
            kills += 1
            time.sleep(0.1)
        else:
            return kills


if __name__ == "__main__":
    sys.exit(main())
