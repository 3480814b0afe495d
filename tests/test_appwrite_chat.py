"""`AppwriteChatService`: rooms and messages once, and pages that stay exact while messages come and go."""

from __future__ import annotations

import dataclasses
import datetime
import itertools
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from appwrite.exception import AppwriteException
from appwrite.services.databases import Databases
from appwrite.services.tables_db import TablesDB
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from backends import make_database
from booking_resilience import ErrorMonitor, Pipeline
from booking_resilience.appwrite import CHAT_TABLES, AppwriteChatService, appwrite_breaker, appwrite_retry
from booking_resilience.booking import ChatMessage, ChatRoom, ChatService, Page, iter_messages
from booking_resilience.testing import AppwriteServer, Fault, virtual_time
from halves import QUICK


class Chat:
    """A chat service with its tables, and messages put there directly."""

    def __init__(self, backend, *, service=TablesDB, **pipeline):
        self.backend, self.server = backend, backend.server
        suffix = uuid.uuid4().hex[:8]
        self.rooms, self.messages = (
            backend.make_table(CHAT_TABLES[name]["columns"], CHAT_TABLES[name]["indexes"], named=f"{name}-{suffix}")
            for name in ("chat_rooms", "chat_messages")
        )
        self.tables = backend.tables
        self.pipeline = Pipeline(**{"retry": appwrite_retry(**QUICK), **pipeline})
        self.service = AppwriteChatService(
            service(backend.client),
            database_id=backend.database_id,
            pipeline=self.pipeline,
            rooms_table=self.rooms,
            messages_table=self.messages,
        )
        self._numbers = itertools.count()

    def put(self, count=1, room="room-1"):
        """Store messages and return their IDs, in the order of storing."""
        ids = [f"m{next(self._numbers)}" for _ in range(count)]
        for message_id in ids:
            data = {"roomId": room, "text": f"text of {message_id}"}
            self.tables.create_row(self.backend.database_id, self.messages, message_id, data)
        return ids

    def remove(self, *ids):
        for message_id in ids:
            self.tables.delete_row(self.backend.database_id, self.messages, message_id)

    def page(self, limit=3, cursor=None, *, newest_first=True, room="room-1"):
        return self.service.list_messages(room, limit=limit, cursor=cursor, newest_first=newest_first)

    def stored(self, table):
        return self.backend.rows(table)


def ids_of(page):
    """Return the IDs of a page's messages, or of an iterator's."""
    return [message.id for message in (page.items if isinstance(page, Page) else page)]


@pytest.fixture
def chat(backend):
    """A chat on any Appwrite."""
    return Chat(backend)


@pytest.fixture
def embedded(appwrite_server):
    """A chat on the embedded server."""
    return Chat(make_database(appwrite_server.client(), appwrite_server))


# Rooms and messages


@pytest.mark.parametrize("service", [TablesDB, Databases])
def test_a_booking_has_one_room_and_its_messages_once(backend, service):
    """However often each step is repeated, there are one room and two messages, the same ones."""
    chat = Chat(backend, service=service)
    assert isinstance(chat.service, ChatService)
    for _ in range(3):
        room = chat.service.create_chat_room(booking_id="b-17", participants=["u1", "t1"])
        welcome = chat.service.send_welcome_message(room.id)
        received = chat.service.send_booking_received_message(room.id, "b-17")
    assert isinstance(room, ChatRoom)
    assert (room.booking_id, room.participants) == ("b-17", ("u1", "t1"))
    assert isinstance(welcome, ChatMessage)
    assert welcome.room_id == received.room_id == room.id
    assert welcome.created_at.utcoffset() == datetime.timedelta(0)
    assert "received your booking" in received.text
    assert list(chat.stored(chat.rooms)) == [room.id]
    assert sorted(chat.stored(chat.messages)) == sorted([welcome.id, received.id])
    assert ids_of(chat.page(room=room.id, newest_first=False)) == [welcome.id, received.id]


def test_ids_come_from_the_booking(embedded):
    """Other bookings, rooms and kinds of messages have other IDs; all are ones that Appwrite takes."""
    service = embedded.service
    rooms = [service.create_chat_room(booking_id=booking, participants=["u"]).id for booking in ("a", "b", "x" * 64)]
    ids = rooms + [service.send_welcome_message(room).id for room in rooms]
    ids += [service.send_booking_received_message(room, booking).id for room in rooms for booking in ("a", "b")]
    assert len(set(ids)) == len(ids)
    assert all(len(one) == 36 for one in ids)


