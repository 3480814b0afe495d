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

import datetime
import hashlib
import re
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from appwrite.query import Query

from booking_resilience.appwrite.classify import classify
from booking_resilience.appwrite.create import create_row_once
from booking_resilience.appwrite.rows import Row, RowStore
from booking_resilience.booking import ChatMessage, ChatRoom, Page
from booking_resilience.checks import check, is_text, is_whole
from booking_resilience.locks import fork_safe_lock

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from booking_resilience.pipeline import Pipeline

WELCOME: Final = "Welcome! This is the chat of your booking."
RECEIVED: Final = "We have received your booking and will confirm it shortly."

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

_Q: Final[Any] = Query  # the SDK has no annotations
_LOCK = fork_safe_lock()  # guards what services remember; held for a look
_MOST_REMEMBERED: Final = 1_000
_CURSOR: Final = re.compile(r"(?P<id>[^~]+)~(?P<sequence>[^~]*)~(?P<created>[^~]+)")


class _Place(NamedTuple):
    """The place of a message in the order of its room."""

    created_at: datetime.datetime
    sequence: str
    id: str

    @property
    def key(self) -> tuple[datetime.datetime, int, str]:
        """What places are compared by; sequences are numbers, or texts that sort."""
        number = int(self.sequence) if self.sequence.isdecimal() else -1
        return self.created_at, number, "" if number >= 0 else self.sequence

    def to_cursor(self) -> str:
        return f"{self.id}~{self.sequence}~{_written(self.created_at)}"


