"""What a pipeline records of its operations, in its monitor."""

from __future__ import annotations

import logging
from typing import Protocol

from booking_resilience.breaker import CircuitBreaker
from booking_resilience.callbacks import drop_awaitable, is_awaitable
from booking_resilience.checks import is_a
from booking_resilience.errors import CircuitOpenError, LimitExceededError
from booking_resilience.events import FailedAttempt, RetryEvent, log_raised
from booking_resilience.monitor import ErrorCategory, Severity
from booking_resilience.monitor.record import Outcome, is_mild
from booking_resilience.retry import attempts_of

logger: logging.Logger = logging.getLogger("booking_resilience.retry")


class ErrorRecorder(Protocol):
    """What a pipeline needs of its monitor: an `ErrorMonitor`, or a wrapper that adds context and passes it on."""

    def record(
        self,
        error: BaseException,
        *,
        operation: str,
        category: ErrorCategory,
        severity: Severity,
        attempts: int | tuple[FailedAttempt, ...] | None,
        outcome: Outcome,
    ) -> object:
        """Record how an operation ended.

        Args:
            error: What came out of it, or of its last failed attempt.
            operation: Its name.
            category: The pipeline's category.
            severity: `ERROR`, or `WARNING` for an operation that recovered, fell back, or met a full limit.
            attempts: The failed attempts, or how many there were; None if it isn't known.
            outcome: `failed`, `recovered`, `refused` or `fell_back`.
        """
        ...


def was_refused(error: BaseException | None, attempt: int, breaker: CircuitBreaker | None) -> bool:
    """Tell whether no attempt was made: a limit rejected the first, or the breaker of the pipeline itself."""
    if attempt != 1:
        return False
    if is_a(error, CircuitOpenError):
        return breaker is not None and error.name == breaker.name
    return is_a(error, LimitExceededError)


class Records:
    """Makes one record for each operation that failed, was refused, fell back or recovered.

    What another breaker than the given one refuses has failed. With `is_replaced` a fallback may replace what failed:
    `replaced` knows the end then, and no event does.
    """

    __slots__ = ("_breaker", "_category", "_is_replaced", "_monitor")

    def __init__(
        self, monitor: ErrorRecorder, category: ErrorCategory, breaker: CircuitBreaker | None, *, is_replaced: bool
    ) -> None:
        self._monitor, self._category, self._breaker, self._is_replaced = monitor, category, breaker, is_replaced

    def on_event(self, event: RetryEvent) -> None:
        """Record how an operation ended, if the event tells."""
        error = event.error
        if error is None or event.outcome == "retrying":
            return
        if event.outcome == "recovered":
            self.record(error, event.operation, "recovered", event.attempt)
        elif not self._is_replaced:
            self._failed(error, event.operation, event.attempt)

    def replaced(self, operation: str, error: Exception, raised: Exception | None) -> None:
        """Record an operation with a fallback that failed with an error.

        `raised` is what came out all the same; None if the fallback gave an answer.
        """
        made = attempts_of(error)
        if not made and is_a(error, TypeError):
            return  # no attempt failed: the function was of the wrong colour
        if raised is None:
            is_refused = was_refused(error, len(made), self._breaker)
            self.record(error, operation, "fell_back", 0 if is_refused else made or None)
        elif raised is error:
            self._failed(error, operation, len(made))
        else:
            self.record(raised, operation, "failed", made or None)

    def _failed(self, error: BaseException, operation: str, attempt: int) -> None:
        if was_refused(error, attempt, self._breaker):
            self.record(error, operation, "refused", 0)
        else:
            self.record(error, operation, "failed", attempts_of(error) or attempt or None)

    def record(
        self, error: BaseException, operation: str, outcome: Outcome, attempts: int | tuple[FailedAttempt, ...] | None
    ) -> None:
        """Make a record; what the monitor raises is logged."""
        try:
            made = self._monitor.record(
                error,
                operation=operation,
                category=self._category,
                severity=Severity.WARNING if is_mild(type(error), outcome) else Severity.ERROR,
                attempts=attempts,
                outcome=outcome,
            )
        except Exception as raised:  # noqa: BLE001 - it only watches
            log_raised(logger, raised, "the monitor's record raised")
            return
        if is_awaitable(made):
            drop_awaitable(self._monitor.record, made, logger)
