"""A campaign: bookings under seeded scripts of faults, on every call of the flow, with 8 workers; then the books.

A few scripts run by default; `CAMPAIGN_SCRIPTS=1000` runs the campaign, beginning with the seed `CAMPAIGN_FIRST`.
Delays and timeouts are a tenth of the real ones, so that a hang costs little; it does not matter to what is counted.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from appwrite.query import Query

from booking_resilience import CircuitOpenError, ErrorMonitor
from booking_resilience.appwrite import appwrite_breaker, appwrite_retry, classify
from booking_resilience.testing import AppwriteServer, Fault, RecordingChatProvider

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
SCRIPTS = int(os.environ.get("CAMPAIGN_SCRIPTS", "12"))
FIRST = int(os.environ.get("CAMPAIGN_FIRST", "0"))
WORKERS = BOOKINGS = 8
HANG = 1.0  # seconds; longer than any attempt lasts
DEADLINE = 0.6
POLICY = {"base_delay": 0.02, "max_delay": 0.3, "attempt_timeout": 0.15, "deadline": DEADLINE}
MESSAGES = {
    "Booking data error. Please try again or contact support.",
    "Network error. Please check your connection and try again.",
    "Service temporarily unavailable. Please try again in a moment.",
    "Booking creation failed",
}
CALLS = [("POST", "/bookings/"), ("GET", "/bookings/"), ("POST", "/chat_rooms/"), ("GET", "/chat_rooms/"),
         ("POST", "/chat_messages/"), ("GET", "/chat_messages/")]  # fmt: skip


def draw_fault(draw: random.Random) -> Fault:
    """Return one of the faults that a real server or the network was seen to have, before or after the commit."""
    after = draw.random() < 0.5
    return draw.choice(
        [
            Fault.reset(after_commit=after),
            Fault.close(after_commit=after),
            Fault.hang(HANG, after_commit=after),
            Fault.cut_body(after_commit=after),
            Fault.slow_body(draw.choice([0.02, 0.1, 2.0])),
            Fault.invalid_json(after_commit=after),
            Fault.status(draw.choice([500, 503]), after_commit=after),
            Fault.status(draw.choice([502, 504]), html=True, after_commit=after),
            Fault.status(503, content_type=None, after_commit=after),
            Fault.status(408, after_commit=after),
            Fault.status(409, type="row_already_exists", after_commit=True),  # the server repeated the write by itself
            Fault.rate_limited(0.0),
            Fault.status(401),
        ]
    )


def write_scripts(server: AppwriteServer, seed: int) -> None:
    """Have the calls of the flow go wrong as the seed says: now and then, often, or nearly always."""
    draw = random.Random(seed)
    for method, path in CALLS:
        share = draw.choice([0.15, 0.5, 0.9])
        steps = [draw_fault(draw) if draw.random() < share else None for _ in range(draw.randint(4, 40))]
        server.faults.script(steps, method=method, path=path)


@dataclass
class Books:
    """What came of the bookings of a campaign."""

    asked: int = 0
    succeeded: int = 0
    degraded: int = 0
    failed: int = 0
    recovered: int = 0
    lost: list[str] = field(default_factory=list)
    duplicated: list[str] = field(default_factory=list)
    open: int = 0
    open_and_stored: int = 0
    definite_yet_stored: list[str] = field(default_factory=list)
    untold: list[str] = field(default_factory=list)
    slow: list[str] = field(default_factory=list)
    incomplete: list[str] = field(default_factory=list)
    messages: Counter[str] = field(default_factory=Counter)


def is_open(error: BaseException) -> bool:
    """Tell whether an error leaves it open that the row is stored."""
    verdict = classify(error)
    status = verdict.status or 0
    is_unread = verdict.sent == "yes" and (status < 400 or (status == 409 and verdict.transient))
    return verdict.sent == "maybe" or status >= 500 or status == 408 or is_unread


class Script:
    """One script: a server, a flow, eight bookings at once."""

    def __init__(self, module: Any, seed: int, books: Books) -> None:
        self.module, self.seed, self.books = module, seed, books

    def run(self) -> None:
        with AppwriteServer() as server:
            client = server.client()
            self.module.bootstrap(client)
            self.monitor, self.chat = ErrorMonitor(), RecordingChatProvider()
            flow = self.module.BookingFlow(
                client,
                steps=True,
                monitor=self.monitor,
                breaker=appwrite_breaker(cooldown=0.05),
                retry=appwrite_retry(**POLICY),
                chat_provider=self.chat,
            )
            write_scripts(server, self.seed)
            asked = [
                self.module.BookingRequest(
                    booking_id=f"s{self.seed}-{n}", therapist_id="t", therapist_name="T", user_id=f"u{n}"
                )
                for n in range(BOOKINGS)
            ]
            with ThreadPoolExecutor(WORKERS) as pool:
                results = list(pool.map(lambda request: self.book(flow, request), asked))
            server.faults.clear()
            flow.breaker.reset()
            self.audit(flow, asked, results)

    def book(self, flow: Any, request: Any) -> Any:
        started = time.monotonic()
        try:
            return flow.create_booking(request)
        except self.module.BookingError as error:
            return error
        finally:
            if time.monotonic() - started > 10 * (4 * DEADLINE + 2):
                self.books.slow.append(request.booking_id)

    def audit(self, flow: Any, asked: list[Any], results: list[Any]) -> None:
        books = self.books
        before = self.read(flow, "bookings", "reference")
        for request, result in zip(asked, results, strict=True):
            books.asked += 1
            stored = before[request.booking_id]
            if stored > 1:
                books.duplicated.append(request.booking_id)
            if isinstance(result, self.module.BookingError):
                self.failure(request, result, stored)
                continue
            books.succeeded += 1
            if not stored:
                books.lost.append(request.booking_id)
            books.degraded += bool(result.missing)
            for _ in range(10):  # the flow's short timeouts may strike on a busy machine, too
                flow.breaker.reset()
                result = flow.complete(result)
                if not result.missing:
                    break
            else:
                books.incomplete.append(request.booking_id)
        books.recovered += sum(record.outcome == "recovered" for record in self.monitor.recent(1_000))
        self.chats(flow, [r.request.booking_id for r in results if not isinstance(r, self.module.BookingError)])

    def failure(self, request: Any, error: Any, stored: int) -> None:
        books, cause = self.books, error.__cause__
        books.failed += 1
        books.messages[error.message] += 1
        told = [r for r in self.monitor.recent(1_000) if r.context.get("booking_id") == request.booking_id]
        outcomes = [record.outcome for record in told]
        if error.message not in MESSAGES or outcomes not in (["failed"], ["refused"]):
            books.untold.append(request.booking_id)
        books.open += is_open(cause)
        if stored and is_open(cause):
            books.open_and_stored += 1
        elif stored:
            books.definite_yet_stored.append(f"{request.booking_id}: {classify(cause)}")
        if isinstance(cause, CircuitOpenError):
            assert error.message.startswith("Service temporarily unavailable")

    def chats(self, flow: Any, booked: list[str]) -> None:
        """Each stored booking has one room and two messages, and the provider was told once."""
        rooms = self.read(flow, "chat_rooms", "bookingId")
        messages = self.read(flow, "chat_messages", "roomId")
        events = Counter(event.booking_id for event in self.chat.events)
        for booking_id in booked:
            if rooms[booking_id] != 1 or events[booking_id] != 1:
                self.books.incomplete.append(booking_id)
        if sum(messages.values()) < 2 * len(booked) or max(messages.values(), default=2) > 2:
            self.books.duplicated.append(f"s{self.seed}: {messages}")

    def read(self, flow: Any, table: str, column: str) -> Counter[str]:
        listed = flow._hands._tables.list_rows(self.module.DATABASE_ID, table, [Query.limit(100)])
        return Counter(row.data[column] for row in listed.rows)


@pytest.mark.timeout(180 + 5 * SCRIPTS)
def test_no_booking_is_lost_or_doubled_whatever_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under every script: lost 0, duplicated 0, every failure told with its message, and none definite yet stored."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import booking_flow

    books, started = Books(), time.monotonic()
    for seed in range(FIRST, FIRST + SCRIPTS):
        Script(booking_flow, seed, books).run()
    print(f"{SCRIPTS} scripts in {time.monotonic() - started:.0f} s: {books}")
    assert books.asked == SCRIPTS * BOOKINGS
    assert books.succeeded + books.failed == books.asked
    assert books.lost == []
    assert books.duplicated == []
    assert books.untold == []
    assert books.definite_yet_stored == []
    assert books.slow == []
    assert books.incomplete == []
    assert books.failed > 0 or SCRIPTS < 10
    assert books.recovered > 0 or SCRIPTS < 10
