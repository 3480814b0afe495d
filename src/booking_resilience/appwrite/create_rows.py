"""Creating several rows, all of them or none, each exactly once.

All rows are staged in one transaction and committed together. Whatever the commit said, the rows are read and compared,
since neither its answer nor the transaction's state can be trusted: a deadlock of the database has left some of the
rows behind a refusal, and dropped some behind a success. What is found then decides:

- all are ours: done;
- none is there: again, with a new transaction, or the error;
- some are ours and the others absent: again with those that are absent; if that fails, ours are deleted;
- another's row is in the way: a second look, after a moment in which a torn loser gives its rows back; then ours are
  deleted, and the conflict comes out.
"""

from __future__ import annotations

import dataclasses
import datetime
import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from booking_resilience.appwrite.calls import ASYNC, SYNC, check_colour, run_now
from booking_resilience.appwrite.evidence import Evidence
from booking_resilience.appwrite.failures import AppwriteCallError
from booking_resilience.appwrite.findings import Findings, checked_rows, findings_of, staging_order
from booking_resilience.appwrite.new_rows import NewRow
from booking_resilience.appwrite.once import Once, check_compare
from booking_resilience.appwrite.rows import Row
from booking_resilience.appwrite.transactions import Transactions, are_missing, may_begin_anew
from booking_resilience.pipeline import Pipeline
from booking_resilience.retry.policy import RetryPolicy

logger: logging.Logger = logging.getLogger("booking_resilience.appwrite")

SECOND_LOOK: Final = 0.3
"""Seconds until another's row is looked at again; a torn loser needs them to give its rows back (APPWRITE.md)."""


def create_rows_once(
    tables: Any,
    rows: Sequence[NewRow],
    *,
    pipeline: Pipeline,
    operation: str,
    compare: Collection[str] | None = None,
) -> list[Row]:
    """Create all rows or none; trying again never makes a second one, nor takes another's row for one of these.

    Each attempt is a transaction of its own and passes through the pipeline's limit, rate and breaker as one call;
    the readings do not. The commit has what is left of the deadline, `attempt_timeout` bounds the other requests. Rows
    are stored by database and table, slot rows in the order of their IDs, others as given; `$createdAt` follows that
    order. Columns whose name begins with a dollar sign are left out.

    Args:
        tables: The SDK's `TablesDB`, or the older `Databases`, of a synchronous client.
        rows: The rows, 1 to 100 of them.
        pipeline: How to call.
        operation: The operation's name, for events, logs and records.
        compare: The columns that tell that a stored row is the one that was sent; None for all that are sent. A row
            that has none of them is compared whole.

    Returns:
        The rows as they are stored, in the order given.

    Raises:
        SlotTakenError: If another has a time that one of the slot rows claims.
        RowConflictError: If the row of one of the IDs is another's. What this call had stored was deleted again; if
            that failed, `outcome_unknown` is true.
        AppwriteException: If the rows could not be created; `outcome_unknown` tells whether they may be there all the
            same. A 409 says that a unique index is in the way.
        CircuitOpenError: If the breaker rejected.
        ValueError: If the server has no transactions, nothing was written then; if an ID is `unique()`, there twice in
            a table, or none that the server takes (`create_row_once` says which); or if there are no rows, or too many.
        TypeError: If `tables` isn't such a service, or a row is not a `NewRow` or holds what has the wrong type;
            nothing was sent.
    """
    check_colour(tables, is_async=False, called="create_rows_once", instead="create_rows_once_async")
    creations = Creations(tables, rows, pipeline, operation, compare)
    return run_now(lambda: creations.run(SYNC))


async def create_rows_once_async(
    tables: Any,
    rows: Sequence[NewRow],
    *,
    pipeline: Pipeline,
    operation: str,
    compare: Collection[str] | None = None,
) -> list[Row]:
    """Do the same as `create_rows_once` with a service of an `AsyncAppwriteClient`, under asyncio or trio.

    Arguments, result and errors are those of `create_rows_once`. A call that is cancelled may have been carried out;
    the same call with the same IDs finds out.
    """
    check_colour(tables, is_async=True, called="create_rows_once_async", instead="create_rows_once")
    return await Creations(tables, rows, pipeline, operation, compare).run(ASYNC)


