"""A process that makes bookings durably, and children of it that are killed: `python durable_bookings.py`.

It imports everything once and forks a child for each line on stdin (JSON: see `main`), so that a restart takes a tenth
of a second. A child submits what it is told, notes what was acknowledged, and works until it is killed.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

import dbos  # noqa: F401 - imported once, before the children are made
from appwrite.exception import AppwriteException
from appwrite.services.tables_db import TablesDB

from booking_resilience import Pipeline
from booking_resilience.appwrite import AppwriteClient, appwrite_breaker, appwrite_retry, create_row_once
from booking_resilience.durable import Durable, WorkflowCancelledError

DATABASE = "bookings"


def note(folder: str, name: str, text: str) -> None:
    """Append a line to a file; it is there when this returns, whatever happens to this process."""
    fd = os.open(Path(folder) / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, f"{text}\n".encode())
    os.close(fd)


def notes(folder: Path, name: str) -> list[str]:
    """Return the whole lines of such a file."""
    path = folder / name
    return path.read_text().split("\n")[:-1] if path.exists() else []


class NotingClient(AppwriteClient):
    """Notes when each request began and ended."""

    folder = ""

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """Send a request."""
        began = time.monotonic()
        try:
            return super().call(*args, **kwargs)
        finally:
            note(self.folder, "requests", f"{began} {time.monotonic()}")


def make(settings: dict[str, Any]) -> tuple[Durable, Any]:
    """Return a Durable and its workflow of four rows, undone if it is cancelled."""
    client: Any = (NotingClient if settings.get("noted") else AppwriteClient)(
        connect_timeout=1.0, read_timeout=2.0, pool_size=32
    )
    client.folder = settings["folder"]
    tables = TablesDB(client.set_endpoint(settings["endpoint"]).set_project("demo").set_key("demo-key"))
    retry = appwrite_retry(max_attempts=2, base_delay=0.02, max_delay=0.1, deadline=3.0)
    pipeline = Pipeline(retry=retry, breaker=appwrite_breaker("durable", cooldown=settings.get("cooldown", 0.3)))
    durable = Durable(
        settings["url"],
        version=settings.get("version", "1"),
        pipeline=pipeline,
        **{"base_delay": 0.1, "max_delay": 1.0, **settings.get("durable", {})},
    )

    async def keep(table: str, row_id: str, data: dict[str, str]) -> None:
        place = {"database_id": DATABASE, "table_id": table}
        await durable.call_once(create_row_once, tables, operation=table, row_id=row_id, data=data, **place)

    def delete(table: str, row_id: str) -> None:
        try:
            tables.delete_row(DATABASE, table, row_id)
        except AppwriteException as error:
            if error.code != 404:
                raise

    @durable.workflow
    async def book(booking: str) -> str:
        try:
            await keep("bookings", booking, {"booking": booking})
            await keep("rooms", f"r-{booking}", {"booking": booking})
            await keep("messages", f"w-{booking}", {"booking": booking})
            await keep("messages", f"c-{booking}", {"booking": booking})
        except WorkflowCancelledError:
            for table, prefix in (("messages", "c-"), ("messages", "w-"), ("rooms", "r-"), ("bookings", "")):
                await durable.call("undo", delete, table, f"{prefix}{booking}")
            raise
        return booking

    return durable, book


def note_runs(durable: Durable, settings: dict[str, Any]) -> None:
    """Note when so many workflows run, or all wait, in this process."""

    def count() -> int:
        runs = list(durable._crew.runs.values()) if durable._crew is not None else []
        return sum(run.waits or not settings.get("all_wait") for run in runs)

    while count() < settings["runs"]:
        time.sleep(0.05)
    note(settings["folder"], "runs", str(os.getpid()))


def child(settings: dict[str, Any]) -> None:
    """Submit and work until somebody kills this process."""
    durable, book = make(settings)
    durable.start()
    note(settings["folder"], "started", str(os.getpid()))
    if settings.get("runs"):
        threading.Thread(target=note_runs, args=(durable, settings), daemon=True).start()
    for booking in settings["bookings"]:
        durable.submit(book, booking, id=booking)
        note(settings["folder"], "acknowledged", booking)
    for number, booking in enumerate(settings.get("wanted", []), 1):
        durable.result(booking)
        note(settings["folder"], "finished", f"{os.getpid()} {number}")
    while True:
        time.sleep(60)


def main() -> None:
    """Fork a child for each line; say its process ID."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            try:
                child(json.loads(line))
            except BaseException:
                traceback.print_exc()  # into the folder's file `errors`
            os._exit(1)
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
