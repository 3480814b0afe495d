"""Changing a row exactly once, and never over somebody else's change: optimistic locking.

The change is guarded by the moment of the row's last change, so of many callers who know the same state one wins. A
repeat after a lost answer is refused by its own change; the reading then finds it.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

from booking_resilience.appwrite.calls import ASYNC, SYNC, check_colour, run_now
from booking_resilience.appwrite.comparison import MOMENTS, holds, is_compared
from booking_resilience.appwrite.conflicts import RowConflictError
from booking_resilience.appwrite.once import OnceRow, check_new, check_place
from booking_resilience.appwrite.rows import Row
from booking_resilience.checks import check, check_type
from booking_resilience.pipeline import Pipeline


def update_row_once(
    tables: Any,
    *,
    database_id: str,
    table_id: str,
    row_id: str,
    data: Mapping[str, Any],
    expected: Row | Mapping[str, Any],
    pipeline: Pipeline,
    operation: str,
) -> Row:
    """Change a row that still is as expected; trying again never changes it twice, nor over another's change.

    Of many callers with the same `expected` one succeeds. `data` holds absolute values, something of the caller's own
    among them: equal changes can't be told apart, and all of their callers succeed. A change within the millisecond in
    which `expected` was stored is not seen, since the server's moments have no finer parts.

    Args:
        tables: The SDK's `TablesDB`, or the older `Databases`, of a synchronous client.
        database_id: The database's ID.
        table_id: The table's (or collection's) ID.
        row_id: The row's ID.
        data: The columns to change, with their new values; at least one.
        expected: The row as it was read before, or columns that must still have these values; then it is read now. Of
            the system's columns `$createdAt` and `$updatedAt` are compared.
        pipeline: How to call: each attempt passes through its limit, rate and breaker.
        operation: The operation's name, for events, logs and records.

    Returns:
        The row as it is stored.

    Raises:
        RowConflictError: If the row is not as expected, with what was found: None if it is gone.
        AppwriteException: If it could not be changed; `outcome_unknown` tells whether it may be all the same.
        CircuitOpenError: If the breaker rejected.
        ValueError: If `data` is empty, or `expected` is another row, does not say when it was changed, or has no
            column that is compared.
        TypeError: If an argument is of the wrong type; nothing was sent.
    """
    check_colour(tables, is_async=False, called="update_row_once", instead="update_row_once_async")
    update = Update(tables, (database_id, table_id, row_id), data, expected, pipeline, operation)
    return run_now(lambda: update.run(SYNC))


async def update_row_once_async(
    tables: Any,
    *,
    database_id: str,
    table_id: str,
    row_id: str,
    data: Mapping[str, Any],
    expected: Row | Mapping[str, Any],
    pipeline: Pipeline,
    operation: str,
) -> Row:
    """Do the same as `update_row_once` with a service of an `AsyncAppwriteClient`, under asyncio or trio.

    Arguments, result and errors are those of `update_row_once`. A call that is cancelled may have been carried out;
    the same call finds out.
    """
    check_colour(tables, is_async=True, called="update_row_once_async", instead="update_row_once")
    return await Update(tables, (database_id, table_id, row_id), data, expected, pipeline, operation).run(ASYNC)


class Update(OnceRow[Row]):
    """One change on its way, in either colour; for one call."""

    def __init__(
        self,
        tables: Any,
        place: tuple[str, str, str],
        data: Mapping[str, Any],
        expected: Row | Mapping[str, Any],
        pipeline: Pipeline,
        operation: str,
    ) -> None:
        check_place(*place)
        check_new(data)
        check("data", data, bool(data), "one column or more")
        check_expected(expected, place[2])
        super().__init__(tables, place, pipeline, operation)
        self._data, self._expected = dict(data), expected
        self._since: datetime.datetime | None = None
        self._attempts = 0
        self._first_sent: int | None = None  # the number of the attempt that was the first to send the change
        if isinstance(expected, Row):
            check("expected", expected, expected.updated_at is not None, "a row that says when it was changed")
            self._since = expected.updated_at

    async def attempt(self) -> Row:
        """Change the row."""
        self._attempts += 1
        return await self.colour.guarded(self.pipeline, self._change)

    def note(self, failure: Exception) -> None:
        """Take in how the attempts failed that sent the change; a reading before it leaves nothing open."""
        if self._first_sent is not None:
            self.doubts.note_all(failure, self._first_sent)

    def judge(self, row: Row | None, failure: Exception) -> Row | Exception:
        """Return the row if it has our change, else what to raise."""
        is_ours = None if row is None else holds(row, self._data)
        if row is not None and is_ours:
            return row
        if row is not None and is_ours is None:
            return self.left_open(failure, "nothing in the stored row can be compared")
        if self._is_as_known(row) and not self._was_refused():
            self.doubts.is_open = self.doubts.unanswered is not None
            return failure
        # our change may have been stored, and another's over it
        self.doubts.is_open = self.doubts.ambiguous is not None
        return RowConflictError(self._place[2], row)

    async def _change(self) -> Row:
        if self._since is None:
            row = await self.colour.ask(self.store.find(*self._place))
            if row is not None and holds(row, self._data) and not is_as_expected(row, self._expected):
                return row  # an earlier call's change, whose answer was lost
            if row is None or row.updated_at is None or not is_as_expected(row, self._expected):
                raise RowConflictError(self._place[2], row)
            self._since = row.updated_at
        if self._first_sent is None:
            self._first_sent = self._attempts
        return await self.colour.ask(self.store.update(*self._place, self._data, self._since))

    def _is_as_known(self, row: Row | None) -> bool:
        """Tell whether nobody has changed the row."""
        return row is not None and self._since is not None and row.updated_at == self._since

    def _was_refused(self) -> bool:
        """Tell whether the server refused the change because the row is not as expected."""
        kind = getattr(self.doubts.conflict, "type", None)
        return isinstance(kind, str) and kind.endswith("_update_conflict")


def check_expected(expected: object, row_id: str) -> None:
    """Check what a row is expected to be.

    Raises:
        TypeError: If it is neither a row nor a mapping.
        ValueError: If it is another row, or a mapping without a column that is compared.
    """
    check_type("expected", expected, isinstance(expected, (Row, Mapping)), "a Row or a mapping of columns")
    if isinstance(expected, Row):
        check("expected", expected, expected.id == row_id, f"the row {str(row_id)!r}")
    elif isinstance(expected, Mapping):
        has_column = any(is_compared(name, MOMENTS) for name in expected)
        check("expected", expected, has_column, "one column or more")


def is_as_expected(row: Row, expected: Row | Mapping[str, Any]) -> bool:
    """Tell whether a stored row still is as expected: not changed since, or with these values in its columns."""
    if not isinstance(expected, Row):
        return bool(holds(row, expected, MOMENTS))
    if expected.updated_at is not None:
        return row.updated_at == expected.updated_at
    return bool(holds(row, expected.data))
