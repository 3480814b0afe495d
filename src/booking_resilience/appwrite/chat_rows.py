"""The rows of a booking's chat: the room and its two messages, with IDs that are derived from the booking."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

from booking_resilience.appwrite.new_rows import NewRow
from booking_resilience.checks import check_strings, check_text

WELCOME: Final = "Welcome! This is the chat of your booking."
RECEIVED: Final = "We have received your booking and will confirm it shortly."


def chat_rows(
    *,
    database_id: str,
    booking_id: str,
    participants: Sequence[str],
    rooms_table: str = "chat_rooms",
    messages_table: str = "chat_messages",
) -> list[NewRow]:
    """Return the room of a booking and its two messages, as the chat services make them. Pure.

    Give them to `create_rows_once` beside the booking; a chat service finds them there.

    Args:
        database_id: The database's ID.
        booking_id: The booking's ID.
        participants: Who is in the room.
        rooms_table: The ID of the table of rooms.
        messages_table: The ID of the table of messages.

    Returns:
        The room, the welcome message, and the message that the booking was received.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If a string is empty.

    >>> [row.table_id for row in chat_rows(database_id="clinic", booking_id="b-1", participants=["u-1", "t-1"])]
    ['chat_rooms', 'chat_messages', 'chat_messages']
    """
    named = (("database_id", database_id), ("rooms_table", rooms_table), ("messages_table", messages_table))
    for name, value in named:
        check_text(name, value)
    room = room_row(database_id, rooms_table, booking_id, participants)
    return [
        room,
        welcome_row(database_id, messages_table, room.row_id),
        received_row(database_id, messages_table, room.row_id, booking_id),
    ]


def room_row(database_id: str, table_id: str, booking_id: str, participants: Sequence[str]) -> NewRow:
    """Return the row of a booking's room."""
    check_text("booking_id", booking_id)
    check_strings("participants", participants)
    data = {"bookingId": booking_id, "participants": list(participants)}
    return NewRow(database_id, table_id, _derived_id("room", booking_id), data)


def welcome_row(database_id: str, table_id: str, room_id: str) -> NewRow:
    """Return the row of a room's welcome message."""
    check_text("room_id", room_id)
    return _message(database_id, table_id, _derived_id("welcome", room_id), room_id, WELCOME)


def received_row(database_id: str, table_id: str, room_id: str, booking_id: str) -> NewRow:
    """Return the row of the message that a booking was received."""
    check_text("room_id", room_id)
    check_text("booking_id", booking_id)
    return _message(database_id, table_id, _derived_id("received", room_id, booking_id), room_id, RECEIVED)


def _message(database_id: str, table_id: str, message_id: str, room_id: str, text: str) -> NewRow:
    return NewRow(database_id, table_id, message_id, {"roomId": room_id, "text": text})


def _derived_id(*parts: str) -> str:
    """Return an ID of 36 characters that only these parts lead to; the first of them is its beginning."""
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()
    return f"{parts[0]}-{digest}"[:36]
