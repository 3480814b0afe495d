"""Rows that are to be created, as values: `NewRow`, and each `SlotRow` of the times that a booking takes."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from booking_resilience.checks import check, check_text, check_type

SLOT_TABLE: Final[Mapping[str, Any]] = {
    "slots": {
        "columns": {
            "resource": {"type": "varchar", "size": 64, "required": True},
            "start": {"type": "datetime", "required": True},
            "holder": {"type": "varchar", "size": 64, "required": True},
        },
        "indexes": {"by_holder": ["holder"]},
    },
}
"""Columns and indexes of the table of slots, as those of `CHAT_TABLES`."""

MOST_SLOTS: Final = 96
_EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


@dataclass(frozen=True, slots=True)
class NewRow:
    """A row that is to be created.

    Attributes:
        database_id: The database's ID.
        table_id: The table's (or collection's) ID.
        row_id: The row's ID, made before the first attempt.
        data: The row.
        permissions: The row's permissions, or None.
    """

    database_id: str
    table_id: str
    row_id: str
    data: Mapping[str, Any]
    permissions: Sequence[str] | None = None


@dataclass(frozen=True, slots=True)
class SlotRow(NewRow):
    """The row that claims one step of a resource's time; made by `time_slots`."""

    @property
    def resource_id(self) -> str:
        """Whose time it is."""
        return str(self.data["resource"])

    @property
    def start(self) -> datetime.datetime:
        """When the step begins, aware UTC."""
        return datetime.datetime.fromisoformat(self.data["start"])


def time_slots(
    *,
    database_id: str,
    table_id: str = "slots",
    resource_id: str,
    holder: str,
    start: datetime.datetime,
    end: datetime.datetime,
    step: datetime.timedelta = datetime.timedelta(minutes=15),
) -> list[SlotRow]:
    """Return a row for each step of a resource's time that [start, end) touches. Pure.

    The ID of a row follows from resource and step alone, so that two bookings that touch one step want the same row,
    and `create_rows_once` gives it to one of them. Steps count from 1970-01-01 00:00 UTC. A resource has one step size,
    for ever: rows of different sizes don't see each other.

    Args:
        database_id: The database's ID.
        table_id: The ID of the table of slots; `SLOT_TABLE` describes it.
        resource_id: Whose time it is, such as a therapist's ID; 64 characters at most, as that table has it.
        holder: Whom the time is for, the booking's ID.
        start: When it begins, aware.
        end: When it ends, aware; after `start`. The step that begins then is not touched.
        step: The size of a step; above 0, a whole number of milliseconds.

    Returns:
        The rows in the order of time; at most 96, which is a day in quarters of an hour.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If a moment has no time zone, `end` is not after `start`, or there would be more than 96 rows.

    >>> nine = datetime.datetime(2026, 12, 1, 9, tzinfo=datetime.UTC)
    >>> hour = datetime.timedelta(hours=1)
    >>> len(time_slots(database_id="clinic", resource_id="t-1", holder="b-1", start=nine, end=nine + hour))
    4
    """
    named = (("database_id", database_id), ("table_id", table_id), ("resource_id", resource_id), ("holder", holder))
    for name, value in named:
        check_text(name, value)
    for name, moment in (("start", start), ("end", end)):
        check_type(name, moment, isinstance(moment, datetime.datetime), "a datetime")
        check(name, moment, moment.utcoffset() is not None, "a moment with a time zone")
    check_type("step", step, isinstance(step, datetime.timedelta), "a timedelta")
    milliseconds, rest = divmod(step, datetime.timedelta(milliseconds=1))
    check("step", step, milliseconds > 0 and not rest, "a whole number of milliseconds above 0")
    since, until = start - _EPOCH, end - _EPOCH  # in UTC: moments of one zone compare by what its clocks show
    check("end", end, until > since, f"after start ({start.isoformat()})")
    first, last = since // step, -(-until // step)  # rounded down, and up
    allowed = f"within {MOST_SLOTS} steps of start ({start.isoformat()})"
    check("end", end, last - first <= MOST_SLOTS, allowed)
    return [_slot(database_id, table_id, resource_id, holder, _EPOCH + number * step) for number in range(first, last)]


def _slot(database_id: str, table_id: str, resource_id: str, holder: str, start: datetime.datetime) -> SlotRow:
    moment = start.isoformat(timespec="milliseconds")
    row_id = "s-" + hashlib.sha256(f"{resource_id}\0{moment}".encode()).hexdigest()[:34]
    return SlotRow(database_id, table_id, row_id, {"resource": resource_id, "start": moment, "holder": holder})
