"""The conflicts that the `*_once` functions raise.

::

    AppwriteException          the SDK's
    ├── RowConflictError       a row isn't what the caller takes it for
    └── SlotTakenError         a time is somebody else's
"""

from __future__ import annotations

import datetime
from typing import Any, Final

from booking_resilience.appwrite.rows import Row
from booking_resilience.appwrite.sdk import AppwriteException

_CONFLICT: Final = 409


class RowConflictError(AppwriteException):
    """A row doesn't hold what the caller expects. Never transient, no failure of the backend.

    Its `code` is 409. It can be pickled.

    Args:
        row_id: The row's ID, the very object that the caller gave.
        found: The row as it is stored; None if there is none any more.
    """

    def __init__(self, row_id: str, found: Row | None) -> None:
        what = "is gone" if found is None else "holds something else"
        super().__init__(f"row {str(row_id)!r} {what}", _CONFLICT, "row_conflict")
        self.row_id = row_id
        self.found = found

    def __reduce__(self) -> tuple[type[RowConflictError], tuple[Any, ...], dict[str, Any]]:
        return type(self), (self.row_id, self.found), self.__dict__


class SlotTakenError(AppwriteException):
    """A time that a booking needs is somebody else's. Never transient, no failure of the backend.

    Its `code` is 409. It can be pickled.

    Args:
        resource_id: Whose time it is: the ID of a therapist, for example.
        start: When the step begins that is taken.
    """

    def __init__(self, resource_id: str, start: datetime.datetime) -> None:
        moment = start.isoformat() if isinstance(start, datetime.datetime) else start
        super().__init__(f"the time of {str(resource_id)!r} at {moment} is taken", _CONFLICT, "slot_taken")
        self.resource_id = resource_id
        self.start = start

    def __reduce__(self) -> tuple[type[SlotTakenError], tuple[Any, ...], dict[str, Any]]:
        return type(self), (self.resource_id, self.start), self.__dict__
