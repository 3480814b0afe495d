"""What a batch does with each item."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import closing
from typing import Any

from booking_resilience import clock
from booking_resilience.awaitables import name_of
from booking_resilience.batch.gate import Gate
from booking_resilience.batch.outcomes import BatchOutcome
from booking_resilience.batch.tries import Ending, WorkItem
from booking_resilience.callbacks import check_callback, is_coroutine_function, is_generator_function
from booking_resilience.checks import check_number, check_text, check_type
from booking_resilience.crews import TaskCrew
from booking_resilience.events import notify
from booking_resilience.pipeline import Pipeline
from booking_resilience.signals import TaskSignal, ThreadSignal
from booking_resilience.thread_crew import Task, ThreadCrew

logger: logging.Logger = logging.getLogger("booking_resilience.retry")


class _LeftError(BaseException):
    """Ends the attempts of an item whose batch was left; nobody sees it."""


class Work:
    """What is to be done with each item."""

    def __init__(
        self,
        fn: Callable[[Any], Any],
        pipeline: Pipeline,
        operation: str | None,
        on_item: Callable[[Any], object] | None,
        max_open_wait: float,
        *,
        is_async: bool = False,
    ) -> None:
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
        self._fn, self._pipeline, self._is_async = fn, pipeline, is_async
        self._name = operation or name_of(fn)
        self.is_left: bool = False
        self._max_open_wait = max_open_wait
        self._is_held_back = any((pipeline.breaker, pipeline.part("limit"), pipeline.part("rate")))
        self._gate: Gate | None = None
        self._swap: Callable[[Task], Task] = _same
        self._on_item = on_item

    def begin(self, crew: ThreadCrew | TaskCrew) -> None:
        """Begin the batch: from now on it can be left."""
        pipeline = self._pipeline
        self._swap = crew.swap
        if self._max_open_wait and self._is_held_back and pipeline.part("fallback") is None:
            self._gate = Gate(pipeline, self._name, self._max_open_wait)

    def leave(self) -> None:
        """Begin no further attempt."""
        self.is_left, self._swap = True, _same  # the crew leads back here
        if self._gate is not None:
            self._gate.close()

    def one(self, index: int, item: WorkItem) -> Any:
        """Return the item's outcome, or a `SentBack`."""
        gate, task, signal = self._gate, (index, item), None
        if gate is not None and gate.is_shut:
            signal = ThreadSignal()
            with closing(gate.enter(signal)) as waits:
                for seconds, by_clock in waits:
                    (clock.sleep if by_clock else signal.wait)(seconds)
            task = self._next(task)
        with Ending(gate, signal, self._pipeline, task) as ending:
            if ending.outcome is None:
                ending.value = self._bind(ending)(ending.item.value)
        return ending.taken()

    async def one_async(self, index: int, item: WorkItem) -> Any:
        """Do the same as `one`, without blocking the event loop."""
        gate, task, signal = self._gate, (index, item), None
        if gate is not None and gate.is_shut:
            signal = TaskSignal()
            with closing(gate.enter(signal)) as waits:
                for seconds, by_clock in waits:
                    await (clock.sleep_async if by_clock else signal.wait)(seconds)
            task = self._next(task)
        with Ending(gate, signal, self._pipeline, task) as ending:
            if ending.outcome is None:
                ending.value = await self._bind(ending)(ending.item.value)
        return ending.taken()

    def _next(self, task: Task) -> Task:
        """Return the item to try now: another than one that was sent back, if there is one."""
        return task if task[1].last is None else self._swap(task)

    def _bind(self, ending: Ending) -> Callable[[Any], Any]:
        """Return what calls the function as often as the item may be tried yet."""
        fn, made = self._fn if self._is_async else self._call, ending.item.made
        left = self._pipeline.retry.max_attempts - made if made else None
        return self._pipeline._bind(self._name, fn, ending, is_async=self._is_async, max_attempts=left)

    def _call(self, item: Any) -> Any:
        """Call the function, but not for a batch that was left while a thread slept before its next attempt."""
        if self.is_left:
            raise _LeftError
        return self._fn(item)

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


def _same(task: Task) -> Task:
    return task
