"""What every write that happens exactly once has in common, in either colour; for one call.

The write is attempted as the pipeline's policy says. If that leaves doubts, what is stored is read within a part of the
deadline that is kept for it, and decides. The monitor is told when it is known what came of it.
"""

from __future__ import annotations

import dataclasses
import logging
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from contextlib import nullcontext
from typing import Any, Final, Generic, TypeVar, cast

from booking_resilience.appwrite.calls import SYNC, Call, Colour
from booking_resilience.appwrite.classify import is_transient
from booking_resilience.appwrite.doubts import Doubts
from booking_resilience.appwrite.endings import Ending
from booking_resilience.appwrite.outcomes import mark_outcome
from booking_resilience.appwrite.rows import Row, RowStore
from booking_resilience.checks import check, check_strings, check_type
from booking_resilience.deadlines import deadline, remaining_time
from booking_resilience.pipeline import Pipeline
from booking_resilience.retry.plan import Plan
from booking_resilience.retry.policy import RetryPolicy

logger: logging.Logger = logging.getLogger("booking_resilience.appwrite")

T = TypeVar("T")
V = TypeVar("V")

_RESERVE: Final = 0.5
_RESERVED_SHARE: Final = 1 / 8


class Once(ABC, Generic[T]):
    """A write on its way. Its kinds say what an attempt is, and what the stored rows tell.

    Args:
        tables: The service.
        pipeline: How to call.
        operation: The operation's name.
    """

    def __init__(self, tables: Any, pipeline: Pipeline, operation: str) -> None:
        check_type("pipeline", pipeline, isinstance(pipeline, Pipeline), "a Pipeline")
        check_type("operation", operation, isinstance(operation, str), "a string")
        self.store = RowStore(tables)
        self.doubts = Doubts(operation)
        self.pipeline, self.operation = pipeline, operation
        self.colour = SYNC
        self._ending = Ending(pipeline)

    async def run(self, colour: Colour) -> T:
        """Write within the time that there is, and read what is stored if that left doubts."""
        self.colour = colour
        left, limit = remaining_time(), self.pipeline.retry.deadline
        total = limit if left is None or (limit is not None and limit < left) else left
        try:
            with nullcontext() if total is None else deadline(total):
                return await self._write(total)
        except Exception as error:
            mark_outcome(error, is_open=self.doubts.is_open)
            raise
        finally:
            self.doubts.let_go()
            self._ending.let_go()
            self.let_go()

    @abstractmethod
    async def attempt(self) -> T:
        """Make an attempt."""

    def policy(self, policy: RetryPolicy) -> RetryPolicy:
        """Return the policy of the attempts, made of the pipeline's."""
        return policy

    def note(self, failure: Exception) -> None:
        """Take in how the attempts failed that ended with this error."""
        self.doubts.note_all(failure)

    def has_doubts(self) -> bool:
        """Tell whether the stored rows have to be read before anything is said."""
        return self.doubts.are_there

    @abstractmethod
    async def settle(self, failure: Exception) -> T:
        """Read what is stored after the attempts have failed; return the result, or raise what there is to say."""

    def let_go(self) -> None:
        """Drop the errors that are held: their tracebacks lead back here."""

    async def read(self, call: Call[V]) -> V:
        """Make a call that may be repeated at will, beside the breaker, as policy and deadline allow."""
        policy = dataclasses.replace(self.pipeline.retry, retry_on=is_transient, retry_on_result=None)
        return await self.colour.attempts(Plan(policy, f"{self.operation}: verify"), lambda: self.colour.ask(call))

    async def _write(self, total: float | None) -> T:
        policy = self.pipeline.retry
        if total is not None:
            kept = min(_RESERVE, total * _RESERVED_SHARE)
            policy = dataclasses.replace(policy, deadline=max(total - kept, 0.001))
        plan = dataclasses.replace(self.pipeline._plan, policy=self.policy(policy), operation=self.operation)
        plan = dataclasses.replace(plan, listener=self._ending.take, is_logged=False)
        try:
            result = await self.colour.attempts(plan, self.attempt)
        except Exception as error:
            self.note(error)
            if not self.has_doubts():
                mark_outcome(error, is_open=self.doubts.is_open)  # before the monitor is told, which may ask
                self._ending.tell()
                raise
            failure = error
        else:
            self._ending.tell()
            return result
        try:
            result = await self.settle(failure)
        except Exception as error:
            mark_outcome(error, is_open=self.doubts.is_open)
            self._ending.tell(error)
            raise
        else:
            logger.info("%s: an earlier attempt had been carried out", self.operation)
            self._ending.tell(recovered=True)
            return result
        finally:
            del failure  # its traceback leads back to this frame

    def left_open(self, failure: Exception, why: str) -> Exception:
        """Return what to raise where it stays open what became of the attempts, and log it."""
        logger.warning("%s: it may or may not have been carried out (%s)", self.operation, why)
        return self.doubts.open_error(failure)