@pytest.mark.parametrize("fault", [Fault.reset, Fault.cut_body, lambda **a: Fault.status(500, **a)])
@pytest.mark.parametrize("after_commit", [True, False])
def test_lost_answers_make_nothing_twice(embedded, fault, after_commit):
    """Each step survives a fault before or after the commit."""
    embedded.server.faults.script([fault(after_commit=after_commit), None] * 3, method="POST")
    room = embedded.service.create_chat_room(booking_id="b", participants=["u"])
    embedded.service.send_welcome_message(room.id)
    embedded.service.send_booking_received_message(room.id, "b")
    assert len(embedded.stored(embedded.rooms)) == 1
    assert len(embedded.stored(embedded.messages)) == 2


def test_a_room_with_other_participants_is_a_conflict(chat):
    """The room is there and is another one than was asked for."""
    chat.service.create_chat_room(booking_id="b", participants=["u1", "t1"])
    with pytest.raises(AppwriteException) as caught:
        chat.service.create_chat_room(booking_id="b", participants=["u2", "t1"])
    assert caught.value.code == 409


def test_failures_are_recorded_under_the_steps_name(embedded):
    """Each step is an operation of its own."""
    monitor = ErrorMonitor()
    chat = Chat(embedded.backend, monitor=monitor)
    for step in (
        lambda: chat.service.create_chat_room(booking_id="b", participants=["u"]),
        lambda: chat.service.send_welcome_message("r"),
        lambda: chat.service.send_booking_received_message("r", "b"),
        lambda: chat.service.list_messages("r"),
    ):
        embedded.server.faults.script([Fault.status(503)] * 3)
        with pytest.raises(AppwriteException):
            step()
        embedded.server.faults.clear()
    names = [record.operation for record in reversed(monitor.recent())]
    assert names == ["createChatRoom", "sendWelcomeMessage", "sendBookingReceivedMessage", "listMessages"]


@pytest.mark.parametrize(
    ("change", "kind", "says"),
    [
        ({"database_id": ""}, ValueError, "database_id must be a string that isn't empty, not ''"),
        ({"rooms_table": None}, TypeError, "rooms_table must be a string, not None"),
        ({"messages_table": 5}, TypeError, "messages_table must be a string, not 5"),
        ({"pipeline": None}, TypeError, "pipeline must be a Pipeline, not None"),
    ],
)
def test_settings_that_make_no_sense_are_refused(embedded, change, kind, says):
    """The error names the setting, its value and what is allowed."""
    with pytest.raises(kind, match=says):
        AppwriteChatService(embedded.tables, **{"database_id": "d", "pipeline": embedded.pipeline, **change})
    with pytest.raises(TypeError, match="TablesDB or Databases"):
        AppwriteChatService(object(), database_id="d", pipeline=embedded.pipeline)


def test_arguments_that_make_no_sense_are_refused(embedded):
    """Before anything is sent."""
    before = len(embedded.server.requests)
    for kind, call in (
        (ValueError, lambda: embedded.service.create_chat_room(booking_id="", participants=[])),
        (TypeError, lambda: embedded.service.create_chat_room(booking_id="b", participants="user-1")),
        (ValueError, lambda: embedded.service.send_welcome_message("")),
        (TypeError, lambda: embedded.service.send_welcome_message(None)),
        (ValueError, lambda: embedded.service.list_messages("r", limit=0)),
        (TypeError, lambda: embedded.service.list_messages("r", limit=True)),
        (TypeError, lambda: embedded.service.list_messages("r", cursor=5)),
    ):
        with pytest.raises(kind, match="must be"):
            call()
    assert len(embedded.server.requests) == before


# Pages


@pytest.mark.parametrize("newest_first", [True, False])
@pytest.mark.parametrize("limit", [1, 2, 3, 7, 50])
def test_pages_make_up_the_whole(backend, newest_first, limit):
    """All messages of the room come once, in order, whatever the size of the pages; no other room's."""
    chat = Chat(backend)
    ids = chat.put(4)
    chat.put(2, room="other")
    ids += chat.put(3)
    found = ids_of(iter_messages(chat.service, "room-1", page_size=limit, newest_first=newest_first))
    assert found == (ids[::-1] if newest_first else ids)


def test_an_empty_room_is_an_empty_page(chat):
    """And there is no next one; the same for a room that does not exist."""
    assert chat.page() == Page((), None)
    assert ids_of(iter_messages(chat.service, "nowhere")) == []


