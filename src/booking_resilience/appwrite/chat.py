"""The chat of a booking, kept in two Appwrite tables: `AppwriteChatService`.

`CHAT_TABLES` describes the tables, so that a set-up can make them:

- chat rooms: `bookingId` (varchar 64), `participants` (array of varchar 64);
- chat messages: `roomId` (varchar 36, indexed), `text` (varchar 1000).

Rooms and messages have IDs derived from their booking, so sending again finds what is there already.

Pages are in the order of `$createdAt`, equal moments in the order of storing (`$sequence`; the server adds that by
itself). A cursor holds the place of a page's last message, not only its ID: if that message is gone, the server refuses
the ID, and the next page is found by the place instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from booking_resilience.appwrite.calls import ASYNC, SYNC, check_colour, run_now
from booking_resilience.appwrite.rooms import Rooms
from booking_resilience.booking import ChatMessage, ChatRoom, Page
from booking_resilience.pipeline import Pipeline

CHAT_TABLES: Final[Mapping[str, Any]] = {
    "chat_rooms": {
        "columns": {
            "bookingId": {"type": "varchar", "size": 64, "required": True},
            "participants": {"type": "varchar", "size": 64, "required": False, "array": True},
        },
        "indexes": {},
    },
    "chat_messages": {
        "columns": {
            "roomId": {"type": "varchar", "size": 36, "required": True},
            "text": {"type": "varchar", "size": 1000, "required": True},
        },
        "indexes": {"by_room": ["roomId"]},
    },
}
"""Columns and indexes of the two tables, under the tables' default IDs; `type` names the SDK's `create_TYPE_column`."""


class AppwriteChatService:
    """A `ChatService` that keeps rooms and messages in Appwrite. Safe to share between threads.

    Args:
        tables: The SDK's `TablesDB`, or the older `Databases`, of a synchronous client.
        database_id: The database's ID.
        pipeline: How to call.
        rooms_table: The ID of the table of rooms.
        messages_table: The ID of the table of messages.

    Raises:
        TypeError: If `tables` isn't such a service.
    """

    def __init__(
        self,
        tables: Any,
        *,
        database_id: str,
        pipeline: Pipeline,
        rooms_table: str = "chat_rooms",
        messages_table: str = "chat_messages",
    ) -> None:
        check_colour(tables, is_async=False, called="AppwriteChatService", instead="AsyncAppwriteChatService")
        self._rooms = Rooms(tables, database_id, pipeline, rooms_table, messages_table, SYNC)

    def create_chat_room(self, *, booking_id: str, participants: Sequence[str]) -> ChatRoom:
        """Make the chat room of a booking, or find that it is there already.

        Raises:
            AppwriteException: If it could not be made, or if there is one with other participants.
        """
        return run_now(lambda: self._rooms.create(booking_id, participants))

    def send_welcome_message(self, room_id: str) -> ChatMessage:
        """Send the welcome message; a room has one, however often it is sent."""
        return run_now(lambda: self._rooms.welcome(room_id))

    def send_booking_received_message(self, room_id: str, booking_id: str) -> ChatMessage:
        """Send the message that the booking was received; there is one for each booking in a room."""
        return run_now(lambda: self._rooms.received(room_id, booking_id))

    def list_messages(
        self, room_id: str, *, limit: int = 50, cursor: str | None = None, newest_first: bool = True
    ) -> Page[ChatMessage]:
        """Return a page of the room's messages.

        Args:
            room_id: The room.
            limit: Messages on the page at most; 1 or more.
            cursor: The `next_cursor` of the page before, with the same order; None for the first page. The ID of a
                message does as well, as long as the message is there.
            newest_first: The order.

        Raises:
            ValueError: If `limit` is out of its range.
            AppwriteException: If the messages could not be read.
        """
        return run_now(lambda: self._rooms.page(room_id, limit, cursor, newest_first))


class AsyncAppwriteChatService:
    """An `AsyncChatService`: `AppwriteChatService` with a service of an `AsyncAppwriteClient`.

    Args:
        tables: The SDK's `TablesDB`, or the older `Databases`, of an asynchronous client.
        database_id: The database's ID.
        pipeline: How to call.
        rooms_table: The ID of the table of rooms.
        messages_table: The ID of the table of messages.

    Raises:
        TypeError: If `tables` isn't such a service.
    """

    def __init__(
        self,
        tables: Any,
        *,
        database_id: str,
        pipeline: Pipeline,
        rooms_table: str = "chat_rooms",
        messages_table: str = "chat_messages",
    ) -> None:
        check_colour(tables, is_async=True, called="AsyncAppwriteChatService", instead="AppwriteChatService")
        self._rooms = Rooms(tables, database_id, pipeline, rooms_table, messages_table, ASYNC)

    async def create_chat_room(self, *, booking_id: str, participants: Sequence[str]) -> ChatRoom:
        """Do the same as `AppwriteChatService.create_chat_room`."""
        return await self._rooms.create(booking_id, participants)

    async def send_welcome_message(self, room_id: str) -> ChatMessage:
        """Do the same as `AppwriteChatService.send_welcome_message`."""
        return await self._rooms.welcome(room_id)

    async def send_booking_received_message(self, room_id: str, booking_id: str) -> ChatMessage:
        """Do the same as `AppwriteChatService.send_booking_received_message`."""
        return await self._rooms.received(room_id, booking_id)

    async def list_messages(
        self, room_id: str, *, limit: int = 50, cursor: str | None = None, newest_first: bool = True
    ) -> Page[ChatMessage]:
        """Do the same as `AppwriteChatService.list_messages`."""
        return await self._rooms.page(room_id, limit, cursor, newest_first)