class OnceRow(Once[T]):
    """A write of one row. Its kinds say what the row that is stored then tells of it.

    Args:
        tables: The service.
        place: The IDs of database, table and row.
        pipeline: How to call.
        operation: The operation's name.
    """

    def __init__(self, tables: Any, place: tuple[str, str, str], pipeline: Pipeline, operation: str) -> None:
        super().__init__(tables, pipeline, operation)
        self._place = place

    async def settle(self, failure: Exception) -> T:
        """Read the row, and say what became of the attempts."""
        outcome: T | Exception
        try:
            row = await self.read(self.store.find(*self._place))
        except Exception as error:  # noqa: BLE001 - whatever it was: what is not known stays open
            outcome = self.left_open(failure, type(error).__name__)
        else:
            outcome = self.judge(row, failure)
        try:
            if isinstance(outcome, Exception):
                raise outcome
            return outcome
        finally:
            del outcome, failure

    @abstractmethod
    def judge(self, row: Row | None, failure: Exception) -> T | Exception:
        """Return the result, or what to raise, by the row that is stored; None if there is none."""


def check_place(database_id: object, table_id: object, row_id: object) -> None:
    """Check what names a row.

    Raises:
        TypeError: If a part isn't a string.
        ValueError: If a part is empty, or the ID is one that the server would choose.
    """
    for name, value in (("database_id", database_id), ("table_id", table_id)):
        check_type(name, value, isinstance(value, str), "a string")
        check(name, value, value != "", "an ID")
    check_type("row_id", row_id, isinstance(row_id, str), "a string")
    check("row_id", row_id, row_id not in ("", "unique()"), "an ID of your own, the same in all attempts")


def check_new(data: object, permissions: object = None) -> None:
    """Check what is to be stored.

    Raises:
        TypeError: If the data isn't a mapping whose keys are strings, or the permissions aren't strings.
    """
    check_type("data", data, isinstance(data, Mapping), "a mapping")
    for name in cast("Mapping[object, object]", data):
        check_type("data", name, isinstance(name, str), "columns named by strings")
    if permissions is not None:
        check_strings("permissions", permissions)


def check_compare(compare: Collection[str] | None, sent: Collection[str]) -> tuple[str, ...] | None:
    """Return the columns to compare, checked; None for all.

    Args:
        compare: Them, as given.
        sent: The columns that are sent.

    Raises:
        TypeError: If they aren't a collection of strings.
        ValueError: If there are none, or one isn't sent.
    """
    if compare is None:
        return None
    check_strings("compare", compare)
    check("compare", compare, bool(compare), "one column or more")
    for name in compare:
        check("compare", name, name in sent, f"columns that are sent: {', '.join(sorted(sent))}")
    return tuple(compare)


def compared(data: Mapping[str, Any], compare: Collection[str] | None) -> Mapping[str, Any]:
    """Return what of a row's data tells that the row is ours; all of it where none of the columns is in it."""
    if compare is None:
        return data
    return {name: value for name, value in data.items() if name in compare} or data
