"""Bookings that the demo server keeps in a file until they are stored: `--durable FILE`.

Nothing here knows of HTTP. A booking is a workflow: its rows, all or none, are tried until the backend takes them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
from typing import TYPE_CHECKING, Any

from appwrite.services.tables_db import TablesDB

from booking_flow import BookingRequest
from booking_request import booking_row, rows_of_chat, slot_rows
from booking_resilience import ErrorCategory, Pipeline
from booking_resilience.appwrite import RowConflictError, appwrite_retry, create_rows_once, delete_row_once
from booking_resilience.durable import Durable, WorkflowCancelledError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from booking_resilience import CircuitBreaker, ErrorMonitor
    from booking_resilience.appwrite import AppwriteClient, NewRow

VERSION = "1"
MOST_LISTED = 100


class KeptBookings:
    """Keeps bookings, and stores them when it can.

    Args:
        path: The SQLite file.
        client: Where the bookings go.
        breaker: The breaker of this backend.
        monitor: Gets every failure.
        settings: Of `Durable`.
    """

    def __init__(
        self, path: str, client: AppwriteClient, breaker: CircuitBreaker, monitor: ErrorMonitor, **settings: Any
    ) -> None:
        booking = ErrorCategory.BOOKING
        pipeline = Pipeline(retry=appwrite_retry(), breaker=breaker, monitor=monitor, category=booking)
        self.durable = Durable(f"sqlite:///{path}", version=VERSION, pipeline=pipeline, **settings)
        self._tables: Any = TablesDB(client)
        self._workflow = self.durable.workflow(self.book)

    async def book(self, facts: dict[str, Any]) -> str:
        """Store a booking, its slots and its chat; undo that if it is cancelled. The workflow."""
        request = _request(facts)
        booking, slots, chat = booking_row(request), slot_rows(request), rows_of_chat(request)
        rows = [booking, *slots, *chat]
        try:
            await self.durable.call_once(create_rows_once, self._tables, rows, operation="createBooking")
        except WorkflowCancelledError:  # also the write that was under way
            for row in reversed(rows):
                await self._undo(row, {"holder": str(request.booking_id)} if row in slots else row.data)
            raise
        return str(request.booking_id)

    async def _undo(self, row: NewRow, expected: Mapping[str, Any]) -> None:
        place = {"database_id": row.database_id, "table_id": row.table_id, "row_id": row.row_id}
        with contextlib.suppress(RowConflictError):  # it is somebody else's: a slot, say
            await self.durable.call_once(
                delete_row_once, self._tables, operation="undoBooking", expected=expected, **place
            )

    async def receive(self, request: BookingRequest) -> str:
        """Keep a booking and return its ID.

        Raises:
            ValueError: If there is another booking of that ID.
            DurableStoreError: If it couldn't be kept.
        """
        return await self.durable.submit_async(self._workflow, _facts(request), id=str(request.booking_id))

    async def waiting(self) -> list[dict[str, Any]]:
        """Return what waits, since when and why, oldest first, as JSON values."""
        return [
            {
                "id": item.id,
                "operation": item.operation,
                "attempts": item.attempts,
                "error": item.error,
                "since": item.since.isoformat(),
                "nextTry": None if item.next_try is None else item.next_try.isoformat(),
            }
            for item in await self.durable.waiting_async(MOST_LISTED)
        ]


def _facts(request: BookingRequest) -> dict[str, Any]:
    """Return a request as JSON-like data."""
    facts = dataclasses.asdict(request)
    start, source = request.start, request.source
    return {
        **facts,
        "start": None if start is None else start.isoformat(),
        "source": None if source is None else str(source),
    }


def _request(facts: dict[str, Any]) -> BookingRequest:
    start = facts["start"]
    return BookingRequest(**{**facts, "start": None if start is None else datetime.datetime.fromisoformat(start)})
