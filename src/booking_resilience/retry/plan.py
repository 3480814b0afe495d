"""What stays the same from call to call of a retried operation, and how its events are told."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from booking_resilience.errors import DeadlineExceededError
from booking_resilience.events import RetryEvent, notify
from booking_resilience.retry.policy import RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Callable

    from booking_resilience.events import Listener

logger: logging.Logger = logging.getLogger("booking_resilience.retry")
LEVELS = {"retrying": logging.INFO, "recovered": logging.INFO, "gave_up": logging.WARNING}


@dataclass(slots=True)  # not frozen: that costs more than all the rest of making one, and `with_retry` makes one a call
class Plan:
    """What stays the same from call to call. Never changed once it is made.

    Attributes:
        policy: The policy.
        operation: The operation's name, for events, logs and notes.
        listener: Told of every event, or None.
        circuit_open: Tells whether a breaker stands open in the way of the next attempt, or None.
        sink: Takes the events in place of listener and log, and tells them itself when it knows more; or None.
    """

    policy: RetryPolicy
    operation: str
    listener: Listener[RetryEvent] | None = None
    circuit_open: Callable[[], bool] | None = None
    sink: Callable[[RetryEvent], None] | None = None


def check_arguments(policy: object, on_event: object) -> None:
    """Refuse what is no policy and what is no listener."""
    if not isinstance(policy, RetryPolicy):
        raise TypeError(f"policy must be a RetryPolicy, not {policy!r}")
    if on_event is not None and not callable(on_event):
        raise TypeError(f"on_event must be a function of the event or None, not {on_event!r}")


def tell(plan: Plan, event: RetryEvent) -> None:
    """Tell the listener and the log. The log has the error's type only: its text may hold secrets."""
    if plan.sink is not None:
        plan.sink(event)
        return
    if plan.listener is not None:
        notify((plan.listener,), event, logger)
    level = LEVELS[event.outcome]
    if logger.isEnabledFor(level):
        facts = {
            name: getattr(event, name) for name in ("operation", "attempt", "outcome", "reason", "delay", "elapsed")
        }
        facts["error_type"] = None if event.error is None else type(event.error).__qualname__
        text = "%s: %s after attempt %d, %.3f s (%s)"
        why = facts["error_type"] if event.reason is None else event.reason
        with contextlib.suppress(Exception):  # a logging handler that raises
            logger.log(level, text, event.operation, event.outcome, event.attempt, event.elapsed, why, extra=facts)


def too_late(plan: Plan, end: float) -> DeadlineExceededError:
    """Return the error of an operation whose time was over before its first attempt, having told of it."""
    error = DeadlineExceededError(f"{plan.operation}: the deadline had passed before the first attempt")
    error.end = end
    tell(plan, RetryEvent(plan.operation, 0, "gave_up", "deadline", error, None, 0.0))
    return error
