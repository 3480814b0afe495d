"""Many customers want the same time at once: one gets it. Used by `create_booking.py --contend`."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from appwrite.query import Query
from appwrite.services.tables_db import TablesDB

from booking_flow import SETUP, AsyncBookingFlow, BookingError, BookingFlow, BookingRequest
from booking_resilience import ErrorMonitor, run_batch, run_batch_async
from booking_resilience.appwrite import AsyncAppwriteClient, SlotTakenError, appwrite_breaker
from booking_runs import ONCE, OPERATION, site
from booking_tables import DATABASE_ID, SLOTS

if TYPE_CHECKING:
    from argparse import Namespace

    from rich.progress import Progress

    from booking_resilience import BatchResult
    from booking_runs import Site

START = datetime(2027, 1, 4, 9, tzinfo=UTC)


@dataclass
class Contest:
    """What came of it.

    Attributes:
        asked: Customers who wanted the time.
        winners: The bookings that were told that they have it.
        taken: Customers who were told that it is taken.
        failed: Customers who were told of another failure, whose booking is not stored.
        unknown: Customers who were told that the outcome is unknown.
        holders: Bookings that hold a slot of it in the table.
        messages: What the losers were told, and how often.
    """

    asked: int
    winners: list[str] = field(default_factory=list)
    taken: int = 0
    failed: int = 0
    unknown: int = 0
    holders: int = 0
    messages: Counter[str] = field(default_factory=Counter)

    def take(self, request: BookingRequest, error: BaseException | None) -> None:
        """Count one customer."""
        if error is None:
            self.winners.append(request.booking_id)
            return
        if isinstance(error, BookingError):
            self.messages[error.message] += 1
        if isinstance(error.__cause__, SlotTakenError):
            self.taken += 1
        elif isinstance(error, BookingError) and error.unknown:
            self.unknown += 1
        else:
            self.failed += 1

    def to_payload(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        names = ("asked", "winners", "taken", "failed", "unknown", "holders")
        return {**{name: getattr(self, name) for name in names}, "messages": dict(self.messages)}

    def conclusion(self) -> str:
        """Return one sentence that says what happened."""
        if len(self.winners) == 1 and self.holders == 1:
            return f"One of {self.asked} customers got the time, and nobody else holds any of it."
        return (
            f"{len(self.winners)} of {self.asked} customers were told that they got the time; {self.holders} hold it."
        )


def contend(options: Namespace, progress: Progress) -> Contest:
    """Let all of them want one time of one therapist at once, under the faults that were asked for."""
    therapist = f"therapist-{uuid.uuid4().hex}"
    contest = Contest(options.contend)
    requests = [
        BookingRequest(
            therapist_id=therapist, therapist_name="Therapist", user_id=f"user-{number}", start=START, run=therapist
        )
        for number in range(options.contend)
    ]
    with site(options, progress) as place:
        with place.faults():
            result = asyncio.run(_async(place, requests)) if options.is_async else _sync(place, requests)
        for outcome in result.outcomes:
            contest.take(outcome.item, outcome.error)
        contest.holders = len(_holders(place, therapist))
    return contest


def _sync(place: Site, requests: list[BookingRequest]) -> BatchResult[Any, Any]:
    flow = BookingFlow(place.client, **_parts(place))
    return run_batch(flow.create_booking, requests, pipeline=ONCE, operation=OPERATION, max_concurrency=len(requests))


async def _async(place: Site, requests: list[BookingRequest]) -> BatchResult[Any, Any]:
    async with AsyncAppwriteClient() as client:
        place.lead_here(client)
        flow = AsyncBookingFlow(client, **_parts(place))
        return await run_batch_async(
            flow.create_booking, requests, pipeline=ONCE, operation=OPERATION, max_concurrency=len(requests)
        )


def _parts(place: Site) -> dict[str, Any]:
    breaker = appwrite_breaker(failure_threshold=max(5, place.options.contend))
    return {"monitor": ErrorMonitor(), "breaker": breaker, "steps": place.options.steps}


def _holders(place: Site, therapist: str) -> set[str]:
    tables: Any = TablesDB(place.client)
    queries = [Query.equal("resource", [therapist]), Query.limit(500)]
    rows = SETUP.call("readSlots", tables.list_rows, DATABASE_ID, SLOTS, queries).rows
    return {row.data["holder"] for row in rows}
