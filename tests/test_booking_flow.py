"""The example's flow on slots: one transaction, step by step, moved, cancelled, resumed. Both colours."""

from __future__ import annotations

import asyncio
import datetime
from pathlib import Path
from typing import Any

import pytest
from appwrite.query import Query
from appwrite.services.tables_db import TablesDB

from booking_resilience import ErrorMonitor
from booking_resilience.appwrite import AppwriteClient, AsyncAppwriteClient, SlotTakenError, appwrite_retry
from booking_resilience.testing import AppwriteServer, AsyncRecordingChatProvider, Fault, RecordingChatProvider
from halves import QUICK, at_once

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
NINE = datetime.datetime(2027, 1, 4, 9, tzinfo=datetime.UTC)
HOUR = datetime.timedelta(hours=1)


class Desk:
    """A flow of one colour, and the tables behind it."""

    def __init__(self, server: AppwriteServer, *, is_async: bool, steps: bool) -> None:
        import booking_flow

        self.server, self.module, self.is_async, self.steps = server, booking_flow, is_async, steps
        self.monitor = ErrorMonitor()
        self.chat: Any = AsyncRecordingChatProvider() if is_async else RecordingChatProvider()
        self.client = server.client()
        booking_flow.bootstrap(self.client)
        self.flow = self.make(self.client)
        self.before = len(server.requests)

    def make(self, client: AppwriteClient | AsyncAppwriteClient) -> Any:
        kind = self.module.AsyncBookingFlow if isinstance(client, AsyncAppwriteClient) else self.module.BookingFlow
        return kind(
            client, monitor=self.monitor, retry=appwrite_retry(**QUICK), chat_provider=self.chat, steps=self.steps
        )

    def do(self, name: str, *args: Any) -> Any:
        """Call a method of the flow."""
        if not self.is_async:
            return getattr(self.flow, name)(*args)

        async def main() -> Any:
            async with self.server.async_client() as client:
                return await getattr(self.make(client), name)(*args)

        return asyncio.run(main())

    def request(self, **facts: Any) -> Any:
        """Return a request for an hour at nine."""
        named = {"therapist_id": "t1", "therapist_name": "Ada", "user_id": "u1", "start": NINE, **facts}
        return self.module.BookingRequest(**named)

    def rows(self, table: str) -> dict[str, Any]:
        """Return the rows of a table."""
        listed = TablesDB(self.client).list_rows(self.module.DATABASE_ID, table, [Query.limit(500)]).rows
        return {row.id: dict(row.data) for row in listed}

    def taken(self) -> list[tuple[str, str]]:
        """Return the slots that are held: when, and by whom."""
        return sorted((row["start"][11:16], row["holder"]) for row in self.rows("slots").values())

    def asked(self) -> list[str]:
        """Return the methods of the requests since the tables were made."""
        return [item.method for item in self.server.requests[self.before :]]


@pytest.fixture(params=["sync-together", "sync-steps", "async-together", "async-steps"])
def desk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, appwrite_server: AppwriteServer) -> Desk:
    """A desk of each kind."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    colour, form = request.param.split("-")
    return Desk(appwrite_server, is_async=colour == "async", steps=form == "steps")


def held(booking_id: str, *times: str) -> list[tuple[str, str]]:
    """Return what `taken` says of a booking."""
    return [(time, booking_id) for time in times]


NINE_TO_TEN = ("09:00", "09:15", "09:30", "09:45")


def test_a_booking_takes_its_time(desk: Desk) -> None:
    """Booking, slots and chat are stored: in one transaction by seven requests, else one by one."""
    request = desk.request()
    result = desk.do("create_booking", request)
    asked = desk.asked()
    assert desk.taken() == held(request.booking_id, *NINE_TO_TEN)
    assert result.missing == ()
    assert [len(desk.rows(table)) for table in ("bookings", "chat_rooms", "chat_messages")] == [1, 1, 2]
    assert len(desk.chat.events) == 1
    assert asked == (["POST"] * 8 if desk.steps else ["POST", "POST", "PATCH", "GET", "GET", "GET", "GET"])


def test_a_taken_time(desk: Desk) -> None:
    """Who wants a time that is taken is told so, with the fourth text; what he had claimed is given back."""
    first = desk.request()
    desk.do("create_booking", first)
    with pytest.raises(desk.module.BookingError, match="Booking creation failed") as caught:
        desk.do("create_booking", desk.request(start=NINE - HOUR / 2))
    assert isinstance(caught.value.__cause__, SlotTakenError)
    assert not caught.value.unknown
    assert desk.taken() == held(first.booking_id, *NINE_TO_TEN)
    assert len(desk.rows("bookings")) == 1


def test_a_chat_that_is_in_the_way(desk: Desk) -> None:
    """A row of the chat that is another's keeps the booking from nothing; what is missing is said."""
    request = desk.request()
    from booking_request import rows_of_chat

    room = rows_of_chat(request)[0]
    data = {**room.data, "participants": ["somebody else"]}
    TablesDB(desk.client).create_row(room.database_id, room.table_id, room.row_id, data)
    result = desk.do("create_booking", request)
    assert "createChatRoom" in result.missing
    assert desk.taken() == held(request.booking_id, *NINE_TO_TEN)


