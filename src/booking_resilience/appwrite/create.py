"""Creating a row exactly once, also when the answer to a write that succeeded got lost.

The ID is the caller's and the same in all attempts, so a repeated write cannot make a second row. What is left is to
know whether the row that is there is ours. A 409 proves nothing: a unique index answers it as well as a taken ID does,
and the server repeats writes by itself. So after a 409, or when it is open whether an attempt was carried out, the row
is read and compared before anything is said.
"""

from __future__ import annotations

import dataclasses
import logging
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Final

from booking_resilience import clock
from booking_resilience.appwrite.classify import (
    REQUEST_TIMEOUT,
    classify,
    is_backend_failure,
    is_no_evidence,
    is_transient,
)
from booking_resilience.appwrite.evidence import leave_open
from booking_resilience.appwrite.rows import Row, RowStore, holds
from booking_resilience.breaker import CircuitBreaker
from booking_resilience.checks import check
from booking_resilience.deadlines import deadline, remaining_time
from booking_resilience.retry import RetryPolicy, attempts_of, with_retry
from booking_resilience.retry.history import forget, remember
from booking_resilience.retry.run import drive

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from booking_resilience.events import RetryEvent
    from booking_resilience.pipeline import Pipeline

logger: logging.Logger = logging.getLogger("booking_resilience.appwrite")

_CONFLICT: Final = 409
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
        tables: The SDK's `TablesDB`, or the older `Databases`.
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
            read either, the error of the attempt that left it open comes out, whatever came later; a mere 409 is then
            transient to `classify`, since the same call may find out.
        CircuitOpenError: If the breaker refused.
        ValueError: If the ID is empty or `unique()`.
    """
    is_id = isinstance(row_id, str) and row_id not in ("", "unique()")
    check("row_id", row_id, is_id, "an ID of your own, the same in all attempts")
    store = RowStore(tables)
    creation = _Creation(store, (database_id, table_id, row_id), dict(data), permissions, pipeline, operation)
    left, limit = remaining_time(), pipeline.retry.deadline
    total = limit if left is None or (limit is not None and limit < left) else left
    try:
        with nullcontext() if total is None else deadline(total):
            return creation.run(total)
    finally:
        creation.let_go()


class _Creation:
    """One row on its way.

    Attributes:
        conflict: The latest 409: the row is there, or something else is in its way.
        ambiguous: The latest error that leaves open whether the row is there.
        last: How the attempts to create ended, until it is told.
    """

    def __init__(
        self,
        store: RowStore,
        place: tuple[str, str, str],
        data: dict[str, Any],
        permissions: Sequence[str] | None,
        pipeline: Pipeline,
        operation: str,
    ) -> None:
        self._store, self._place, self._data, self._permissions = store, place, data, permissions
        self._pipeline, self._operation = pipeline, operation
        self.conflict: Exception | None = None
        self.ambiguous: Exception | None = None
        self.last: RetryEvent | None = None
        self._ended = 0.0  # when that was, on the monotonic clock

    def run(self, total: float | None) -> Row:
        """Create the row within `total` seconds, and read it if that left doubts."""
        policy = self._pipeline.retry
        if total is not None:
            kept = min(_RESERVE, total * _RESERVED_SHARE)
            policy = dataclasses.replace(policy, deadline=max(total - kept, 0.001))
        plan = dataclasses.replace(self._pipeline._plan, policy=policy, operation=self._operation)
        plan = dataclasses.replace(plan, listener=self._take, is_logged=False)
        try:
            row: Row = drive(plan, self._attempt)()
        except Exception as error:
            if self.conflict is None and self.ambiguous is None:
                self._tell()
                raise
            failure = error
        else:
            self._tell()
            return row
        try:
            return self._settle(failure)
        finally:
            del failure  # its traceback leads back to this frame

    def let_go(self) -> None:
        """Drop the errors: their tracebacks lead back here."""
        self.conflict = self.ambiguous = self.last = None

    def _attempt(self) -> Row:
        breaker = self._pipeline.breaker
        try:
            return self._create() if breaker is None else breaker.call(self._create)
        except Exception as error:
            verdict = classify(error)
            status = verdict.status or 0
            is_unread_success = verdict.transient and verdict.sent == "yes" and status < 300
            if verdict.sent == "maybe" or status >= 500 or status == REQUEST_TIMEOUT or is_unread_success:
                self.ambiguous = error
            if status == _CONFLICT:
                self.conflict = error
            raise

    def _create(self) -> Row:
        return self._store.create(*self._place, self._data, self._permissions)

    def _settle(self, failure: Exception) -> Row:
        """Read the row, and say what became of the attempts."""
        policy = dataclasses.replace(self._pipeline.retry, retry_on=is_transient, retry_on_result=None)
        try:
            row = with_retry(
                lambda: self._store.find(*self._place), operation=f"{self._operation}: verify", policy=policy
            )
        except Exception as error:  # noqa: BLE001 - whatever it was: what is not known stays open
            logger.warning("%s: it is open whether the row is stored (%s)", self._operation, type(error).__name__)
            outcome = self._open_error(failure)
        else:
            if row is not None and holds(row, self._data):
                logger.info("%s: an earlier attempt had stored the row", self._operation)
                self._tell(recovered=True)
                return row
            outcome = failure
        self._tell(outcome)
        try:
            raise outcome
        finally:
            del outcome, failure

    def _open_error(self, failure: Exception) -> Exception:
        """Return the error that leaves the outcome open, with the attempts of the operation."""
        error = self.ambiguous or self.conflict or failure
        if error is self.conflict:
            leave_open(error)
        if error is failure:
            failure.add_note(f"{self._operation}: the row could not be read")
            return failure
        attempts = [(item.number, item.error, item.delay, item.elapsed) for item in attempts_of(failure)]
        count = len(attempts)
        forget(failure)  # its attempts, and a refusal's cause, would lead in a circle
        if failure.__cause__ is error:
            failure.__cause__ = None
        remember(error, attempts, f"{self._operation}: gave up after {count} attempts, the row could not be read")
        return error

    def _take(self, event: RetryEvent) -> None:
        """Tell of an event; of the last one only when it is known what came of the operation."""
        if event.outcome == "retrying":
            self._pipeline._plan.tell(event)
        else:
            self.last, self._ended = event, clock.monotonic()

    def _tell(self, error: Exception | None = None, *, recovered: bool = False) -> None:
        """Tell how it ended: by now it is known."""
        event, self.last = self.last, None
        if event is None:
            return
        elapsed = event.elapsed + clock.monotonic() - self._ended
        if recovered:
            event = dataclasses.replace(event, outcome="recovered", reason=None, elapsed=elapsed)
        elif error is not None:
            event = dataclasses.replace(event, error=error, elapsed=elapsed)
        self._pipeline._plan.tell(event)