def test_a_message_is_what_was_stored(chat):
    """ID, room, text and moment."""
    (message_id,) = chat.put()
    (message,) = chat.page().items
    assert (message.id, message.room_id, message.text) == (message_id, "room-1", f"text of {message_id}")
    assert abs(datetime.datetime.now(datetime.UTC) - message.created_at) < datetime.timedelta(minutes=10)
    assert dataclasses.asdict(message)["id"] == message_id


def test_messages_of_one_moment_keep_the_order_of_storing(embedded):
    """In virtual time all have the same moment; none is missed or comes twice at the ends of pages."""
    with virtual_time():
        ids = embedded.put(7)
        for newest_first in (True, False):
            for size in (1, 2, 3):
                found = ids_of(iter_messages(embedded.service, "room-1", page_size=size, newest_first=newest_first))
                assert found == (ids[::-1] if newest_first else ids)


def test_new_messages_do_not_move_the_pages(chat):
    """Newest first, what comes in is not seen; oldest first, it comes at the end."""
    ids = chat.put(5)
    newest, oldest = chat.page(2), chat.page(2, newest_first=False)
    ids += chat.put(2)
    second = chat.page(2, newest.next_cursor)
    assert ids_of(newest) + ids_of(second) == ids[4:0:-1]
    rest = chat.page(9, oldest.next_cursor, newest_first=False)
    assert ids_of(oldest) + ids_of(rest) == ids


@pytest.mark.parametrize("newest_first", [True, False])
@pytest.mark.parametrize("gone", [[2], [2, 3], [1, 2, 3, 4], [0, 1, 2, 3, 4, 5, 6]])
def test_a_removed_cursor_message_does_not_end_the_reading(backend, newest_first, gone):
    """The server refuses a cursor whose message is gone; the next page is found all the same."""
    chat = Chat(backend)
    ids = chat.put(7)
    order = ids[::-1] if newest_first else ids
    first = chat.page(3, newest_first=newest_first)
    assert ids_of(first) == order[:3]
    chat.remove(*(order[place] for place in gone))
    second = chat.page(9, first.next_cursor, newest_first=newest_first)
    assert ids_of(second) == [message_id for place, message_id in enumerate(order) if place > 2 and place not in gone]


def test_a_removed_cursor_among_messages_of_one_moment(embedded):
    """The moment alone does not tell what came before: nothing is missed, nothing comes twice."""
    with virtual_time():
        ids = embedded.put(9)
        for newest_first in (True, False):
            order = ids[::-1] if newest_first else list(ids)
            first = embedded.page(3, newest_first=newest_first)
            embedded.remove(order[2])
            second = embedded.page(2, first.next_cursor, newest_first=newest_first)
            third = embedded.page(9, second.next_cursor, newest_first=newest_first)
            assert ids_of(first) + ids_of(second) + ids_of(third) == order
            ids.remove(order[2])


def test_recovering_is_no_failure(embedded):
    """The 400 of a message that is gone is neither recorded nor held against the backend."""
    monitor, breaker = ErrorMonitor(), appwrite_breaker(failure_threshold=1)
    chat = Chat(embedded.backend, monitor=monitor, breaker=breaker)
    ids = chat.put(4)
    first = chat.page(2)
    chat.remove(*ids_of(first))
    assert ids_of(chat.page(2, first.next_cursor)) == ids[1::-1]
    assert (monitor.stats().total, breaker.snapshot().failures) == (0, 0)


@pytest.mark.parametrize(("limit", "goes", "expected"), [(2, 1, [3, 4]), (3, 3, [4, 5, 6])])
def test_messages_that_go_while_a_place_is_looked_for(embedded, limit, goes, expected):
    """A message that the search itself goes on from is removed under it: it begins anew, and what is gone is not told.

    All have the same moment and the third is gone, so the search has to pass over the first two.
    """
    with virtual_time():
        ids = embedded.put(8)
        first = embedded.page(3, newest_first=False)
        embedded.remove(ids[2])
        store, removed = embedded.service._rooms._store, []
        listed = store.list

        def list_and_remove(*args, **kwargs):
            call = listed(*args, **kwargs)

            def read(answer):
                rows = call.read(answer)
                if rows and rows[-1].id == ids[goes] and not removed:
                    removed.append(ids[goes])
                    embedded.remove(ids[goes])
                return rows

            return dataclasses.replace(call, read=read)

        store.list = list_and_remove
        second = embedded.page(limit, first.next_cursor, newest_first=False)
        assert removed
        assert ids_of(second) == [ids[place] for place in expected]


def test_the_id_of_a_message_is_a_cursor_as_well(chat):
    """As long as the message is there."""
    ids = chat.put(5)
    assert ids_of(chat.page(2, ids[3])) == [ids[2], ids[1]]


