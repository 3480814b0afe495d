"""The example's workflow on any Appwrite: the embedded one, and with `-m live` a real one."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from appwrite.models.database import Database
from appwrite.query import Query

from backends import setting
from booking_resilience import ErrorMonitor
from booking_resilience.appwrite.rows import row_of
from booking_resilience.testing import Fault, RecordingChatProvider

pytestmark = pytest.mark.skipif(
    "policies" in Database.model_fields and Database.model_fields["policies"].is_required(),
    reason="this SDK cannot read what a self-hosted Appwrite says of a database",
)

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


class Flow:
    """A booking flow with what it needs, and the rows that it stored."""

    def __init__(self, backend):
        import booking_flow

        self.module, self.backend, self.run = booking_flow, backend, uuid.uuid4().hex
        booking_flow.bootstrap(backend.client)
        self.monitor, self.chat = ErrorMonitor(), RecordingChatProvider()
        self.flow = booking_flow.BookingFlow(backend.client, monitor=self.monitor, chat_provider=self.chat, steps=True)

    def request(self, **changes):
        facts = {"therapist_id": "t1", "therapist_name": "Ada", "user_id": "u1", "run": self.run, **changes}
        return self.module.BookingRequest(**facts)

    def stored(self):
        listed = self.backend.tables.list_rows(
            self.module.DATABASE_ID, self.module.BOOKINGS, [Query.equal("run", [self.run]), Query.limit(100)]
        )
        return [row_of(row) for row in listed.rows]


@pytest.fixture
def flow(backend, monkeypatch):
    """The example's flow; its tables are made if they are not there yet."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return Flow(backend)


def test_a_booking_is_stored_and_its_chat_opened(flow):
    """One row with its attribution, a room, two messages, and the chat provider told."""
    request = flow.request(chat_window_open=True)
    result = flow.flow.create_booking(request)
    assert (result.missing, flow.monitor.stats().total) == ((), 0)
    (row,) = flow.stored()
    assert row.id == request.booking_id
    attribution = {key: row.data[key] for key in ("source", "chatWindowOpen", "mode", "bookingType")}
    assert attribution == {
        "source": "chatWindow", "chatWindowOpen": True, "mode": "immediate", "bookingType": "immediate"
    }  # fmt: skip
    (event,) = flow.chat.events
    assert (event.booking_id, event.chat_room_id) == (request.booking_id, result.chat_room_id)


def test_the_same_booking_again_is_the_same_booking(flow):
    """A repeated request finds its row, its room and its messages."""
    request = flow.request()
    first, second = flow.flow.create_booking(request), flow.flow.create_booking(request)
    assert second.chat_room_id == first.chat_room_id
    assert second.missing == ()
    assert len(flow.stored()) == 1


def test_completing_a_booking_does_not_tell_the_provider_again(backend, monkeypatch):
    """A message that is missing is sent later; the provider, which was told already, is not told twice."""
    if backend.server is None:
        pytest.skip("makes the server fail")
    monkeypatch.syspath_prepend(str(EXAMPLES))
    flow = Flow(backend)
    backend.server.faults.script([Fault.status(503)] * 3, method="POST", path="/chat_messages/")
    result = flow.flow.create_booking(flow.request())
    assert result.missing == ("sendWelcomeMessage",)
    assert flow.flow.complete(result).missing == ()
    assert len(flow.chat.events) == 1


def test_refused_data_is_told_in_peoples_words(flow):
    """A booking that the backend refuses fails with the message about the data, and is not stored."""
    with pytest.raises(flow.module.BookingError, match="Booking data error"):
        flow.flow.create_booking(flow.request(duration=100_000))
    assert flow.stored() == []


def test_the_example_runs_against_it(backend, tmp_path):
    """`create_booking.py --endpoint` stores every booking, none twice, also a second time."""
    client = backend.client
    where = [
        "--endpoint",
        client._endpoint,
        "--project",
        setting(client, "project"),
        "--key",
        setting(client, "key"),
    ]
    for _ in range(2):
        command = [sys.executable, str(EXAMPLES / "create_booking.py"), "--bookings", "8", "--workers", "4", *where]
        done = subprocess.run(
            [*command, "--json", str(tmp_path / "out.json")], capture_output=True, text=True, timeout=300, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
        facts = json.loads((tmp_path / "out.json").read_text())
        assert (facts["succeeded"], facts["lost"], facts["duplicates"]) == (8, 0, 0)
