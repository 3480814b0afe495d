"""Events as frozen values, and the calls of their listeners."""

from __future__ import annotations

import contextlib
import datetime
import enum
import itertools
import logging
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from contextvars import ContextVar
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias, TypeVar

from booking_resilience.callbacks import ask
from booking_resilience.locks import fork_safe_lock

logging.getLogger("booking_resilience").addHandler(logging.NullHandler())  # logging is the application's to set up

E = TypeVar("E")
Listener: TypeAlias = Callable[[E], object]
"""Called with an event on the thread where it happened, under no lock. What it raises is logged and changes nothing."""

Outcome: TypeAlias = Literal["retrying", "recovered", "gave_up"]
Reason: TypeAlias = Literal["attempts", "deadline", "budget", "not_transient", "circuit_open"]


class ErrorCategory(enum.StrEnum):
    """The part of the application that an error belongs to."""

    BOOKING = "booking"
    CHAT = "chat"
    PAYMENT = "payment"
    APPWRITE = "appwrite"
    NETWORK = "network"


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    """One attempt of an operation that failed.

    Attributes:
        number: Which attempt it was, from 1.
        error: What it raised.
        delay: Seconds waited before the next attempt; None after the last.
        elapsed: Seconds from the start of the operation to the end of this attempt.
    """

    number: int
    error: BaseException
    delay: float | None
    elapsed: float


@dataclass(frozen=True, slots=True)
class RetryEvent:
    """An attempt ended, and the retry decided what to do next.

    Attributes:
        operation: The operation's name.
        attempt: The attempt that just ended, from 1; 0 if the deadline passed before the first.
        outcome: `retrying`, `recovered` (it succeeded on a retry) or `gave_up`.
        reason: Why it gave up; None with the other outcomes.
        error: What the attempt raised; with `recovered`, what the last failed attempt raised. None if a result, not
            an error, was rejected.
        delay: Seconds until the next attempt; None unless `retrying`.
        elapsed: Seconds since the operation began.
    """

    operation: str
    attempt: int
    outcome: Outcome
    reason: Reason | None
    error: BaseException | None
    delay: float | None
    elapsed: float


class BreakerState(enum.Enum):
    """The states of a circuit breaker."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"
    ISOLATED = "isolated"


@dataclass(frozen=True, slots=True)
class BreakerEvent:
    """A circuit breaker changed its state.

    Attributes:
        name: The breaker's name.
        old: The state before.
        new: The state now.
        reason: Why it changed; never the text of an error, which may hold secrets.
    """

    name: str
    old: BreakerState
    new: BreakerState
    reason: str


@dataclass(frozen=True, slots=True)
class AlertEvent:
    """The alert on the error rate started, repeated or ended.

    Attributes:
        state: `firing` when it begins, `repeat` while it goes on, `resolved` when it ends.
        rate: Errors per minute now.
        peak: The highest rate since the alert began, in errors per minute.
        since: When the alert began, aware UTC.
    """

    state: Literal["firing", "repeat", "resolved"]
    rate: float
    peak: float
    since: datetime.datetime


class Recorded:
    """Numbers the error records of a process, whichever monitor makes them.

    Attributes:
        last: The number of the newest; an attribute, since every call through a pipeline reads it.
        lock: Held while a record gets its number; re-entrant, since a signal handler may record meanwhile.
        next_number: Returns a number; to be called with the lock held.
    """

    __slots__ = ("last", "lock", "next_number")

    def __init__(self) -> None:
        self.last: int = 0
        self.lock: AbstractContextManager[object] = fork_safe_lock()
        self.next_number: Callable[[], int] = itertools.count(1).__next__


recorded: Recorded = Recorded()
_Beginning: TypeAlias = "list[Any]"  # the number, None once the telling is over; and the beginning around it
_call_began: ContextVar[_Beginning | None] = ContextVar("booking_resilience_call_began", default=None)


def call_began() -> int:
    """Return what `recorded.last` was when the call began whose end is being told; 0 if none is.

    By it a monitor tells an error that was recorded in this call from one that an earlier call recorded and that has
    been raised again.
    """
    beginning = _call_began.get()
    while beginning is not None:
        number: int | None = beginning[0]
        if number is not None:
            return number
        beginning = beginning[1]
    return 0


def tell_began(number: int, tell: Callable[..., object], *args: Any, **kwargs: Any) -> None:
    """Call `tell`; in it, `call_began` gives this number, and no interrupt, wherever it strikes, leaves it behind."""
    outer = _call_began.get()
    beginning = [number, outer]
    try:
        _call_began.set(beginning)
        tell(*args, **kwargs)
    finally:
        beginning[0] = None  # one step, that nothing comes before
        _call_began.set(outer)


class Subscription:
    """A listener's subscription; `close()` ends it. Also a context manager."""

    __slots__ = ("_cancel",)

    def __init__(self, cancel: Callable[[], object]) -> None:
        self._cancel: Callable[[], object] | None = cancel

    def close(self) -> None:
        """Stop listening. Closing twice is harmless."""
        cancel, self._cancel = self._cancel, None
        if cancel is not None:
            cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def notify(listeners: Iterable[Listener[E]], event: E, logger: logging.Logger) -> int:
    """Call each listener with the event; log what it raises.

    Returns:
        How many listeners raised.
    """
    raised = 0
    for listener in listeners:
        try:
            ask(listener, event, unknown=None, logger=logger)
        except Exception as error:  # noqa: BLE001 - a listener's error must not become the caller's
            raised += 1
            log_raised(logger, error, "a listener raised on %s", type(event).__name__)
    return raised


def log_raised(logger: logging.Logger, error: Exception, text: str, *args: object) -> None:
    """Log what an application's own function raised, without the error that it was given, which may hold secrets."""
    with contextlib.suppress(Exception):  # a logging handler that raises
        object.__setattr__(error, "__suppress_context__", True)  # past a `__setattr__` that refuses
        logger.error(text, *args, exc_info=error)
