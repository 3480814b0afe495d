"""What a batch does with each item, and whether it is tried again later."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import closing
from types import TracebackType
from typing import Any, Self

from booking_resilience import clock
from booking_resilience.awaitables import name_of
from booking_resilience.batch.crews import Crew, WorkItem
from booking_resilience.batch.gate import Gate
from booking_resilience.batch.outcomes import BatchOutcome
from booking_resilience.callbacks import check_callback, is_coroutine_function, is_generator_function
from booking_resilience.checks import check_number, check_text, check_type, check_whole, is_a
from booking_resilience.errors import CircuitOpenError, LimitExceededError
from booking_resilience.events import RetryEvent, notify
from booking_resilience.pipeline import Pipeline
from booking_resilience.recording import was_refused
from booking_resilience.signals import TaskSignal, ThreadSignal

logger: logging.Logger = logging.getLogger("booking_resilience.retry")


class _LeftError(BaseException):
    """Ends the attempts of an item whose batch was left; nobody sees it."""


class Work:
    """What is to be done with each item.

    Attributes:
        limit: How many items are worked on at a time, at most.
    """

    def __init__(
        self,
        fn: Callable[[Any], Any],
        pipeline: Pipeline,
        operation: str | None,
        limit: int,
        on_item: Callable[[Any], object] | None,
        max_open_wait: float,
        *,
        is_async: bool = False,
    ) -> None:
        check_whole("max_concurrency", limit)
        check_number("max_open_wait", max_open_wait)
        called = "run_batch_async" if is_async else "run_batch"
        check_type("fn", fn, callable(fn), "a function of the item")
        if is_generator_function(fn):
            raise TypeError(f"{called} was given the generator function {fn!r}, whose body runs after it returned")
        if not is_async and is_coroutine_function(fn):
            raise TypeError(f"{called} was given the coroutine function {fn!r}; use run_batch_async")
        check_type("pipeline", pipeline, isinstance(pipeline, Pipeline), "a Pipeline")
        if operation is not None:
            check_text("operation", operation)
        if on_item is not None:
            check_callback("on_item", on_item, "a function of the outcome or None")
        self.limit: int = limit
        self._fn, self._pipeline, self._is_async = fn, pipeline, is_async
        self._name = operation or name_of(fn)
        self._on_item, self._max_open_wait = on_item, max_open_wait
        self._gate: Gate | None = None
        self._crew: Crew | None = None
        self._is_left = False

    def begin(self, crew: Crew) -> None:
        """Begin the batch: from now on it can be left."""
        self._crew, pipeline = crew, self._pipeline
        is_held_back = any((pipeline.breaker, pipeline.part("limit"), pipeline.part("rate")))
        if self._max_open_wait and is_held_back and pipeline.part("fallback") is None:
            self._gate = Gate(pipeline, self._name, self._max_open_wait)

    def leave(self) -> None:
        """Begin no further attempt."""
        self._is_left, self._crew = True, None  # it leads back here
        if self._gate is not None:
            self._gate.close()

    def one(self, item: WorkItem) -> Any:
        """Try the item, or one that came in its place; return its outcome, or the item if it is to be tried again."""
        gate, signal = self._gate, None
        if gate is not None and gate.is_shut:
            signal = ThreadSignal()
            with closing(gate.enter(signal)) as waits:
                for seconds, by_clock in waits:
                    (clock.sleep if by_clock else signal.wait)(seconds)
            item = self._next(item)
        with _Try(self._pipeline, gate, signal, item) as attempt:
            if attempt.outcome is None:
                attempt.value = self._bind(attempt)(item.value)
        return attempt.taken()

    async def one_async(self, item: WorkItem) -> Any:
        """Do the same as `one`, without blocking the event loop."""
        gate, signal = self._gate, None
        if gate is not None and gate.is_shut:
            signal = TaskSignal()
            with closing(gate.enter(signal)) as waits:
                for seconds, by_clock in waits:
                    await (clock.sleep_async if by_clock else signal.wait)(seconds)
            item = self._next(item)
        with _Try(self._pipeline, gate, signal, item) as attempt:
            if attempt.outcome is None:
                attempt.value = await self._bind(attempt)(item.value)
        return attempt.taken()

    def told(self, outcome: BatchOutcome[Any, Any] | BaseException) -> BatchOutcome[Any, Any]:
        """Return the outcome, having told `on_item` of it; raise what isn't an outcome."""
        if isinstance(outcome, BaseException):
            try:
                raise outcome
            finally:
                del outcome
        if self._on_item is not None:
            notify((self._on_item,), outcome, logger)
        return outcome

    def _next(self, item: WorkItem) -> WorkItem:
        """Return the item to try now: another than one that was sent back, if there is one."""
        crew = self._crew
        return item if item.last is None or crew is None else crew.swap(item)

    def _bind(self, attempt: _Try) -> Callable[[Any], Any]:
        """Return what calls the function as often as the item may be tried yet."""
        fn, made = self._fn if self._is_async else self._call, attempt.item.made
        left = self._pipeline.retry.max_attempts - made if made else None
        return self._pipeline._bind(self._name, fn, attempt, is_async=self._is_async, max_attempts=left)

    def _call(self, item: Any) -> Any:
        """Call the function, but not for a batch that was left while a thread slept before its next attempt."""
        if self._is_left:
            raise _LeftError
        return self._fn(item)


class _Try:
    """One try of an item and its end, in either colour: a context manager around the call, told of the call's events.

    Attributes:
        item: The item.
        value: What the function returned.
        outcome: The item's outcome, or the item itself if it was sent back; set before the call if nobody waits any
            more.
    """

    __slots__ = ("_attempts", "_event", "_gate", "_made", "_pipeline", "_signal", "item", "outcome", "value")

    def __init__(self, pipeline: Pipeline, gate: Gate | None, signal: object, item: WorkItem) -> None:
        self._pipeline, self._gate, self._signal = pipeline, gate, signal
        self.item: WorkItem = item
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
        last, self.item.last = self.item.last, None
        if last is not None and self._gate is not None and self._gate.has_given_up():
            event, self.outcome = last
            self._pipeline._plan.tell(event)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> bool:
        item, gate, is_given_up = self.item, self._gate, self.outcome is not None
        event, self._event = self._event, None  # the error leads to the frame that holds this
        if not is_given_up and (error is None or is_a(error, Exception)):
            self.outcome = BatchOutcome(item.index, item.value, self.value, error, item.made + self._attempts)
            if event is not None and gate is not None:
                item.made, item.last, self.outcome = item.made + self._made, (event, self.outcome), item
                gate.sent_back(self._signal, error)
                return True
        if gate is not None:
            gate.ended(self._signal, succeeded=error is None and not is_given_up)
        return is_a(error, Exception)

    def taken(self) -> Any:
        """Return the outcome and forget it: its error leads to the frame that holds this."""
        outcome, self.outcome = self.outcome, None
        return outcome
