"""The rooms and messages of the chat services, whatever their colour: what is stored, and how it is read."""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from appwrite.query import Query

from booking_resilience.appwrite.calls import Colour
from booking_resilience.appwrite.chat_rows import received_row, room_row, welcome_row
from booking_resilience.appwrite.create import Creation
from booking_resilience.appwrite.new_rows import NewRow
from booking_resilience.appwrite.rows import Row, RowStore
from booking_resilience.booking import ChatMessage, ChatRoom, Page
from booking_resilience.checks import check_text, check_type, check_whole
from booking_resilience.pipeline import Pipeline

_Q: Final[Any] = Query  # the SDK has no annotations
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


class Rooms:
    """Rooms and messages in two tables, for the chat services of both colours.

    Args:
        tables: The service.
        database_id: The database's ID.
        pipeline: How to call.
        rooms_table: The ID of the table of rooms.
        messages_table: The ID of the table of messages.
        colour: How what may wait is done.
    """

    def __init__(
        self, tables: Any, database_id: str, pipeline: Pipeline, rooms_table: str, messages_table: str, colour: Colour
    ) -> None:
        named = (("database_id", database_id), ("rooms_table", rooms_table), ("messages_table", messages_table))
        for name, value in named:
            check_text(name, value)
        check_type("pipeline", pipeline, isinstance(pipeline, Pipeline), "a Pipeline")
        self._tables, self._store, self._pipeline, self._colour = tables, RowStore(tables), pipeline, colour
        self._database_id, self._rooms_table, self._messages_table = database_id, rooms_table, messages_table

    async def create(self, booking_id: str, participants: Sequence[str]) -> ChatRoom:
        """Make the room of a booking, or find that it is there already."""
        row = room_row(self._database_id, self._rooms_table, booking_id, participants)
        await self._create("createChatRoom", row)
        return ChatRoom(row.row_id, booking_id, tuple(participants))

    async def welcome(self, room_id: str) -> ChatMessage:
        """Send the welcome message."""
        row = welcome_row(self._database_id, self._messages_table, room_id)
        return _message_of(await self._create("sendWelcomeMessage", row))

    async def received(self, room_id: str, booking_id: str) -> ChatMessage:
        """Send the message that a booking was received."""
        row = received_row(self._database_id, self._messages_table, room_id, booking_id)
        return _message_of(await self._create("sendBookingReceivedMessage", row))

    async def page(self, room_id: str, limit: int, cursor: str | None, newest_first: bool) -> Page[ChatMessage]:
        """Return a page of a room's messages."""
        check_text("room_id", room_id)
        check_whole("limit", limit)
        check_type("cursor", cursor, cursor is None or isinstance(cursor, str), "a string or None")
        rows = await self._list_after(room_id, limit, newest_first, cursor)
        is_full = len(rows) >= limit
        return Page(tuple(map(_message_of, rows)), _place_of(rows[-1]).to_cursor() if is_full else None)

    async def _list_after(self, room_id: str, limit: int, newest_first: bool, cursor: str | None) -> Sequence[Row]:
        if cursor is None:
            return await self._list(room_id, limit, newest_first, after=None) or ()
        place = _place_in(cursor)
        message_id = cursor if place is None else place.id
        rows = await self._list(room_id, limit, newest_first, after=message_id, may_be_gone=place is not None)
        if rows is None and place is not None:
            return await self._list_behind(room_id, limit, newest_first, place)
        return rows or ()

    async def _list_behind(self, room_id: str, limit: int, newest_first: bool, gone: _Place) -> Sequence[Row]:
        """Return the messages behind a place whose message is gone.

        The query has to begin with the moment itself, since other messages of that moment may come later in the order;
        those that come earlier are passed over.
        """
        moment = _written(gone.created_at)
        bound = (_Q.less_than_equal if newest_first else _Q.greater_than_equal)("$createdAt", moment)
        found: list[Row] = []
        after: str | None = None
        while True:
            rows = await self._list(room_id, limit, newest_first, bound, after=after, may_be_gone=after is not None)
            if rows is None:  # gone as well, just now
                found, after = [], None
                continue
            found += [row for row in rows if _is_behind(_place_of(row), gone, newest_first)]
            if len(rows) < limit or len(found) >= limit:
                return found[:limit]
            after = rows[-1].id

    async def _list(
        self, room_id: str, limit: int, newest_first: bool, *more: str, after: str | None, may_be_gone: bool = False
    ) -> Sequence[Row] | None:
        """Return messages after the one of an ID; None if that one is gone and this may be."""
        order = (_Q.order_desc if newest_first else _Q.order_asc)("$createdAt")
        cursor = [] if after is None else [_Q.cursor_after(after)]
        queries = [_Q.equal("roomId", [room_id]), *more, *cursor, order, _Q.limit(limit)]

        may_miss = ("general_cursor_not_found",) if may_be_gone else ()  # no failure: there is another way
        call = self._store.list(self._database_id, self._messages_table, queries, may_miss=may_miss)
        return await self._colour.through(self._pipeline, "listMessages", lambda: self._colour.ask(call))

    async def _create(self, operation: str, row: NewRow) -> Row:
        place = (row.database_id, row.table_id, row.row_id)
        return await Creation(self._tables, place, row.data, None, self._pipeline, operation).run(self._colour)


def _place_in(cursor: str) -> _Place | None:
    """Return the place that a cursor holds; None if it's the ID of a message alone."""
    if (parts := _CURSOR.fullmatch(cursor)) is None:
        return None
    try:
        return _Place(datetime.datetime.fromisoformat(parts["created"]), parts["sequence"], parts["id"])
    except ValueError:
        return None


def _is_behind(place: _Place, other: _Place, newest_first: bool) -> bool:
    return place.key < other.key if newest_first else place.key > other.key


def _place_of(row: Row) -> _Place:
    return _Place(_created(row), row.sequence or "", row.id)


def _message_of(row: Row) -> ChatMessage:
    return ChatMessage(row.id, str(row.data["roomId"]), str(row.data["text"]), _created(row))


def _created(row: Row) -> datetime.datetime:
    if row.created_at is None:
        raise ValueError(f"the row {row.id!r} has no time of creation")
    return row.created_at


def _written(moment: datetime.datetime) -> str:
    """Return a moment as the server writes it."""
    return moment.astimezone(datetime.UTC).isoformat(timespec="milliseconds")
