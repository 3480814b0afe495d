"""The chat side of a booking, as protocols: who opens the chat, and what a chat service can do."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar, runtime_checkable

from booking_resilience.checks import check, is_whole

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
        ValueError: If `page_size` is out of its range; raised at once, not at the first message.
    """
    check("page_size", page_size, is_whole(page_size), "a whole number, 1 or more")
    return _pages(service, room_id, page_size, newest_first)


def _pages(service: ChatService, room_id: str, page_size: int, newest_first: bool) -> Iterator[ChatMessage]:
    cursor: str | None = None
    while True:
        page = service.list_messages(room_id, limit=page_size, cursor=cursor, newest_first=newest_first)
        yield from page.items
        if page.next_cursor is None or page.next_cursor == cursor:
            return
        cursor = page.next_cursor