def test_an_unknown_outcome_is_resumed(desk: Desk) -> None:
    """A booking whose outcome is unknown is told apart from a failed one, and the same again finds out."""
    request = desk.request()
    path = "/bookings/rows" if desk.steps else "/transactions/"
    desk.server.faults.script([Fault.reset(after_commit=True)] * 9, method="POST" if desk.steps else "PATCH", path=path)
    desk.server.faults.script([Fault.status(503)] * 99, method="GET", path="/rows")
    with pytest.raises(desk.module.BookingError) as caught:
        desk.do("create_booking", request)
    assert caught.value.unknown
    assert desk.monitor.recent()[0].context["outcome_unknown"] is True
    desk.server.faults.clear()
    result = desk.do("resume_booking", request.booking_id)
    assert (result.request.booking_id, result.missing) == (request.booking_id, ())
    assert desk.taken() == held(request.booking_id, *NINE_TO_TEN)
    assert len(desk.rows("bookings")) == 1
    with pytest.raises(LookupError):
        desk.do("resume_booking", "nobody")


def test_a_booking_is_moved(desk: Desk) -> None:
    """The new slots are claimed and the old ones given back, but for those that both need; again is the same."""
    request = desk.request()
    desk.do("create_booking", request)
    for _ in range(2):
        desk.do("reschedule_booking", request.booking_id, NINE + HOUR / 2)
        assert desk.taken() == held(request.booking_id, "09:30", "09:45", "10:00", "10:15")
        assert desk.rows("bookings")[request.booking_id]["start"].startswith("2027-01-04T09:30")


def test_a_booking_is_not_moved_onto_another(desk: Desk) -> None:
    """A time that is taken leaves the booking where it was."""
    request, other = desk.request(), desk.request(start=NINE + HOUR)
    desk.do("create_booking", request)
    desk.do("create_booking", other)
    before = desk.taken()
    with pytest.raises(desk.module.BookingError) as caught:
        desk.do("reschedule_booking", request.booking_id, NINE + HOUR / 2)
    assert isinstance(caught.value.__cause__, SlotTakenError)
    assert desk.taken() == before


@pytest.mark.parametrize("path", ["/bookings/", "/slots/"])
@pytest.mark.parametrize("method", ["PATCH", "DELETE", "POST", "GET"])
def test_a_move_that_is_stopped_is_finished(desk: Desk, method: str, path: str) -> None:
    """Whatever stops it, nothing is booked twice, a change that was made is told, and the same call finishes it."""
    request = desk.request()
    desk.do("create_booking", request)
    desk.server.faults.script([None, *[Fault.status(503)] * 30], method=method, path=path)
    try:
        desk.do("reschedule_booking", request.booking_id, NINE + HOUR / 2)
    except desk.module.BookingError as error:
        desk.server.faults.clear()
        moved = desk.rows("bookings")[request.booking_id]["start"].startswith("2027-01-04T09:30")
        assert error.unknown or not moved
        assert len(desk.taken()) >= 4
    desk.server.faults.clear()
    desk.do("reschedule_booking", request.booking_id, NINE + HOUR / 2)
    assert desk.taken() == held(request.booking_id, "09:30", "09:45", "10:00", "10:15")


def test_a_booking_is_cancelled(desk: Desk) -> None:
    """The booking goes, then its slots; a cancellation that was stopped is finished by the same call."""
    request = desk.request()
    desk.do("create_booking", request)
    desk.server.faults.script([Fault.status(503)] * 30, method="GET", path="/slots/")
    with pytest.raises(desk.module.BookingError) as caught:
        desk.do("cancel_booking", request.booking_id)
    assert caught.value.unknown
    assert desk.rows("bookings") == {}
    desk.server.faults.clear()
    assert desk.do("cancel_booking", request.booking_id) is False
    assert desk.taken() == []


def test_many_want_one_time(desk: Desk) -> None:
    """Of many who want one time at once, one gets it."""
    requests = [desk.request(user_id=f"u{number}") for number in range(10)]
    results = at_once([lambda request=request: desk.do("create_booking", request) for request in requests])
    won = [result for result in results if not isinstance(result, Exception)]
    assert len(won) == 1, results
    assert desk.taken() == held(won[0].request.booking_id, *NINE_TO_TEN)


def test_a_server_without_transactions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without transactions the flow goes step by step."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    with AppwriteServer(transactions=False) as server:
        desk = Desk(server, is_async=False, steps=False)
        request = desk.request()
        desk.do("create_booking", request)
        desk.do("reschedule_booking", request.booking_id, NINE + HOUR)
        assert len(desk.taken()) == 4
        assert desk.do("cancel_booking", request.booking_id) is True
        assert desk.taken() == []