class AppwriteChatService:
    """A `ChatService` that keeps rooms and messages in Appwrite. Safe to share between threads.

    Args:
        tables: The SDK's `TablesDB`, or the older `Databases`.
        database_id: The database's ID.
        pipeline: How to call.
        rooms_table: The ID of the table of rooms.
        messages_table: The ID of the table of messages.
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
        named = (("database_id", database_id), ("rooms_table", rooms_table), ("messages_table", messages_table))
        for name, value in named:
            check(name, value, is_text(value), "a text that is not empty")
        self._tables, self._store, self._pipeline = tables, RowStore(tables), pipeline
        self._database_id, self._rooms_table, self._messages_table = database_id, rooms_table, messages_table
        self._places: OrderedDict[str, _Place] = OrderedDict()

    def create_chat_room(self, *, booking_id: str, participants: Sequence[str]) -> ChatRoom:
        """Make the chat room of a booking, or find that it is there already.

        Raises:
            AppwriteException: If it could not be made, or if there is one with other participants.
        """
        check("booking_id", booking_id, is_text(booking_id), "a text that is not empty")
        room_id = _derived_id("room", booking_id)
        data = {"bookingId": booking_id, "participants": list(participants)}
        self._create("createChatRoom", self._rooms_table, room_id, data)
        return ChatRoom(room_id, booking_id, tuple(participants))

    def send_welcome_message(self, room_id: str) -> ChatMessage:
        """Send the welcome message; a room has one, however often it is sent."""
        return self._send("sendWelcomeMessage", room_id, _derived_id("welcome", room_id), WELCOME)

    def send_booking_received_message(self, room_id: str, booking_id: str) -> ChatMessage:
        """Send the message that the booking was received; there is one for each booking in a room."""
        message_id = _derived_id("received", room_id, booking_id)
        return self._send("sendBookingReceivedMessage", room_id, message_id, RECEIVED)

    def list_messages(
        self, room_id: str, *, limit: int = 50, cursor: str | None = None, newest_first: bool = True
    ) -> Page[ChatMessage]:
        """Return a page of the room's messages.

        Args:
            room_id: The room.
            limit: Messages on the page at most; 1 or more.
            cursor: The `next_cursor` of the page before, with the same order; None for the first page. The ID of a
                message does as well, as long as the message is there or was lately on a page of this service.
            newest_first: The order.

        Raises:
            ValueError: If `limit` is out of its range.
            AppwriteException: If the messages could not be read.
        """
        check("limit", limit, is_whole(limit), "a whole number, 1 or more")
        if cursor is None:
            rows = self._list(room_id, limit, newest_first, after=None) or ()
        else:
            rows = self._list_after(room_id, limit, newest_first, cursor)
        places = [_place_of(row) for row in rows]
        self._remember(places)
        full = len(rows) >= limit
        return Page(tuple(_message_of(row) for row in rows), places[-1].to_cursor() if full else None)

    def _list_after(self, room_id: str, limit: int, newest_first: bool, cursor: str) -> Sequence[Row]:
        place = self._place_in(cursor)
        message_id = cursor if place is None else place.id
        rows = self._list(room_id, limit, newest_first, after=message_id, may_be_gone=place is not None)
        if rows is None and place is not None:
            return self._list_behind(room_id, limit, newest_first, place)
        return rows or ()

    def _list_behind(self, room_id: str, limit: int, newest_first: bool, gone: _Place) -> Sequence[Row]:
        """Return the messages behind a place whose message is gone.

        The query has to begin with the moment itself, since other messages of that moment may come later in the order;
        those that come earlier are passed over.
        """
        moment = _written(gone.created_at)
        bound = (_Q.less_than_equal if newest_first else _Q.greater_than_equal)("$createdAt", moment)
        found: list[Row] = []
        after: str | None = None
        while True:
            rows = self._list(room_id, limit, newest_first, bound, after=after, may_be_gone=after is not None)
            if rows is None:  # gone as well, just now
                found, after = [], None
                continue
            found += [row for row in rows if _is_behind(_place_of(row), gone, newest_first)]
            if len(rows) < limit or len(found) >= limit:
                return found[:limit]
            after = rows[-1].id

    def _list(
        self, room_id: str, limit: int, newest_first: bool, *more: str, after: str | None, may_be_gone: bool = False
    ) -> Sequence[Row] | None:
        """Return messages after the one of an ID; None if that one is gone and this may be."""
        order = (_Q.order_desc if newest_first else _Q.order_asc)("$createdAt")
        cursor = [] if after is None else [_Q.cursor_after(after)]
        queries = [_Q.equal("roomId", [room_id]), *more, *cursor, order, _Q.limit(limit)]

        def read() -> Sequence[Row] | None:
            try:
                return self._store.list(self._database_id, self._messages_table, queries)
            except Exception as error:
                if may_be_gone and classify(error).type == "general_cursor_not_found":
                    return None  # no failure to be recorded: there is another way
                raise

        return self._pipeline.call("listMessages", read)

    def _send(self, operation: str, room_id: str, message_id: str, text: str) -> ChatMessage:
        check("room_id", room_id, is_text(room_id), "a text that is not empty")
        row = self._create(operation, self._messages_table, message_id, {"roomId": room_id, "text": text})
        return _message_of(row)

    def _create(self, operation: str, table_id: str, row_id: str, data: dict[str, Any]) -> Row:
        return create_row_once(
            self._tables,
            database_id=self._database_id,
            table_id=table_id,
            row_id=row_id,
            data=data,
            pipeline=self._pipeline,
            operation=operation,
        )

    def _remember(self, places: Sequence[_Place]) -> None:
        """Keep the places of the pages read lately, so that the ID of a message that is gone still leads on."""
        with _LOCK:
            for place in places:
                self._places[place.id] = place
                self._places.move_to_end(place.id)
            while len(self._places) > _MOST_REMEMBERED:
                self._places.popitem(last=False)

    def _place_in(self, cursor: str) -> _Place | None:
        if (parts := _CURSOR.fullmatch(cursor)) is not None:
            try:
                created_at = datetime.datetime.fromisoformat(parts["created"])
            except ValueError:
                return None
            return _Place(created_at, parts["sequence"], parts["id"])
        with _LOCK:
            return self._places.get(cursor)


def _derived_id(*parts: str) -> str:
    """Return an ID of 36 characters that only these parts lead to; the first of them is its beginning."""
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()
    return f"{parts[0]}-{digest}"[:36]


def _is_behind(place: _Place, other: _Place, newest_first: bool) -> bool:
    return place.key < other.key if newest_first else place.key > other.key


def _place_of(row: Row) -> _Place:
    return _Place(_created(row), row.sequence or "", row.id)


def _message_of(row: Row) -> ChatMessage:
    return ChatMessage(row.id, str(row.data["roomId"]), str(row.data["text"]), _created(row))


def _created(row: Row) -> datetime.datetime:
    if row.created_at is None:
        raise ValueError(f"the row {row.id!r} says nothing of when it was stored")
    return row.created_at


def _written(moment: datetime.datetime) -> str:
    """Return a moment as the server writes it."""
    return moment.astimezone(datetime.UTC).isoformat(timespec="milliseconds")
