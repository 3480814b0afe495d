"""The chat side of a booking, as protocols: who opens the chat, and what a chat service can do."""

from __future__ import annotations

import datetime
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar, runtime_checkable

from booking_resilience.checks import check_whole

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class BookingSuccess:
    """A booking is stored and its chat room exists: what a `ChatProvider` gets.

    Attributes:
        chat_room_id: The chat room's ID.
        booking_id: The booking's ID.
        provider_id: The ID of whoever was booked.
        provider_name: Their name, for people.
        source: What made the booking.
    """

    chat_room_id: str
    booking_id: str
    provider_id: str
    provider_name: str
    source: str = "booking_flow"

    def to_payload(self) -> dict[str, str]:
        """Return the event with the names that JavaScript code would use.

        >>> BookingSuccess("room", "booking", "t1", "Ada").to_payload()["chatRoomId"]
        'room'
        """
        return {
            "chatRoomId": self.chat_room_id,
            "bookingId": self.booking_id,
            "providerId": self.provider_id,
            "providerName": self.provider_name,
            "source": self.source,
        }


@dataclass(frozen=True, slots=True)
class ChatRoom:
    """A chat room: its `id`, the `booking_id` that it is for, and the IDs of its `participants`."""

    id: str
    booking_id: str
    participants: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """A message in a chat room: its `id`, its `room_id`, its `text`, and `created_at` (aware UTC)."""

    id: str
    room_id: str
    text: str
    created_at: datetime.datetime


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A page of a longer list: its `items`, and the `next_cursor` to get the next page with (None on the last)."""

    items: tuple[T, ...]
    next_cursor: str | None


@runtime_checkable
class ChatProvider(Protocol):
    """Opens the chat once a booking is stored."""

    def handle_booking_success(self, event: BookingSuccess) -> None:
        """Open the chat."""
        ...


@runtime_checkable
class ChatService(Protocol):
    """Keeps chat rooms and messages. IDs derive from the booking, so sending twice makes one message.

    Every method may raise what its backend raises.
    """

    def create_chat_room(self, *, booking_id: str, participants: Sequence[str]) -> ChatRoom:
        """Make the chat room of a booking, or return it if it is there."""
        ...

    def send_welcome_message(self, room_id: str) -> ChatMessage:
        """Send the welcome message, once."""
        ...

    def send_booking_received_message(self, room_id: str, booking_id: str) -> ChatMessage:
        """Send the message that the booking was received, once."""
        ...

    def list_messages(
        self, room_id: str, *, limit: int = 50, cursor: str | None = None, newest_first: bool = True
    ) -> Page[ChatMessage]:
        """Return a page of at most `limit` messages (1 or more); `cursor` is the page before's, None at first."""
        ...


@runtime_checkable
class AsyncChatProvider(Protocol):
    """A `ChatProvider` that waits without blocking."""

    async def handle_booking_success(self, event: BookingSuccess) -> None:
        """Open the chat."""
        ...


@runtime_checkable
class AsyncChatService(Protocol):
    """A `ChatService` that waits without blocking."""

    async def create_chat_room(self, *, booking_id: str, participants: Sequence[str]) -> ChatRoom:
        """Make the chat room of a booking, or return it if it is there."""
        ...

    async def send_welcome_message(self, room_id: str) -> ChatMessage:
        """Send the welcome message, once."""
        ...

    async def send_booking_received_message(self, room_id: str, booking_id: str) -> ChatMessage:
        """Send the message that the booking was received, once."""
        ...

    async def list_messages(
        self, room_id: str, *, limit: int = 50, cursor: str | None = None, newest_first: bool = True
    ) -> Page[ChatMessage]:
        """Return a page of at most `limit` messages (1 or more); `cursor` is the page before's, None at first."""
        ...


def iter_messages(
    service: ChatService, room_id: str, *, page_size: int = 50, newest_first: bool = True
) -> Iterator[ChatMessage]:
    """Yield all messages of a room, page by page: none twice, none missed, while new ones arrive.

    An empty page with a cursor isn't the end; a page that repeats the cursor it was asked with is.

    Args:
        service: Where the messages are.
        room_id: The room.
        page_size: Messages fetched at a time; 1 or more.
        newest_first: The order.

    Raises:
        TypeError: If `page_size` isn't a whole number.
        ValueError: If it is out of its range. Both are raised at once, not at the first message.
    """
    check_whole("page_size", page_size)
    return _pages(service, room_id, page_size, newest_first)


def iter_messages_async(
    service: AsyncChatService, room_id: str, *, page_size: int = 50, newest_first: bool = True
) -> AsyncIterator[ChatMessage]:
    """Do the same as `iter_messages` with an asynchronous service, for `async for`."""
    check_whole("page_size", page_size)
    return _pages_async(service, room_id, page_size, newest_first)


def _pages(service: ChatService, room_id: str, page_size: int, newest_first: bool) -> Iterator[ChatMessage]:
    cursor: str | None = None
    while True:
        page = service.list_messages(room_id, limit=page_size, cursor=cursor, newest_first=newest_first)
        yield from page.items
        if page.next_cursor in (None, cursor):  # one that leads to itself is the last
            return
        cursor = page.next_cursor


async def _pages_async(
    service: AsyncChatService, room_id: str, page_size: int, newest_first: bool
) -> AsyncIterator[ChatMessage]:
    cursor: str | None = None
    while True:
        page = await service.list_messages(room_id, limit=page_size, cursor=cursor, newest_first=newest_first)
        for message in page.items:
            yield message
        if page.next_cursor in (None, cursor):
            return
        cursor = page.next_cursor
