"""One try of an item: what it ended with, and whether the item is tried again later."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self, cast

from booking_resilience.batch.gate import Gate
from booking_resilience.batch.outcomes import BatchOutcome
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


class Ending:
    """One try of an item and its end, whichever colour: a context manager around the call, told of the call's events.

    Attributes:
        item: The item.
        value: What the function returned.
        outcome: The item's outcome, or a `SentBack`; set before the call if nobody waits any more.
    """

    __slots__ = ("_attempts", "_event", "_gate", "_index", "_made", "_passed", "_pipeline", "item", "outcome", "value")

    def __init__(self, gate: Gate | None, passed: object, pipeline: Pipeline, task: Task) -> None:
        self._gate, self._passed, self._pipeline = gate, passed, pipeline
        self._index: int = task[0]
        self.item: WorkItem = task[1]
        self._attempts, self._made = 1, 0  # a success at the first attempt makes no event
        self._event: RetryEvent | None = None  # the last one of a try that is sent back
        self.value: Any = None
        self.outcome: Any = None

    def __call__(self, event: RetryEvent) -> bool:
        """Take an event; return True if nobody else is to be told of it."""
        error, gate = event.error, self._gate
        self._attempts = 0 if was_refused(error, event.attempt, self._pipeline.breaker) else event.attempt
        if event.outcome != "recovered":
            self._made += not (is_a(error, CircuitOpenError) or is_a(error, LimitExceededError))
        if event.outcome == "gave_up" and gate is not None and gate.takes_back(event, self.item.made + self._made):
            self._event = event
        return self._event is not None

    def __enter__(self) -> Self:
        item, last = self.item, self.item.last
        item.last = None
        if last is not None and self._gate is not None and self._gate.gives_up():
            event, attempts = last
            self._pipeline._plan.tell(event)
            self.outcome = BatchOutcome(self._index, item.value, None, cast("Exception", event.error), attempts)
        return self

    def taken(self) -> Any:
        """Return the outcome and forget it: its error leads to the frame that holds this."""
        outcome, self.outcome = self.outcome, None
        return outcome

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> bool:
        item, gate, attempts = self.item, self._gate, self.item.made + self._attempts
        event, self._event = self._event, None  # the error leads to the frame that holds this
        if event is not None and gate is not None and is_a(error, Exception):
            item.made, item.last = item.made + self._made, (event, attempts)
            self.outcome = SentBack((self._index, item))
            gate.sent_back(self._passed, error)
            return True
        if gate is not None:
            gate.ended(self._passed, succeeded=kind is None and self.outcome is None)
        if self.outcome is None and (error is None or is_a(error, Exception)):
            self.outcome = BatchOutcome(self._index, item.value, self.value, error, attempts)
        return is_a(error, Exception)
