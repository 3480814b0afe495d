"""The campaign through the asynchronous flow, with cancellations at random moments among the faults.

A few scripts run by default; `CAMPAIGN_SCRIPTS=1000` runs the campaign, beginning with the seed `CAMPAIGN_FIRST`.
Scripts with an even seed run under asyncio, the others under trio.
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
import time
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import pytest
from appwrite.query import Query
from appwrite.services.tables_db import TablesDB

from booking_resilience import CircuitOpenError, ErrorMonitor
from booking_resilience.appwrite import appwrite_breaker, appwrite_retry, classify, outcome_unknown
from booking_resilience.testing import AppwriteServer, AsyncRecordingChatProvider
from test_campaign import DEADLINE, EXAMPLES, MESSAGES, POLICY, write_scripts

SCRIPTS = int(os.environ.get("CAMPAIGN_SCRIPTS", "4"))
FIRST = int(os.environ.get("CAMPAIGN_FIRST", "0"))
BOOKINGS = 8
LONGEST = 4 * DEADLINE  # a booking's steps, none of which outlives its deadline


@dataclass
class Books:
    """What came of the bookings of a campaign."""

    asked: int = 0
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    untold: list[str] = field(default_factory=list)
    definite_yet_stored: list[str] = field(default_factory=list)
    incomplete: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


class Script:
    """One script: a server, a flow, eight bookings at once, some of which are cancelled."""

    def __init__(self, module: Any, seed: int, books: Books) -> None:
        self.module, self.seed, self.books = module, seed, books
        self.draw = random.Random(seed + 1_000_000)
        self.monitor, self.chat = ErrorMonitor(), AsyncRecordingChatProvider()
        self.results: dict[str, Any] = {}

    def run(self) -> None:
        with AppwriteServer() as server:
            with server.client() as client:
                self.module.bootstrap(client)
            before = descriptors()
            write_scripts(server, self.seed)
            backend = "trio" if self.seed % 2 else "asyncio"
            anyio.run(self.book_all, server, backend=backend)
            gc.collect()
            if not settled(lambda: descriptors() <= before):
                self.books.left.append(f"s{self.seed}: {descriptors() - before} descriptors")
            with server.client() as client:
                self.audit(client)

    async def book_all(self, server: AppwriteServer) -> None:
        async with server.async_client() as client:
            flow = self.module.AsyncBookingFlow(
                client,
                steps=self.seed % 4 < 2,  # one half of the scripts step by step, the other in a transaction
                monitor=self.monitor,
                breaker=appwrite_breaker(cooldown=0.05),
                retry=appwrite_retry(**POLICY),
                chat_provider=self.chat,
            )
            self.asked = [
                self.module.BookingRequest(
                    booking_id=f"s{self.seed}-{n}", therapist_id="t", therapist_name="T", user_id=f"u{n}"
                )
                for n in range(BOOKINGS)
            ]
            async with anyio.create_task_group() as group:
                for request in self.asked:
                    longest = self.draw.choice([0.01, 0.1, DEADLINE, LONGEST, 600.0])
                    patience = longest * self.draw.random()
                    group.start_soon(self.book, flow, request, patience)
            server.faults.clear()
            patient = appwrite_retry(base_delay=0.02, attempt_timeout=10.0, deadline=60.0)
            await self.complete(
                self.module.AsyncBookingFlow(client, monitor=ErrorMonitor(), retry=patient, chat_provider=self.chat)
            )
        if asyncio_tasks() > 1:
            self.books.left.append(f"s{self.seed}: tasks")

    async def book(self, flow: Any, request: Any, patience: float) -> None:
        with anyio.move_on_after(patience):
            try:
                self.results[request.booking_id] = await flow.create_booking(request)
            except self.module.BookingError as error:
                self.results[request.booking_id] = error

    async def complete(self, flow: Any) -> None:
        """Complete what is there, and make again what was cancelled: the same call finds out."""
        for request in self.asked:
            result = self.results.get(request.booking_id)
            if result is None:
                self.books.cancelled += 1
                result = await flow.create_booking(request)
            elif isinstance(result, self.module.BookingResult):
                self.books.succeeded += 1
            else:
                continue
            if (await flow.complete(result)).missing:
                self.books.incomplete.append(request.booking_id)

    def audit(self, client: Any) -> None:
        books, bookings = self.books, read(client, self.module, "bookings", "reference")
        rooms = read(client, self.module, "chat_rooms", "bookingId")
        messages = read(client, self.module, "chat_messages", "roomId")
        for request in self.asked:
            books.asked += 1
            stored, result = bookings[request.booking_id], self.results.get(request.booking_id)
            if stored > 1 or rooms[request.booking_id] > 1:
                books.doubled.append(request.booking_id)
            if isinstance(result, self.module.BookingError):
                self.failure(request, result, stored)
            elif not stored:
                books.lost.append(request.booking_id)
        if max(messages.values(), default=2) > 2:
            books.doubled.append(f"s{self.seed}: {messages}")

    def failure(self, request: Any, error: Any, stored: int) -> None:
        books, cause = self.books, error.__cause__
        books.failed += 1
        told = [r for r in self.monitor.recent(1_000) if r.context.get("booking_id") == request.booking_id]
        if error.message not in MESSAGES or not {"failed", "refused"} & {record.outcome for record in told}:
            books.untold.append(request.booking_id)
        if stored and not outcome_unknown(cause):
            books.definite_yet_stored.append(f"{request.booking_id}: {classify(cause)}")
        if isinstance(cause, CircuitOpenError):
            assert error.message.startswith("Service temporarily unavailable")


def read(client: Any, module: Any, table: str, column: str) -> Counter[str]:
    """Return how often each value stands in a column."""
    listed = TablesDB(client).list_rows(module.DATABASE_ID, table, [Query.limit(100)])
    return Counter(row.data[column] for row in listed.rows)


def descriptors() -> int:
    """Return how many descriptors this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def asyncio_tasks() -> int:
    """Return how many tasks there are under asyncio; 1 under trio, whose nurseries leave none."""
    try:
        return len(asyncio.all_tasks())
    except RuntimeError:
        return 1


def settled(condition: Any) -> bool:
    """Wait for what the server's threads have still to do."""
    end = time.monotonic() + 30
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


@pytest.mark.timeout(180 + 5 * SCRIPTS)
def test_no_booking_is_lost_or_doubled_whatever_fails_or_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under every script: lost 0, doubled 0, every failure told with its message, and nothing left open."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import booking_flow

    books, started = Books(), time.monotonic()
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        for seed in range(FIRST, FIRST + SCRIPTS):
            Script(booking_flow, seed, books).run()
    print(f"{SCRIPTS} scripts from seed {FIRST} in {time.monotonic() - started:.0f} s: {books}")
    assert books.asked == SCRIPTS * BOOKINGS
    assert books.succeeded + books.failed + books.cancelled == books.asked
    for name in ("lost", "doubled", "untold", "definite_yet_stored", "incomplete", "left"):
        assert getattr(books, name) == [], name
    assert books.cancelled > 0 or SCRIPTS < 4
