"""What somebody wants to book, what came of it, and the rows that a booking is. Used by `booking_flow.py`."""

from __future__ import annotations

import datetime
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from booking_resilience import BookingSource, booking_attribution
from booking_resilience.appwrite import NewRow, SlotRow, chat_rows, time_slots
from booking_tables import BOOKINGS, DATABASE_ID, SLOTS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from booking_resilience.appwrite import Row


@dataclass(frozen=True, slots=True, kw_only=True)
class BookingRequest:
    """What somebody wants to book.

    Attributes:
        booking_id: The booking's ID, made before anything is sent; the same in all attempts.
        start: When it begins, aware; None for a booking that takes nobody's time yet.
        duration: Its length in minutes.
        run: Whose bookings these are, to find them again.
    """

    therapist_id: str
    therapist_name: str
    user_id: str
    booking_type: str = "immediate"
    duration: int = 60
    start: datetime.datetime | None = None
    source: BookingSource | str | None = None
    chat_window_open: bool = False
    booking_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    run: str = "default"

    def context(self) -> dict[str, object]:
        """Return what the monitor keeps with each error of this booking."""
        return {
            "therapist_id": self.therapist_id,
            "therapist_name": self.therapist_name,
            "booking_type": self.booking_type,
            "duration": self.duration,
            "user_id": self.user_id,
            "booking_id": self.booking_id,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class BookingResult:
    """A stored booking; `missing` names the steps that failed after it was stored."""

    request: BookingRequest
    data: Mapping[str, Any]
    chat_room_id: str | None
    missing: tuple[str, ...] = ()

    def to_payload(self) -> dict[str, Any]:
        """Return it as a web page or a JSON file would want it."""
        return {
            "id": str(self.request.booking_id),
            **self.data,
            "chatRoomId": self.chat_room_id,
            "missing": list(self.missing),
        }


class BookingError(Exception):
    """The booking could not be made or changed; `message` is for people, `__cause__` is what went wrong.

    Attributes:
        message: The message.
        unknown: Whether it may have been carried out all the same: `resume_booking` finds out.
    """

    def __init__(self, message: str, *, unknown: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.unknown = unknown


def booking_data(request: BookingRequest) -> dict[str, Any]:
    """Return the row of a booking, its source resolved.

    Raises:
        ValueError: If the source or the booking type is unknown.
    """
    attribution = booking_attribution(
        booking_type=request.booking_type, chat_window_open=request.chat_window_open, source=request.source
    )
    moment = {} if request.start is None else {"start": written(request.start)}
    return {
        "reference": str(request.booking_id),
        "run": request.run,
        "therapistId": request.therapist_id,
        "therapistName": request.therapist_name,
        "userId": request.user_id,
        "duration": request.duration,
        **moment,
        **attribution,
    }


def request_of(row: Row) -> BookingRequest:
    """Return the request that a stored booking came from."""
    data, start = row.data, row.data.get("start")
    return BookingRequest(
        therapist_id=data["therapistId"],
        therapist_name=data["therapistName"],
        user_id=data["userId"],
        booking_type=data["bookingType"],
        duration=data["duration"],
        start=None if start is None else datetime.datetime.fromisoformat(start),
        source=data["source"],
        chat_window_open=data["chatWindowOpen"],
        booking_id=row.id,
        run=data["run"],
    )


def booking_row(request: BookingRequest) -> NewRow:
    """Return the row of a booking."""
    return NewRow(DATABASE_ID, BOOKINGS, request.booking_id, booking_data(request))


def slot_rows(request: BookingRequest) -> list[SlotRow]:
    """Return the rows that claim the therapist's time, in the order of their IDs; none for a booking without a time."""
    if request.start is None:
        return []
    end = request.start + datetime.timedelta(minutes=request.duration)
    slots = time_slots(
        database_id=DATABASE_ID,
        table_id=SLOTS,
        resource_id=request.therapist_id,
        holder=str(request.booking_id),
        start=request.start,
        end=end,
    )
    return sorted(slots, key=lambda row: row.row_id)


def rows_of_chat(request: BookingRequest) -> list[NewRow]:
    """Return the rows of the booking's chat: the room and its two messages."""
    participants = [request.user_id, request.therapist_id]
    return chat_rows(database_id=DATABASE_ID, booking_id=str(request.booking_id), participants=participants)


def written(moment: datetime.datetime) -> str:
    """Return a moment as the server writes it."""
    return moment.astimezone(datetime.UTC).isoformat(timespec="milliseconds")
