"""What a reading of several rows tells of a call that was to create them: decided here, without waiting."""

from __future__ import annotations

import datetime
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from booking_resilience.appwrite.comparison import holds
from booking_resilience.appwrite.conflicts import RowConflictError, SlotTakenError
from booking_resilience.appwrite.new_rows import NewRow, SlotRow
from booking_resilience.appwrite.once import check_new, check_place, compared
from booking_resilience.appwrite.rows import Row
from booking_resilience.checks import check, check_type

MOST_ROWS: Final = 100
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,35}")
_ID_RULE: Final = "1 to 36 of a-z, A-Z, 0-9, period, hyphen and underscore, a letter or digit first"


@dataclass(frozen=True, slots=True)
class Findings:
    """How the rows of a call stand.

    Attributes:
        ours: The rows that are there as they were sent, with what is stored.
        absent: Those that aren't there.
        foreign: Those whose place another's row has, with that row.
        unclear: Those that are there, while nothing in them can be compared.
    """

    ours: tuple[tuple[NewRow, Row], ...] = ()
    absent: tuple[NewRow, ...] = ()
    foreign: tuple[tuple[NewRow, Row], ...] = ()
    unclear: tuple[NewRow, ...] = ()

    @property
    def is_whole(self) -> bool:
        """Whether every row is ours."""
        return not (self.absent or self.foreign or self.unclear)

    @property
    def is_torn(self) -> bool:
        """Whether some are ours and others absent, and nothing else is in the way."""
        return bool(self.ours and self.absent) and not (self.foreign or self.unclear)

    def rows(self) -> list[Row]:
        """Return the stored rows that are ours, in the order of the call."""
        return [row for _, row in self.ours]

    def stored_since(self, moment: datetime.datetime | None) -> list[NewRow]:
        """Return those of ours that were stored at this moment or later; none if it is None."""
        return [
            new
            for new, row in self.ours
            if moment is not None and row.created_at is not None and row.created_at >= moment
        ]

    def conflict(self) -> Exception:
        """Return the error that names the first row whose place another has."""
        new, row = self.foreign[0]
        if isinstance(new, SlotRow):
            return SlotTakenError(new.resource_id, new.start)
        return RowConflictError(new.row_id, row)


def findings_of(
    rows: Sequence[NewRow], stored: Mapping[tuple[str, str], Mapping[str, Row]], compare: Collection[str] | None
) -> Findings:
    """Tell how the rows of a call stand.

    Args:
        rows: The rows, in the order of the call.
        stored: What was read: of each database and table, the rows by ID.
        compare: The columns that tell that a row is ours; None for all that are sent.
    """
    ours: list[tuple[NewRow, Row]] = []
    absent: list[NewRow] = []
    foreign: list[tuple[NewRow, Row]] = []
    unclear: list[NewRow] = []
    for new in rows:
        row = stored[new.database_id, new.table_id].get(new.row_id)
        if row is None:
            absent.append(new)
            continue
        is_ours = holds(row, compared(staged_data(new), compare))
        if is_ours is None:
            unclear.append(new)
        elif is_ours:
            ours.append((new, row))
        else:
            foreign.append((new, row))
    return Findings(tuple(ours), tuple(absent), tuple(foreign), tuple(unclear))


def staged_data(row: NewRow) -> dict[str, object]:
    """Return the columns of a row that a transaction stores: none of the system's."""
    return {name: value for name, value in row.data.items() if name[:1] != "$"}


def staging_order(rows: Sequence[NewRow]) -> list[NewRow]:
    """Return the rows in the one order in which every call stages them, so that two calls don't wait for each other.

    By database and table. Slot rows are in the order of their IDs; the others stay as given, since they are stored in
    the order of staging.
    """
    return sorted(rows, key=lambda row: (row.database_id, row.table_id, row.row_id if isinstance(row, SlotRow) else ""))


def checked_rows(rows: Sequence[NewRow]) -> list[NewRow]:
    """Return the rows, checked.

    Raises:
        TypeError: If they aren't rows.
        ValueError: If there are none or too many, or an ID is not one's own or there twice.
    """
    is_many = isinstance(rows, Sequence) and not isinstance(rows, (str, bytes))
    check_type("rows", rows, is_many, "a sequence of NewRow")
    for row in rows:
        check_type("rows", row, isinstance(row, NewRow), "a sequence of NewRow")
        check_place(row.database_id, row.table_id, row.row_id)
        check("row_id", row.row_id, _ID.fullmatch(row.row_id) is not None, _ID_RULE)  # staging would take any
        check_new(row.data, row.permissions)
    check("the number of rows", len(rows), 1 <= len(rows) <= MOST_ROWS, f"1 to {MOST_ROWS}")
    seen = set[tuple[str, str, str]]()
    for row in rows:
        place = (row.database_id, row.table_id, row.row_id.lower())  # the server compares IDs without regard to case
        check("row_id", row.row_id, place not in seen, "unique in its table, regardless of case")
        seen.add(place)
    return list(rows)
