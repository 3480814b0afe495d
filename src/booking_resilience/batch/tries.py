"""One try of an item: what it ended with, and whether the item is tried again later."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, cast

from booking_resilience.batch.gate import Gate
from booking_resilience.batch.outcomes import BatchOutcome
from booking_resilience.breaker import CircuitBreaker
from booking_resilience.checks import is_a
from booking_resilience.errors import CircuitOpenError, LimitExceededError
from booking_resilience.events import RetryEvent
from booking_resilience.pipeline import Pipeline
from booking_resilience.recording import was_refused
from booking_resilience.thread_crew import SentBack, Task


class WorkItem:
    """An item, and what it went through before it was sent back.

    Attributes:
        value: The item itself.
        made: Attempts made so far.
        last: How its last try ended, if it was sent back: the event, and the number of attempts to tell.
    """

    __slots__ = ("last", "made", "value")

    def __init__(self, value: Any) -> None:
        self.value: Any = value
        self.made: int = 0
        self.last: tuple[RetryEvent, int] | None = None


class Try:
    """One try of an item: notes its attempts (a success at the first makes no event) and whether it is sent back."""

    __slots__ = ("_breaker", "_gate", "attempts", "before", "event", "made")

    def __init__(self, gate: Gate | None, before: int, breaker: CircuitBreaker | None) -> None:
        self._gate, self._breaker = gate, breaker
        self.before: int = before
        self.attempts: int = 1
        self.made: int = 0
        self.event: RetryEvent | None = None  # the last one of a try that is sent back

    def __call__(self, event: RetryEvent) -> bool:
        """Take an event; return True if nobody else is to be told of it."""
        self.attempts = 0 if was_refused(event.error, event.attempt, self._breaker) else event.attempt
        if event.outcome != "recovered":
            self.made += not (is_a(event.error, CircuitOpenError) or is_a(event.error, LimitExceededError))
        gate = self._gate
        if event.outcome == "gave_up" and gate is not None and gate.takes_back(event, self.before + self.made):
            self.event = event
        return self.event is not None


class Ending:
    """The end of one try of an item, whichever colour: a context manager around the call.

    Attributes:
        call: Makes the operation for what it is given.
        value: What the function returned.
        outcome: The item's outcome, or a `SentBack`; set before the call if nobody waits any more.
    """

    __slots__ = ("_gate", "_index", "_item", "_passed", "_pipeline", "_try", "call", "outcome", "value")

    def __init__(self, gate: Gate | None, passed: object, pipeline: Pipeline, task: Task, bind: Any) -> None:
        self._gate, self._passed, self._pipeline = gate, passed, pipeline
        self._index, self._item = task
        item: WorkItem = self._item
        self._try = Try(gate, item.made, pipeline.breaker)
        self.call: Callable[[Any], Any] = bind(item, self._try)
        self.value: Any = None
        self.outcome: Any = None

    def __enter__(self) -> Self:
        item, last = self._item, self._item.last
        item.last = None
        if last is not None and self._gate is not None and self._gate.gives_up():
            event, attempts = last
            self._pipeline._tell(event)
            self.outcome = BatchOutcome(self._index, item.value, None, cast("Exception", event.error), attempts)
        return self

    @property
    def item(self) -> Any:
        """The item itself."""
        return self._item.value

    def taken(self) -> Any:
        """Return the outcome and forget it: its error leads to the frame that holds this."""
        outcome, self.outcome = self.outcome, None
        return outcome

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> bool:
        item, gate, tried = self._item, self._gate, self._try
        attempts = tried.before + tried.attempts
        if tried.event is not None and gate is not None and is_a(error, Exception):
            item.made, item.last = tried.before + tried.made, (tried.event, attempts)
            self.outcome = SentBack((self._index, item))
            tried.event = None  # the error leads to the frame that holds this
            gate.sent_back(self._passed, error)
            return True
        if gate is not None:
            gate.ended(self._passed, succeeded=kind is None and self.outcome is None)
        if self.outcome is None and (error is None or is_a(error, Exception)):
            self.outcome = BatchOutcome(self._index, item.value, self.value, error, attempts)
        return is_a(error, Exception)
