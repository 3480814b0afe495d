"""Creating a row exactly once, also when the answer to a write that succeeded got lost.

The ID is the caller's and the same in all attempts, so a repeated write cannot make a second row. What is left is to
know whether the row that is there is ours. A 409 proves nothing: a unique index answers it as well as a taken ID does,
and the server repeats writes by itself. So after a 409, or when it is open whether an attempt was carried out, the row
is read and compared before anything is said.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from booking_resilience.appwrite.calls import ASYNC, SYNC, check_colour, run_now
from booking_resilience.appwrite.classify import is_backend_failure, is_no_evidence, is_transient
from booking_resilience.appwrite.comparison import holds
from booking_resilience.appwrite.conflicts import RowConflictError
from booking_resilience.appwrite.once import OnceRow, check_compare, check_new, check_place, compared
from booking_resilience.appwrite.rows import Row
from booking_resilience.breaker import CircuitBreaker
from booking_resilience.pipeline import Pipeline
from booking_resilience.retry import RetryPolicy


def appwrite_retry(**changes: Any) -> RetryPolicy:
    """Return the policy for calls to Appwrite: the default one, but it retries what `classify` calls transient.

    `attempt_timeout` is 1 second, so that a call that hangs is tried again within the 4 seconds of the operation.

    Args:
        changes: Settings of `RetryPolicy` to change.

    >>> appwrite_retry(max_attempts=5).attempt_timeout
    1.0
    """
    return RetryPolicy(**{"attempt_timeout": 1.0, "retry_on": is_transient, **changes})


def appwrite_breaker(name: str = "appwrite", **changes: Any) -> CircuitBreaker:
    """Return a breaker for calls to Appwrite.

    Failures are: no answer, none that can be read, a timeout (408 included) and a 5xx. A 429 says nothing of the
    backend's health, nor does a mistake that never left this program. Any other answer is a success.

    Args:
        name: Its name.
        changes: Settings of `CircuitBreaker` to change.

    >>> appwrite_breaker(cooldown=10.0).name
    'appwrite'
    """
    return CircuitBreaker(name, **{"failure_on": is_backend_failure, "ignore": is_no_evidence, **changes})


def create_row_once(
    tables: Any,
    *,
    database_id: str,
    table_id: str,
    row_id: str,
    data: Mapping[str, Any],
    permissions: Sequence[str] | None = None,
    pipeline: Pipeline,
    operation: str,
    compare: Collection[str] | None = None,
) -> Row:
    """Create a row; trying again never makes a second one, nor takes another's row for this one.

    It never looks before it creates (the server remembers that there was nothing). The whole, reading included, ends
    within the deadline of the pipeline's policy; an eighth of it, half a second at most, is kept for the reading.

    Args:
        tables: The SDK's `TablesDB`, or the older `Databases`, of a synchronous client.
        database_id: The database's ID.
        table_id: The table's (or collection's) ID.
        row_id: The row's ID, made before the first attempt: 1 to 36 of a-z, A-Z, 0-9, period, hyphen, underscore,
            but not `unique()`.
        data: The row.
        permissions: The row's permissions, or None.
        pipeline: How to call: each attempt to create passes through its limit, rate and breaker, the reading does
            not; hedge, timeout and fallback take no part.
        operation: The operation's name, for events, logs and records.
        compare: The columns that tell that a stored row is the one that was sent; None for all that are sent.

    Returns:
        The row as it is stored.

    Raises:
        RowConflictError: If the row of that ID is another's.
        AppwriteException: If the row could not be created; a 409 says that a unique index is in the way. If it is open
            whether the row is there, because it could not be read either, or nothing in it can be compared, the error
            of the attempt that left it open comes out, whatever came later; a mere 409 is then transient to
            `classify`, since the same call may find out. `outcome_unknown` tells.
        CircuitOpenError: If the breaker refused.
        ValueError: If the ID is empty or `unique()`, or a column to compare isn't sent.
        TypeError: If an argument is of the wrong type, or `tables` isn't such a service; nothing was sent.
    """
    check_colour(tables, is_async=False, called="create_row_once", instead="create_row_once_async")
    creation = Creation(tables, (database_id, table_id, row_id), data, permissions, pipeline, operation, compare)
    return run_now(lambda: creation.run(SYNC))


async def create_row_once_async(
    tables: Any,
    *,
    database_id: str,
    table_id: str,
    row_id: str,
    data: Mapping[str, Any],
    permissions: Sequence[str] | None = None,
    pipeline: Pipeline,
    operation: str,
    compare: Collection[str] | None = None,
) -> Row:
    """Do the same as `create_row_once` with a service of an `AsyncAppwriteClient`, under asyncio or trio.

    Arguments, result and errors are those of `create_row_once`. A call that is cancelled may have been carried out;
    the same call with the same ID finds out.
    """
    check_colour(tables, is_async=True, called="create_row_once_async", instead="create_row_once")
    creation = Creation(tables, (database_id, table_id, row_id), data, permissions, pipeline, operation, compare)
    return await creation.run(ASYNC)


class Creation(OnceRow[Row]):
    """One row on its way, in either colour; for one call."""

    def __init__(
        self,
        tables: Any,
        place: tuple[str, str, str],
        data: Mapping[str, Any],
        permissions: Sequence[str] | None,
        pipeline: Pipeline,
        operation: str,
        compare: Collection[str] | None = None,
    ) -> None:
        check_place(*place)
        check_new(data, permissions)
        super().__init__(tables, place, pipeline, operation)
        self._data, self._permissions = dict(data), permissions
        self._told = compared(self._data, check_compare(compare, self._data))

    async def attempt(self) -> Row:
        """Create the row."""
        call = self.store.create(*self._place, self._data, self._permissions)
        return await self.colour.guarded(self.pipeline, lambda: self.colour.ask(call))

    def judge(self, row: Row | None, failure: Exception) -> Row | Exception:
        """Return the row if it is ours, else what to raise."""
        if row is None:
            self.doubts.is_open = self.doubts.unanswered is not None
            return failure
        is_ours = holds(row, self._told)
        if is_ours is None:
            return self.left_open(failure, "nothing in the stored row can be compared")
        return row if is_ours else RowConflictError(self._place[2], row)
