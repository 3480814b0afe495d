"""What stays the same from call to call of a retried operation, and how its events are told."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass

from booking_resilience import clock
from booking_resilience.callbacks import check_callback
from booking_resilience.checks import check_text, check_type
from booking_resilience.deadlines import Node, in_force
from booking_resilience.errors import DeadlineExceededError
from booking_resilience.events import Listener, RetryEvent, notify
from booking_resilience.retry.policy import RetryPolicy

logger: logging.Logger = logging.getLogger("booking_resilience.retry")


@dataclass(slots=True)  # not frozen: that costs more than all the rest of making one, and `with_retry` makes one a call
class Plan:
    """What stays the same from call to call. Never changed once it is made.

    Attributes:
        policy: The policy.
        operation: The operation's name, for events, logs and notes.
        listener: Told of every event, or None.
        circuit_open: Tells whether a breaker stands open in the way of the next attempt, or None.
        is_logged: Whether events are logged, too.
    """

    policy: RetryPolicy
    operation: str
    listener: Listener[RetryEvent] | None = None
    circuit_open: Callable[[], bool] | None = None
    is_logged: bool = True

    def ends(self, started: float, node: Node | None) -> tuple[Node | None, float | None]:
        """Return the deadline around an operation, and when the operation must have ended.

        Args:
            started: When it began, in seconds on the monotonic clock, as is the end; None for never.
            node: The deadline that is set around it, whether it is in force or not.

        Raises:
            DeadlineExceededError: If the deadline around it has passed.
        """
        limit, outer = self.policy.deadline, in_force(node)
        end = None if limit is None else started + limit
        if outer is None:
            return None, end
        if outer[1] <= started:
            raise self._too_late(outer[1])
        return outer, earlier(end, outer[1])

    def stop(self, end: float | None) -> float | None:
        """Return when an attempt that begins now must have ended, within an operation that ends at `end`."""
        limit = self.policy.attempt_timeout
        return end if limit is None else earlier(end, clock.monotonic() + limit)

    def is_heard(self) -> bool:
        """Tell whether anybody would hear of a retry or a recovery."""
        return self.listener is not None or (self.is_logged and logger.isEnabledFor(logging.INFO))

    def tell(self, event: RetryEvent) -> None:
        """Tell the listener and the log. The log has the error's type only: its text may hold secrets."""
        if self.listener is not None:
            notify((self.listener,), event, logger)
        level = logging.WARNING if event.outcome == "gave_up" else logging.INFO
        if self.is_logged and logger.isEnabledFor(level):
            with contextlib.suppress(Exception):  # a logging handler that raises
                _log(level, event)

    def _too_late(self, end: float) -> DeadlineExceededError:
        error = DeadlineExceededError(f"{self.operation}: the deadline had passed before the first attempt")
        error.end = end
        self.tell(RetryEvent(self.operation, 0, "gave_up", "deadline", error, None, 0.0))
        return error


def earlier(end: float | None, other: float) -> float:
    """Return the earlier of two moments, the first of which may be None for never."""
    return other if end is None or other < end else end


def check_arguments(policy: object, operation: object, on_event: object) -> None:
    """Check what every way to retry takes."""
    check_type("policy", policy, isinstance(policy, RetryPolicy), "a RetryPolicy")
    if operation is not None:
        check_text("operation", operation)
    if on_event is not None:
        check_callback("on_event", on_event, "a function of the event or None")


def _log(level: int, event: RetryEvent) -> None:
    facts = {name: getattr(event, name) for name in ("operation", "attempt", "outcome", "reason", "delay", "elapsed")}
    facts["error_type"] = None if event.error is None else type(event.error).__qualname__
    plural = "" if event.attempt == 1 else "s"
    done = f"{event.outcome.replace('_', ' ')} after {event.attempt} attempt{plural}"
    when = f"in {event.elapsed:.3f} s" if event.delay is None else f"next in {event.delay:.3f} s"
    logger.log(level, "%s: %s, %s (%s)", event.operation, done, when, event.reason or facts["error_type"], extra=facts)