class Creations(Once[list[Row]]):
    """Several rows on their way, in either colour; for one call."""

    def __init__(
        self,
        tables: Any,
        rows: Sequence[NewRow],
        pipeline: Pipeline,
        operation: str,
        compare: Collection[str] | None = None,
    ) -> None:
        self._rows = checked_rows(rows)
        self._compare = check_compare(compare, {name for row in self._rows for name in row.data})
        super().__init__(tables, pipeline, operation)
        self._transactions = Transactions(tables)
        self._todo = staging_order(self._rows)
        self._since: datetime.datetime | None = None  # when the first transaction was begun
        self._commit_failure: Exception | None = None
        self._final: Exception | None = None  # what no attempt would change
        self._is_unread = self._is_under_way = self._is_torn = False

    def policy(self, policy: RetryPolicy) -> RetryPolicy:
        """Return the policy of the attempts: what may be tried anew is, and the commit has no limit of its own."""
        given = self.pipeline.retry

        def retry_on(error: BaseException) -> bool:
            return error is not self._final and (may_begin_anew(error) or given.passes(error))

        return dataclasses.replace(policy, retry_on=retry_on, retry_on_result=None, attempt_timeout=None)

    def note(self, failure: Exception) -> None:
        """Take in a commit that was cut off; the others were noted when they failed."""
        if self._is_under_way:
            self.doubts.note(failure)
            self.doubts.ambiguous = self.doubts.unanswered = failure

    def has_doubts(self) -> bool:
        """Tell whether the rows have to be read again before anything is said."""
        if self._final is not None:
            return False
        return self._is_unread or self._is_torn or self.doubts.unanswered is not None

    def let_go(self) -> None:
        """Drop the errors that are held."""
        self._commit_failure = self._final = None

    async def settle(self, failure: Exception) -> list[Row]:
        """Read the rows; make them whole, or take away what there is of them."""
        outcome = failure
        try:
            try:
                findings = await self._settled()
            except Exception as error:  # noqa: BLE001 - whatever it was: what is not known stays open
                raise self.left_open(failure, type(error).__name__) from None
            if findings.is_whole:
                return findings.rows()
            self.doubts.is_open = self.doubts.unanswered is not None
            if findings.foreign:
                self.doubts.is_open, outcome = False, findings.conflict()
            elif findings.unclear:
                raise self.left_open(failure, "nothing in a stored row can be compared")
            if not await self._taken_back(findings):
                self.doubts.is_open = True
            raise outcome
        finally:
            del outcome, failure

    async def _settled(self) -> Findings:
        """Read the rows, and make them whole if that is all there is to do."""
        findings = await self._read()
        if findings.is_torn:
            findings = await self._made_whole(findings)
        if findings.foreign or findings.unclear:
            findings = await self._second_look(findings)
        return findings

    async def attempt(self) -> list[Row]:
        """Make an attempt: a transaction through the breaker, and a reading beside it."""
        if self._is_unread and (done := await self._look()) is not None:
            return done
        self._commit_failure = None
        try:
            await self.colour.guarded(self.pipeline, self._transact)
        except Exception as error:
            if not self._is_unread:
                raise
            self._commit_failure = error
        if (done := await self._look()) is not None:
            return done
        raise self._commit_failure or _vanished()

    async def _transact(self) -> None:
        """Begin, stage, commit: each request once, since none of them can be repeated."""
        limit = self.pipeline.retry.attempt_timeout
        try:
            begun = await self.colour.ask(self._transactions.begin(), limit)
        except Exception as error:
            if not are_missing(error):
                raise
            self._final = ValueError(
                f"{self.operation}: this server has no transactions, so several rows can't be created all or none; "
                "create them one by one with create_row_once"
            )
            raise self._final from None
        if self._since is None:
            self._since = begun.created_at
        await self.colour.ask(self._transactions.stage(begun, [*map(self._transactions.creation, self._todo)]), limit)
        self._is_unread = self._is_under_way = True
        try:
            await self.colour.ask(self._transactions.commit(begun))
        except Exception as error:
            self.doubts.note(error)
            self._is_under_way = False
            raise
        self._is_under_way = False

    async def _look(self) -> list[Row] | None:
        """Read the rows; return them if all are ours, None if the next attempt may make them so.

        Raises:
            AppwriteException: If it may not.
        """
        findings = await self._read()
        if findings.foreign or findings.unclear:
            findings = await self._second_look(findings)
        self._is_unread = False
        if findings.is_whole:
            return findings.rows()
        if findings.foreign:
            self._final = findings.conflict()
            if not await self._taken_back(findings):
                self.doubts.is_open = True
            raise self._final
        if findings.unclear:
            self._final = self.left_open(self._commit_failure or _vanished(), "nothing in a row can be compared")
            raise self._final
        self._todo, self._is_torn = staging_order(findings.absent), findings.is_torn
        return None

    async def _second_look(self, findings: Findings) -> Findings:
        """Read the rows once more, when a torn loser has had the time to give its rows back."""
        await self.colour.pause(SECOND_LOOK)
        try:
            return await self._read()
        except Exception as error:  # noqa: BLE001 - then the first look stands
            logger.info("%s: reading the rows once more failed (%s)", self.operation, type(error).__name__)
            return findings

    async def _made_whole(self, findings: Findings) -> Findings:
        """Create the rows that are absent beside those that are ours, once; return what is there then."""
        self._todo = staging_order(findings.absent)
        try:
            await self.colour.guarded(self.pipeline, self._transact)
        except Exception as error:  # noqa: BLE001 - a reading tells what came of it
            logger.info("%s: some rows are still absent (%s)", self.operation, type(error).__name__)
        try:
            return await self._read()
        except Exception:  # noqa: BLE001 - then they stand as they stood
            return findings

    async def _taken_back(self, findings: Findings) -> bool:
        """Delete what this call has stored, rows from before never; tell whether nothing of it is left."""
        ours = findings.stored_since(self._since)
        if not ours:
            return True
        try:
            for row in ours:
                await self.read(self.store.delete(row.database_id, row.table_id, row.row_id))
            left = await self._read()
        except Exception as error:  # noqa: BLE001 - whatever it was, some may be left
            logger.warning("%s: some rows could not be deleted again (%s)", self.operation, type(error).__name__)
            return False
        return not left.stored_since(self._since)

    async def _read(self) -> Findings:
        stored: dict[tuple[str, str], Mapping[str, Row]] = {}
        for place in dict.fromkeys((row.database_id, row.table_id) for row in self._rows):
            wanted = [row.row_id for row in self._rows if (row.database_id, row.table_id) == place]
            stored[place] = await self.read(self.store.find_all(*place, wanted))
        return findings_of(self._rows, stored, self._compare)


def _vanished() -> AppwriteCallError:
    """Return the error of a commit that was reported as successful, though nothing is there."""
    return AppwriteCallError(
        "the server reported the transaction as committed, but its rows are not there",
        evidence=Evidence("unreadable", "yes"),
    )
