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
    """A booking stands and its chat room is there: what a `ChatProvider` is told."""

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
    """A chat room, made for one booking."""

    id: str
    booking_id: str
    participants: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """A message in a chat room; `created_at` is aware UTC."""

    id: str
    room_id: str
    text: str
    created_at: datetime.datetime


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A page of a longer list; `next_cursor` leads to the next one, and is None on the last."""

    items: tuple[T, ...]
    next_cursor: str | None


@runtime_checkable
class ChatProvider(Protocol):
    """Whoever opens the chat when a booking stands."""

    def handle_booking_success(self, event: BookingSuccess) -> None:
        """Open the chat."""
        ...


@runtime_checkable
class ChatService(Protocol):
    """Where chat rooms and messages are kept. IDs derive from the booking: sending again is the same message."""

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
        """Return a page of the room's messages, beginning after the cursor."""
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
        """Return a page of the room's messages, beginning after the cursor."""
        ...


def iter_messages(
    service: ChatService, room_id: str, *, page_size: int = 50, newest_first: bool = True
) -> Iterator[ChatMessage]:
    """Yield all messages of a room, page by page: none twice, none missed, while new ones arrive.

    An empty page that has a cursor is not the end; a service that gives a cursor back that it was given is.

    Args:
        service: Where the messages are.
        room_id: The room.
        page_size: Messages fetched at a time; 1 or more.
        newest_first: The order.

    Raises:
        TypeError: If `page_size` is no whole number.
        ValueError: If it is out of its range. Both are raised at once, not at the first message.
    """
    check_whole("page_size", page_size)
    return _pages(service, room_id, page_size, newest_first)


def iter_messages_async(
    service: AsyncChatService, room_id: str, *, page_size: int = 50, newest_first: bool = True
) -> AsyncIterator[ChatMessage]:
    """Do as `iter_messages` with an asynchronous service, for `async for`."""
    check_whole("page_size", page_size)
    return _pages_async(service, room_id, page_size, newest_first)


def _pages(service: ChatService, room_id: str, page_size: int, newest_first: bool) -> Iterator[ChatMessage]:
    cursor: str | None = None
    goes_on = True
    while goes_on:
        page = service.list_messages(room_id, limit=page_size, cursor=cursor, newest_first=newest_first)
        yield from page.items
        goes_on, cursor = _next(page, cursor)


async def _pages_async(
    service: AsyncChatService, room_id: str, page_size: int, newest_first: bool
) -> AsyncIterator[ChatMessage]:
    cursor: str | None = None
    goes_on = True
    while goes_on:
        page = await service.list_messages(room_id, limit=page_size, cursor=cursor, newest_first=newest_first)
        for message in page.items:
            yield message
        goes_on, cursor = _next(page, cursor)


def _next(page: Page[ChatMessage], cursor: str | None) -> tuple[bool, str | None]:
    """Tell whether there is another page, and its cursor; one that leads to itself is the last."""
    return page.next_cursor not in (None, cursor), page.next_cursor
