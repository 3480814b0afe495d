"""What a booking is: a row and its time, stored together and once, now or after the outage."""

from __future__ import annotations

import datetime
from collections.abc import Awaitable, Callable

from appwrite.services.tables_db import TablesDB

from booking_resilience import Pipeline
from booking_resilience.appwrite import AppwriteClient, NewRow, create_rows_once, time_slots
from booking_resilience.durable import Durable
from tables import DATABASE

VERSION = "1"
"""Of the workflow's code: say another one whenever it changes, so that no booking goes on in the middle of another."""
LENGTH = datetime.timedelta(minutes=30)
Workflow = Callable[[str, str, str, str], Awaitable[str]]


def durable_bookings(database: str, client: AppwriteClient, pipeline: Pipeline) -> tuple[Durable, Workflow]:
    """Return what keeps the bookings, and the workflow that stores one."""
    tables = TablesDB(client)
    durable = Durable(database, version=VERSION, pipeline=pipeline)

    @durable.workflow
    async def book(booking_id: str, therapist: str, start: str, customer: str) -> str:
        begins = datetime.datetime.fromisoformat(start)
        slots = time_slots(
            database_id=DATABASE, resource_id=therapist, holder=booking_id, start=begins, end=begins + LENGTH
        )
        data = {"therapist": therapist, "start": start, "customer": customer}
        rows = [NewRow(DATABASE, "bookings", booking_id, data), *slots]
        await durable.call_once(create_rows_once, tables, rows, operation="storeBooking")
        return booking_id

    return durable, book
