"""Many items, each by itself: retried by itself, failing by itself, a few at a time, drawn from the input as needed."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Generator, Iterable
from dataclasses import dataclass
from typing import Any, Generic, cast

from typing_extensions import TypeVar

from booking_resilience.awaitables import name_of
from booking_resilience.callbacks import check_callback, is_coroutine_function, is_generator_function
from booking_resilience.checks import check_text, check_type, check_whole
from booking_resilience.crews import TaskCrew, ThreadCrew, task_crew
from booking_resilience.events import RetryEvent, notify
from booking_resilience.pipeline import Pipeline
from booking_resilience.sources import END, Source

Item = TypeVar("Item")
Value = TypeVar("Value")
Failure = TypeVar("Failure", bound="Exception | None", default="Exception | None", covariant=True)

logger: logging.Logger = logging.getLogger("booking_resilience.retry")
_DEFAULT = Pipeline()


@dataclass(frozen=True, slots=True)
class BatchOutcome(Generic[Item, Value, Failure]):
    """How one item of a batch ended; the third type says whether it is known to have failed.

    Attributes:
        index: Its place in the input, from 0.
        item: The item.
        value: What the function returned for it; None if it failed.
        error: What came out if it failed; None if it succeeded.
        attempts: How many attempts were made; 0 if the time was over before the first.
    """

    index: int
    item: Item
    value: Value | None
    error: Failure
    attempts: int


@dataclass(frozen=True, slots=True)
class BatchResult(Generic[Item, Value]):
    """How a whole batch ended; `outcomes` are in the order of the input."""

    outcomes: tuple[BatchOutcome[Item, Value], ...]

    @property
    def succeeded(self) -> tuple[BatchOutcome[Item, Value, None], ...]:
        """The outcomes of the items that succeeded, in order."""
        return tuple(cast("Any", outcome) for outcome in self.outcomes if outcome.error is None)

    @property
    def failed(self) -> tuple[BatchOutcome[Item, Value, Exception], ...]:
        """The outcomes of the items that failed, in order."""
        return tuple(cast("Any", outcome) for outcome in self.outcomes if outcome.error is not None)

    def values(self) -> list[Value]:
        """Return what the function returned for the items that succeeded, in order."""
        return [outcome.value for outcome in self.succeeded]  # type: ignore[misc] # a success has its value

    def raise_if_failed(self) -> None:
        """Raise an `ExceptionGroup` of the errors, in order, if there are any."""
        errors = [outcome.error for outcome in self.failed]
        if errors:
            raise ExceptionGroup(f"{len(errors)} of {len(self.outcomes)} items failed", errors)


def iter_batch(
    fn: Callable[[Item], Value],
    items: Iterable[Item],
    *,
    pipeline: Pipeline = _DEFAULT,
    operation: str | None = None,
    max_concurrency: int = 8,
    on_item: Callable[[BatchOutcome[Item, Value]], object] | None = None,
) -> Generator[BatchOutcome[Item, Value], None, None]:
    """Call `fn` for each item in threads, and yield the outcomes as they finish.

    Items are drawn as outcomes are taken, so the input may be endless: at most `2 * max_concurrency` items are ahead
    of what was yielded. Leaving early (`break`, `close()`, an interrupt) begins no further item or attempt, and waits
    for none: a call under way cannot be interrupted, and its thread, a daemon, ends after it.

    Args:
        fn: What to do with an item.
        items: The items; drawn in the thread that iterates.
        pipeline: How each call is made; its breaker and budget are shared by all items.
        operation: Its name in events, logs and records; by default the function's own.
        max_concurrency: Calls under way at a time, at most; 1 or more.
        on_item: Told of each outcome, in the thread that iterates; what it raises is logged.

    Raises:
        ValueError: If `max_concurrency` is out of its range.
        Exception: What the iterator of the items raises, after the outcomes of the items drawn before it; and at once
            what `fn` raises if that is no `Exception` (an interrupt, an exit).

    >>> sorted(outcome.value for outcome in iter_batch(len, ["a", "bc"]))
    [1, 2]
    """
    check_whole("max_concurrency", max_concurrency)
    return _iterate(_Work(fn, pipeline, operation, on_item), Source(items), max_concurrency)


def run_batch(
    fn: Callable[[Item], Value],
    items: Iterable[Item],
    *,
    pipeline: Pipeline = _DEFAULT,
    operation: str | None = None,
    max_concurrency: int = 8,
    on_item: Callable[[BatchOutcome[Item, Value]], object] | None = None,
) -> BatchResult[Item, Value]:
    """Call `fn` for each item in threads, and return all outcomes in the order of the input.

    Arguments and errors as for `iter_batch`.

    >>> run_batch(len, ["a", "bc"]).values()
    [1, 2]
    """
    outcomes = iter_batch(
        fn, items, pipeline=pipeline, operation=operation, max_concurrency=max_concurrency, on_item=on_item
    )
    return _in_order(list(outcomes))


def iter_batch_async(
    fn: Callable[[Item], Awaitable[Value]],
    items: Iterable[Item] | AsyncIterable[Item],
    *,
    pipeline: Pipeline = _DEFAULT,
    operation: str | None = None,
    max_concurrency: int = 8,
    on_item: Callable[[BatchOutcome[Item, Value]], object] | None = None,
) -> AsyncGenerator[BatchOutcome[Item, Value], None]:
    """Do as `iter_batch` in tasks instead of threads, under asyncio or trio; the items may come asynchronously.

    Leaving early cancels what is under way; `contextlib.aclosing` makes sure of it where the loop may break.
    """
    check_whole("max_concurrency", max_concurrency)
    work = _Work(fn, pipeline, operation, on_item, is_async=True)
    return _iterate_async(work, Source(items), max_concurrency)


async def run_batch_async(
    fn: Callable[[Item], Awaitable[Value]],
    items: Iterable[Item] | AsyncIterable[Item],
    *,
    pipeline: Pipeline = _DEFAULT,
    operation: str | None = None,
    max_concurrency: int = 8,
    on_item: Callable[[BatchOutcome[Item, Value]], object] | None = None,
) -> BatchResult[Item, Value]:
    """Do as `run_batch` in tasks instead of threads, under asyncio or trio."""
    outcomes = iter_batch_async(
        fn, items, pipeline=pipeline, operation=operation, max_concurrency=max_concurrency, on_item=on_item
    )
    return _in_order([outcome async for outcome in outcomes])


def _in_order(outcomes: list[BatchOutcome[Item, Value]]) -> BatchResult[Item, Value]:
    return BatchResult(tuple(sorted(outcomes, key=lambda outcome: outcome.index)))


class _Count:
    """Notes how many attempts an item has had; a success at the first attempt makes no event."""

    __slots__ = ("attempts",)

    def __init__(self) -> None:
        self.attempts = 1

    def __call__(self, event: RetryEvent) -> None:
        self.attempts = event.attempt


class _LeftError(BaseException):
    """Ends the attempts of an item whose batch was left; nobody sees it."""


class _Work:
    """What is to be done with each item."""

    def __init__(
        self,
        fn: Callable[[Any], Any],
        pipeline: Pipeline,
        operation: str | None,
        on_item: Callable[[Any], object] | None,
        *,
        is_async: bool = False,
    ) -> None:
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
        self.is_left = False
        self._on_item = on_item

    def _bind(self, count: _Count) -> Callable[[Any], Any]:
        fn = self._fn if self._is_async else self._call
        return self._pipeline._bind(self._name, fn, count, is_async=self._is_async)

    def _call(self, item: Any) -> Any:
        """Call the function, but not for a batch that was left while a thread slept before its next attempt."""
        if self.is_left:
            raise _LeftError
        return self._fn(item)

    def one(self, index: int, item: Any) -> BatchOutcome[Any, Any]:
        count = _Count()
        try:
            value = self._bind(count)(item)
        except Exception as error:  # noqa: BLE001 - it is the item's outcome
            return BatchOutcome(index, item, None, error, count.attempts)
        return BatchOutcome(index, item, value, None, count.attempts)

    async def one_async(self, index: int, item: Any) -> BatchOutcome[Any, Any]:
        count = _Count()
        try:
            value = await self._bind(count)(item)
        except Exception as error:  # noqa: BLE001 - it is the item's outcome
            return BatchOutcome(index, item, None, error, count.attempts)
        return BatchOutcome(index, item, value, None, count.attempts)

    def told(self, outcome: BatchOutcome[Any, Any] | BaseException) -> BatchOutcome[Any, Any]:
        """Return the outcome, having told `on_item` of it; raise what is no outcome."""
        if isinstance(outcome, BaseException):
            try:
                raise outcome
            finally:
                del outcome
        if self._on_item is not None:
            notify((self._on_item,), outcome, logger)
        return outcome


def _iterate(work: _Work, source: Source, limit: int) -> Generator[BatchOutcome[Any, Any], None, None]:
    crew = ThreadCrew(work.one, limit)
    try:
        while True:
            # One item for each outcome, so that the crew is kept busy; then outcomes first, as the source may be slow.
            due = True
            while source.is_open and crew.ahead < 2 * limit and (due or not crew.has_outcome()):
                due = False
                if (item := source.draw()) is not END:
                    crew.add(item)
            if not crew.ahead:
                break
            yield work.told(crew.next_outcome())
    finally:
        work.is_left = True
        try:
            crew.disband()
        finally:
            source.close()
    source.finish()


async def _iterate_async(work: _Work, source: Source, limit: int) -> AsyncGenerator[BatchOutcome[Any, Any], None]:
    crew = task_crew(work.one_async, limit)
    try:
        if source.is_async:
            crew.feed(_feed(source, crew, 2 * limit))
        while True:
            due = True
            while source.is_open and not source.is_async and crew.ahead < 2 * limit and (due or not crew.has_outcome()):
                due = False
                if (item := source.draw()) is not END:
                    crew.add(item)
            if not await crew.waited():
                break
            yield work.told(crew.next_outcome())
    finally:
        try:
            await crew.disband()
        finally:
            await source.aclose()
    source.finish()


async def _feed(source: Source, crew: TaskCrew, most: int) -> None:
    """Draw from an asynchronous source, in a task of its own: however slow it is, it holds back no outcome."""
    while source.is_open:
        await crew.room(most)
        if (item := await source.draw_async()) is not END:
            crew.add(item)