def test_a_cursor_that_leads_nowhere_is_the_servers_error(chat):
    """An ID that nobody knows is a 400, whatever it looks like."""
    chat.put(2)
    for cursor in ("gone", "gone~1~yesterday"):
        with pytest.raises(AppwriteException) as caught:
            chat.page(2, cursor)
        assert caught.value.code == 400


def test_a_cursor_is_good_in_another_process(embedded):
    """It holds the place itself: a service that has read nothing recovers as well."""
    ids = embedded.put(4)
    cursor = embedded.page(2).next_cursor
    embedded.remove(ids[2])
    fresh = AppwriteChatService(
        embedded.tables,
        database_id=embedded.backend.database_id,
        pipeline=embedded.pipeline,
        messages_table=embedded.messages,
    )
    assert ids_of(fresh.list_messages("room-1", limit=2, cursor=cursor)) == ids[1::-1]


def test_threads_read_while_others_write_and_remove(embedded):
    """What is there from beginning to end is read exactly once and in order by every reader."""
    steady = embedded.put(12)
    stop = threading.Event()

    def disturb(number):
        while not stop.is_set():
            message_id = f"d{number}-{uuid.uuid4().hex[:8]}"
            data = {"roomId": "room-1", "text": "passing"}
            embedded.tables.create_row(embedded.backend.database_id, embedded.messages, message_id, data)
            embedded.remove(message_id)

    def read(newest_first):
        found = ids_of(iter_messages(embedded.service, "room-1", page_size=2, newest_first=newest_first))
        return [message_id for message_id in found if message_id in steady]

    with ThreadPoolExecutor(4) as pool:
        disturbers = [pool.submit(disturb, number) for number in range(2)]
        try:
            for newest_first in [True, False] * 5:
                assert read(newest_first) == (steady[::-1] if newest_first else steady)
        finally:
            stop.set()
        for disturber in disturbers:
            disturber.result()


class PagingMachine(RuleBasedStateMachine):
    """Readers page through a room while messages are added and removed; a list is the model.

    A reader must get every message that was there from before its first page to its last, once and in order, and
    nothing that was never there.
    """

    def __init__(self):
        super().__init__()
        self.server = AppwriteServer().start()
        self.chat = Chat(make_database(self.server.client(), self.server))
        self.time = virtual_time()
        self.clock = self.time.__enter__()
        self.alive, self.order, self.readers = [], [], []

    def teardown(self):
        self.time.__exit__(None, None, None)
        self.server.stop()

    @initialize(count=st.integers(0, 6))
    def fill(self, count):
        self.add(count)

    @rule(count=st.integers(1, 3))
    def add(self, count):
        ids = self.chat.put(count)
        self.alive += ids
        self.order += ids

    @rule(seconds=st.sampled_from([0.001, 1.0]))
    def wait(self, seconds):
        self.clock.advance(seconds)

    @rule(data=st.data())
    def remove(self, data):
        if self.alive:
            message_id = data.draw(st.sampled_from(self.alive))
            self.chat.remove(message_id)
            self.alive.remove(message_id)
            for reader in self.readers:
                reader["owed"].discard(message_id)

    @rule(newest_first=st.booleans(), limit=st.integers(1, 4))
    def begin(self, newest_first, limit):
        self.readers.append(
            {
                "newest_first": newest_first,
                "limit": limit,
                "cursor": None,
                "found": [],
                "owed": set(self.alive),
                "at": 0,
            }
        )
        self.read(self.readers[-1])

    @rule(data=st.data())
    def go_on(self, data):
        going = [reader for reader in self.readers if reader["cursor"] is not None]
        if going:
            self.read(data.draw(st.sampled_from(going)))

    def read(self, reader):
        page = self.chat.page(reader["limit"], reader["cursor"], newest_first=reader["newest_first"])
        assert len(page.items) <= reader["limit"]
        assert set(ids_of(page)) <= set(self.alive)
        reader["found"] += ids_of(page)
        reader["cursor"] = page.next_cursor
        if page.next_cursor is None:
            assert reader["owed"] <= set(reader["found"])
            self.readers.remove(reader)

    @invariant()
    def every_reader_is_in_order_and_has_nothing_twice(self):
        for reader in self.readers:
            places = [self.order.index(message_id) for message_id in reader["found"]]
            assert places == sorted(set(places), reverse=reader["newest_first"])


TestPaging = PagingMachine.TestCase
TestPaging.settings = settings(max_examples=15, stateful_step_count=30, deadline=None)
TestPaging.__doc__ = "Whatever comes and goes meanwhile, every reader gets what stayed, once and in order."
