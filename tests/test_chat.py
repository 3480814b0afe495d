from __future__ import annotations

import asyncio
import dataclasses
import datetime
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from booking_resilience.booking import (
    AsyncChatProvider,
    AsyncChatService,
    BookingSuccess,
    ChatMessage,
    ChatProvider,
    ChatService,
    Page,
    iter_messages,
    iter_messages_async,
)

NOW = datetime.datetime(2026, 11, 23, 9, tzinfo=datetime.UTC)


class Pages:
    """A chat service whose pages are given, by cursor."""

    def __init__(self, pages):
        self.pages = pages
        self.calls = []

    def create_chat_room(self, *, booking_id, participants):
        """Not asked for here."""

    def send_welcome_message(self, room_id):
        """Not asked for here."""

    def send_booking_received_message(self, room_id, booking_id):
        """Not asked for here."""

    def list_messages(self, room_id, *, limit=50, cursor=None, newest_first=True):
        """Return the page that was given for the cursor."""
        self.calls.append((room_id, limit, cursor, newest_first))
        items, next_cursor = self.pages[cursor]
        return Page(tuple(ChatMessage(str(item), room_id, "hello", NOW) for item in items), next_cursor)


def test_the_event_of_a_booking_has_a_payload_in_camel_case():
    """`to_payload` has the five facts with JavaScript's names."""
    event = BookingSuccess("room", "booking", "t1", "Ada")
    assert event.to_payload() == {
        "chatRoomId": "room",
        "bookingId": "booking",
        "providerId": "t1",
        "providerName": "Ada",
        "source": "booking_flow",
    }
    assert pickle.loads(pickle.dumps(event)) == event
    with pytest.raises(dataclasses.FrozenInstanceError):
        event.source = "x"


def test_protocols_are_met_by_what_has_the_methods():
    """A class needs no base class to be a provider or a service."""

    class Provider:
        def handle_booking_success(self, event): ...

    assert isinstance(Provider(), ChatProvider)
    assert isinstance(Pages({}), ChatService)
    assert not isinstance(object(), ChatProvider)


def test_messages_come_page_by_page():
    """Each cursor leads to the next page, with the size and the order asked for."""
    service = Pages({None: ([1, 2], "a"), "a": ([3], None)})
    assert [message.id for message in iter_messages(service, "r", page_size=2, newest_first=False)] == ["1", "2", "3"]
    assert service.calls == [("r", 2, None, False), ("r", 2, "a", False)]


def test_an_empty_page_with_a_cursor_goes_on():
    """Only a page without a cursor is the last."""
    service = Pages({None: ([], "a"), "a": ([], "b"), "b": ([1], "c"), "c": ([], None)})
    assert [message.id for message in iter_messages(service, "r")] == ["1"]


def test_a_service_that_repeats_a_cursor_does_not_hang_its_caller():
    """A page that leads to itself is the last."""
    service = Pages({None: ([1], "a"), "a": ([2], "a")})
    assert [message.id for message in iter_messages(service, "r")] == ["1", "2"]


@given(st.lists(st.lists(st.integers(), max_size=4), min_size=1, max_size=6))
def test_every_item_of_every_page_comes_once(pages):
    """Whatever the sizes of the pages, their items come in order, none twice and none missed."""
    last = len(pages) - 1
    keyed = {(str(i) if i else None): (items, str(i + 1) if i < last else None) for i, items in enumerate(pages)}
    found = [message.id for message in iter_messages(Pages(keyed), "r")]
    assert found == [str(item) for items in pages for item in items]


def test_pages_are_fetched_when_they_are_needed():
    """Nothing is fetched before the first message is asked for, and no page ahead."""
    service = Pages({None: ([1, 2], "a"), "a": ([3], None)})
    messages = iter_messages(service, "r")
    assert service.calls == []
    next(messages), next(messages)
    assert len(service.calls) == 1


@pytest.mark.parametrize(
    ("page_size", "kind"), [(0, ValueError), (-1, ValueError), (1.5, ValueError), (True, TypeError), (None, TypeError)]
)
@pytest.mark.parametrize("messages", [iter_messages, iter_messages_async])
def test_a_page_size_below_one_is_refused_at_once(page_size, kind, messages):
    """The error comes from the call, not from the first message."""
    with pytest.raises(kind, match="page_size must be a whole number, 1 or more"):
        messages(Pages({}), "r", page_size=page_size)


class AsyncPages:
    """An asynchronous chat service that has the pages of a synchronous one."""

    def __init__(self, pages):
        self.pages = Pages(pages)

    async def create_chat_room(self, *, booking_id, participants): ...
    async def send_welcome_message(self, room_id): ...
    async def send_booking_received_message(self, room_id, booking_id): ...

    async def list_messages(self, room_id, **how):
        return self.pages.list_messages(room_id, **how)


def collected(messages):
    """Return what an asynchronous iterator gives."""

    async def collect():
        return [message.id async for message in messages]

    return asyncio.run(collect())


def test_asynchronous_pages_are_read_alike():
    """Empty pages, repeated cursors, the order and the size."""
    for pages in (
        {None: ([1, 2], "a"), "a": ([3], None)},
        {None: ([], "a"), "a": ([1], None)},
        {None: ([1], "a"), "a": ([2], "a")},
    ):
        service, twin = AsyncPages(pages), Pages(pages)
        read = collected(iter_messages_async(service, "r", page_size=2, newest_first=False))
        assert read == [message.id for message in iter_messages(twin, "r", page_size=2, newest_first=False)]
        assert service.pages.calls == twin.calls


def test_asynchronous_protocols_are_met_by_what_has_the_methods():
    """A class needs no base class to be a provider or a service."""

    class Provider:
        async def handle_booking_success(self, event): ...

    assert isinstance(Provider(), AsyncChatProvider)
    assert isinstance(AsyncPages({}), AsyncChatService)
    assert not isinstance(object(), AsyncChatService)
