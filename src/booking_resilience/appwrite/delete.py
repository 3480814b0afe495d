"""Deleting a row exactly once: of many callers, one gets True.

A plain DELETE tells several callers that they did it. A deletion that is staged in a transaction does not, so this is
what is used where the server has transactions.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from booking_resilience.appwrite.calls import ASYNC, SYNC, Call, check_colour, run_now
from booking_resilience.appwrite.classify import classify
from booking_resilience.appwrite.conflicts import RowConflictError
from booking_resilience.appwrite.evidence import Evidence
from booking_resilience.appwrite.failures import AppwriteCallError
from booking_resilience.appwrite.once import OnceRow, check_place
from booking_resilience.appwrite.rows import MISSING, Row
from booking_resilience.appwrite.transactions import Begun, Transactions, are_missing, may_begin_anew
from booking_resilience.appwrite.update import check_expected, is_as_expected
from booking_resilience.pipeline import Pipeline
from booking_resilience.retry.policy import RetryPolicy


def delete_row_once(
    tables: Any,
    *,
    database_id: str,
    table_id: str,
    row_id: str,
    expected: Row | Mapping[str, Any] | None = None,
    pipeline: Pipeline,
    operation: str,
) -> bool:
    """Delete a row, and tell whether this call did it.

    Of many callers one gets True, as long as no answer is lost. Where the server has no transactions, several may
    get it. The commit has what is left of the deadline, `attempt_timeout` bounds the other requests.

    Args:
        tables: The SDK's `TablesDB`, or the older `Databases`, of a synchronous client.
        database_id: The database's ID.
        table_id: The table's (or collection's) ID.
        row_id: The row's ID.
        expected: The row as it was read before, or columns that must still have these values; None for any: the server
            then decides which row has the ID, and it disregards case.
        pipeline: How to call: each attempt passes through its limit, rate and breaker.
        operation: The operation's name, for events, logs and records.

    Returns:
        False if the row was not there, and no attempt of this call can have deleted it.

    Raises:
        RowConflictError: If the row is not as expected, with what was found.
        AppwriteException: If it could not be deleted; `outcome_unknown` tells whether it may be all the same.
        CircuitOpenError: If the breaker rejected.
        ValueError: If `expected` is another row, or has no column that is compared.
        TypeError: If an argument is of the wrong type; nothing was sent.
    """
    check_colour(tables, is_async=False, called="delete_row_once", instead="delete_row_once_async")
    deletion = Deletion(tables, (database_id, table_id, row_id), expected, pipeline, operation)
    return run_now(lambda: deletion.run(SYNC))


async def delete_row_once_async(
    tables: Any,
    *,
    database_id: str,
    table_id: str,
    row_id: str,
    expected: Row | Mapping[str, Any] | None = None,
    pipeline: Pipeline,
    operation: str,
) -> bool:
    """Do the same as `delete_row_once` with a service of an `AsyncAppwriteClient`, under asyncio or trio.

    Arguments, result and errors are those of `delete_row_once`. A call that is cancelled may have been carried out.
    """
    check_colour(tables, is_async=True, called="delete_row_once_async", instead="delete_row_once")
    return await Deletion(tables, (database_id, table_id, row_id), expected, pipeline, operation).run(ASYNC)


class Deletion(OnceRow[bool]):
    """One deletion on its way, in either colour; for one call."""

    def __init__(
        self,
        tables: Any,
        place: tuple[str, str, str],
        expected: Row | Mapping[str, Any] | None,
        pipeline: Pipeline,
        operation: str,
    ) -> None:
        check_place(*place)
        if expected is not None:
            check_expected(expected, place[2])
        super().__init__(tables, place, pipeline, operation)
        self._expected = expected
        self._transactions: Transactions | None = Transactions(tables)
        self._seen: Row | None = None  # the row as it was read last
        self._begun: Begun | None = None  # the transaction whose commit was sent last
        self._is_unread = self._is_under_way = False
        self._may_be_done = False  # a request that deletes succeeded, or nobody knows what became of it
        self._was_refused = False  # for a conflict: such a commit has been seen to be carried out all the same

    def policy(self, policy: RetryPolicy) -> RetryPolicy:
        """Return the policy of the attempts: what may be tried anew is, and the commit has no limit of its own."""
        given = self.pipeline.retry

        def retry_on(error: BaseException) -> bool:
            return not isinstance(error, RowConflictError) and (may_begin_anew(error) or given.passes(error))

        return dataclasses.replace(policy, retry_on=retry_on, retry_on_result=None, attempt_timeout=None)

    def note(self, failure: Exception) -> None:
        """Take in a deletion that was cut off; the others were noted when they failed."""
        if self._is_under_way:
            self.doubts.note(failure)
            self.doubts.ambiguous = self.doubts.unanswered = failure
            self._may_be_done = True

    def has_doubts(self) -> bool:
        """Tell whether the row has to be read again before anything is said."""
        return self._is_unread or self.doubts.unanswered is not None

    def judge(self, row: Row | None, failure: Exception) -> bool | Exception:
        """Tell of a row that is gone whether we can have removed it; else return what to raise."""
        if row is None:
            return self._may_be_done or self._was_refused
        self.doubts.is_open = self.doubts.unanswered is not None
        return failure

    async def attempt(self) -> bool:
        """Make an attempt: the deletion through the breaker, and a reading beside it."""
        if self._is_unread and (done := await self._look()) is not None:
            return done
        failure: Exception | None = None
        try:
            await self.colour.guarded(self.pipeline, self._delete)
            if not self._is_unread:  # there was no row, so nothing was sent; one that is there by now is another
                return self._may_be_done or self._was_refused
        except RowConflictError:
            raise
        except Exception as error:
            if not self._is_unread:
                raise
            failure = error
        try:
            if (done := await self._look()) is not None:
                return done
            if failure is not None and self._expected is not None:
                self._compare(self._seen)
            raise failure or _still_there()
        finally:
            del failure

    async def _look(self) -> bool | None:
        """Read the row; return what to say, None if it is still there."""
        row = await self.read(self.store.find(*self._place))
        self._is_unread, self._seen = False, row
        if row is None:
            return self._may_be_done or self._was_refused
        return True if self._was_made_anew(row) else None

    async def _delete(self) -> None:
        limit = self.pipeline.retry.attempt_timeout
        if self._transactions is not None:
            begun = await self._begin(self._transactions, limit)
            if begun is not None:
                await self._in_transaction(self._transactions, begun, limit)
                return
            self._transactions = None
        if await self._is_to_go(limit):
            since = None if self._expected is None or self._seen is None else self._seen.updated_at
            await self._send(self.store.delete(*self._place, unchanged_since=since), limit)

    async def _begin(self, transactions: Transactions, limit: float | None) -> Begun | None:
        try:
            return await self.colour.ask(transactions.begin(), limit)
        except Exception as error:
            if not are_missing(error):
                raise
            return None

    async def _in_transaction(self, transactions: Transactions, begun: Begun, limit: float | None) -> None:
        try:
            await self.colour.ask(transactions.stage(begun, [transactions.deletion(*self._place)]), limit)
        except Exception as error:
            self._is_unread = self._is_unread or classify(error).type in MISSING  # it may come from a cache
            raise
        if await self._is_to_go(limit):  # asked between staging and commit: what changes later, the commit refuses
            self._begun = begun
            await self._send(transactions.commit(begun), None)

    async def _is_to_go(self, limit: float | None) -> bool:
        """Compare the row with what is expected; tell whether there is one to delete.

        The server would delete one whose ID differs in case, too, and here that is another row.
        """
        if self._expected is None:
            return True
        self._seen = await self.colour.ask(self.store.find(*self._place), limit)
        self._compare(self._seen)
        return self._seen is not None

    def _compare(self, row: Row | None) -> None:
        """Compare a row with what is expected.

        Raises:
            RowConflictError: If it is there, and not as expected.
        """
        if row is not None and self._expected is not None and not is_as_expected(row, self._expected):
            self.doubts.is_open = self.doubts.ambiguous is not None and not self._is_the_same(row)
            raise RowConflictError(self._place[2], row)

    async def _send(self, call: Call[bool], limit: float | None) -> None:
        """Send the request that deletes."""
        self._is_unread = self._is_under_way = True
        try:
            done = await self.colour.ask(call, limit)
        except Exception as error:
            self._is_under_way = False
            left_open = self.doubts.note(error)
            self._may_be_done = self._may_be_done or left_open
            self._was_refused = self._was_refused or may_begin_anew(error)
            raise
        self._is_under_way = False
        self._may_be_done = self._may_be_done or bool(done)

    def _was_made_anew(self, row: Row) -> bool:
        """Tell whether a row that is there is another one, stored after ours was deleted."""
        begun = None if self._begun is None else self._begun.created_at
        return self._may_be_done and begun is not None and row.created_at is not None and row.created_at > begun

    def _is_the_same(self, row: Row) -> bool:
        """Tell whether a row is the very one that was expected, whatever has been changed in it."""
        expected = self._expected.created_at if isinstance(self._expected, Row) else None
        return expected is not None and row.created_at == expected


def _still_there() -> AppwriteCallError:
    """Return the error of a deletion that was reported as successful, though the row is still there."""
    return AppwriteCallError(
        "the server reported the row as deleted, but it is still there", evidence=Evidence("unreadable", "yes")
    )
