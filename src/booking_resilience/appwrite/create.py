"""Creating a row exactly once, also when the answer to a write that succeeded got lost.

The ID is the caller's and the same in all attempts, so a repeated write cannot make a second row. What is left is to
know whether the row that is there is ours. A 409 proves nothing: a unique index answers it as well as a taken ID does,
and the server repeats writes by itself. So after a 409, or when it is open whether an attempt was carried out, the row
is read and compared before anything is said.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any, Final

from booking_resilience.appwrite.calls import ASYNC, SYNC, Colour, check_colour, run_now
from booking_resilience.appwrite.classify import is_backend_failure, is_no_evidence, is_transient
from booking_resilience.appwrite.comparison import holds
from booking_resilience.appwrite.doubts import Doubts
from booking_resilience.appwrite.endings import Ending
from booking_resilience.appwrite.rows import Row, RowStore
from booking_resilience.breaker import CircuitBreaker
from booking_resilience.checks import check, check_type
from booking_resilience.deadlines import deadline, remaining_time
from booking_resilience.pipeline import Pipeline
from booking_resilience.retry import RetryPolicy
from booking_resilience.retry.plan import Plan

logger: logging.Logger = logging.getLogger("booking_resilience.appwrite")

_RESERVE: Final = 0.5
_RESERVED_SHARE: Final = 1 / 8


def appwrite_retry(**changes: Any) -> RetryPolicy:
    """Return the policy for calls to Appwrite: the default one, but it retries what `classify` calls transient.

    `attempt_timeout` is 1 second, so that a call that hangs is tried again within the 4 seconds of the operation.

    Args:
        changes: Settings of `RetryPolicy` to have otherwise.

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
        changes: Settings of `CircuitBreaker` to have otherwise.

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
) -> Row:
    """Create a row; trying again never makes a second one, nor takes another's row for this one.

    It never looks before it creates (the server remembers that there was nothing). The whole, reading included, ends
    within the deadline of the pipeline's policy; an eighth of it, half a second at most, is kept for the reading.

    Args:
        tables: The SDK's `TablesDB`, or the older `Databases`, of a synchronous client.
        database_id: The database's ID.
        table_id: The table's (or collection's) ID.
        row_id: The row's ID, made before the first attempt: 1 to 36 of a-z, A-Z, 0-9, period, hyphen, underscore, and
            no `unique()`.
        data: The row.
        permissions: The row's permissions, or None.
        pipeline: How to call: each attempt to create passes through its breaker, the reading does not.
        operation: The operation's name, for events, logs and records.

    Returns:
        The row as it is stored.

    Raises:
        AppwriteException: If the row could not be created. If it is open whether it is there, because it could not be
            read either, or nothing in it can be compared, the error of the attempt that left it open comes out,
            whatever came later; a mere 409 is then transient to `classify`, since the same call may find out.
        CircuitOpenError: If the breaker refused.
        ValueError: If the ID is empty or `unique()`.
        TypeError: If the ID is no string, or `tables` is no such service; nothing was sent.
    """
    check_colour(tables, is_async=False, called="create_row_once", instead="create_row_once_async")
    creation = Creation(tables, (database_id, table_id, row_id), data, permissions, pipeline, operation)
    return run_now(creation.run(SYNC))


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
) -> Row:
    """Do as `create_row_once` with a service of an `AsyncAppwriteClient`, under asyncio or trio.

    A call that is cancelled may have been carried out; the same call with the same ID finds out.
    """
    check_colour(tables, is_async=True, called="create_row_once_async", instead="create_row_once")
    creation = Creation(tables, (database_id, table_id, row_id), data, permissions, pipeline, operation)
    return await creation.run(ASYNC)


class Creation:
    """One row on its way, in either colour; for one call."""

    def __init__(
        self,
        tables: Any,
        place: tuple[str, str, str],
        data: Mapping[str, Any],
        permissions: Sequence[str] | None,
        pipeline: Pipeline,
        operation: str,
    ) -> None:
        row_id = place[2]
        check_type("row_id", row_id, isinstance(row_id, str), "a string")
        check("row_id", row_id, row_id not in ("", "unique()"), "an ID of your own, the same in all attempts")
        check_type("data", data, isinstance(data, Mapping), "a mapping")
        check_type("pipeline", pipeline, isinstance(pipeline, Pipeline), "a Pipeline")
        check_type("operation", operation, isinstance(operation, str), "a string")
        self._store, self._place, self._data, self._permissions = RowStore(tables), place, dict(data), permissions
        self._pipeline, self._operation = pipeline, operation
        self._doubts = Doubts(operation)
        self._ending = Ending(pipeline)

    async def run(self, colour: Colour) -> Row:
        """Create the row within the time that there is, and read it if that left doubts."""
        left, limit = remaining_time(), self._pipeline.retry.deadline
        total = limit if left is None or (limit is not None and limit < left) else left
        try:
            with nullcontext() if total is None else deadline(total):
                return await self._create(colour, total)
        finally:
            self._doubts.let_go()
            self._ending.let_go()

    async def _create(self, colour: Colour, total: float | None) -> Row:
        policy = self._pipeline.retry
        if total is not None:
            kept = min(_RESERVE, total * _RESERVED_SHARE)
            policy = dataclasses.replace(policy, deadline=max(total - kept, 0.001))
        plan = dataclasses.replace(self._pipeline._plan, policy=policy, operation=self._operation)
        plan = dataclasses.replace(plan, listener=self._ending.take, is_logged=False)
        call = self._store.create(*self._place, self._data, self._permissions)
        try:
            row = await colour.attempts(plan, self._pipeline.breaker, call)
        except Exception as error:
            self._doubts.note_all(error)
            if not self._doubts.are_there:
                self._ending.tell()
                raise
            failure = error
        else:
            self._ending.tell()
            return row
        try:
            return await self._settle(colour, failure)
        finally:
            del failure  # its traceback leads back to this frame

    async def _settle(self, colour: Colour, failure: Exception) -> Row:
        """Read the row, and say what became of the attempts."""
        policy = dataclasses.replace(self._pipeline.retry, retry_on=is_transient, retry_on_result=None)
        plan = Plan(policy, f"{self._operation}: verify")
        outcome = failure
        try:
            row = await colour.attempts(plan, None, self._store.find(*self._place))
        except Exception as error:  # noqa: BLE001 - whatever it was: what is not known stays open
            logger.warning("%s: it is open whether the row is stored (%s)", self._operation, type(error).__name__)
            outcome = self._doubts.open_error(failure)
        else:
            is_ours = row is not None and holds(row, self._data)
            if row is not None and is_ours:
                logger.info("%s: an earlier attempt had stored the row", self._operation)
                self._ending.tell(recovered=True)
                return row
            if is_ours is None:
                logger.warning("%s: it is open whose the stored row is: nothing in it can be compared", self._operation)
                outcome = self._doubts.open_error(failure)
        self._ending.tell(outcome)
        try:
            raise outcome
        finally:
            del outcome, failure
