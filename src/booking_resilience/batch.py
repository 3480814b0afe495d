"""Many items, each by itself: retried by itself, failing by itself, a few at a time, drawn from the input as needed."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from booking_resilience.awaitables import name_of
from booking_resilience.checks import check, is_whole
from booking_resilience.crews import TaskCrew, ThreadCrew, task_crew
from booking_resilience.events import log_raised
from booking_resilience.pipeline import Pipeline

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterable

    from booking_resilience.events import RetryEvent

Item = TypeVar("Item")
Value = TypeVar("Value")

logger: logging.Logger = logging.getLogger("booking_resilience.retry")
_DEFAULT = Pipeline()


@dataclass(frozen=True, slots=True)
class BatchOutcome(Generic[Item, Value]):
    """How one item of a batch ended.

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
    error: Exception | None
    attempts: int


@dataclass(frozen=True, slots=True)
class BatchResult(Generic[Item, Value]):
    """How a whole batch ended; `outcomes` are in the order of the input."""

    outcomes: tuple[BatchOutcome[Item, Value], ...]

    @property
    def succeeded(self) -> tuple[BatchOutcome[Item, Value], ...]:
        """The outcomes of the items that succeeded, in order."""
        return tuple(outcome for outcome in self.outcomes if outcome.error is None)

    @property
    def failed(self) -> tuple[BatchOutcome[Item, Value], ...]:
        """The outcomes of the items that failed, in order."""
        return tuple(outcome for outcome in self.outcomes if outcome.error is not None)

    def values(self) -> list[Value]:
        """Return what the function returned for the items that succeeded, in order."""
        return [outcome.value for outcome in self.succeeded]  # type: ignore[misc] # a success has its value

    def raise_if_failed(self) -> None:
        """Raise an `ExceptionGroup` of the errors, in order, if there are any."""
        errors = [outcome.error for outcome in self.outcomes if outcome.error is not None]
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
    check("max_concurrency", max_concurrency, is_whole(max_concurrency), "a whole number, 1 or more")
    work = _Work(fn, pipeline, operation, on_item)
    return _iterate(work, _Source(items), max_concurrency)


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
    check("max_concurrency", max_concurrency, is_whole(max_concurrency), "a whole number, 1 or more")
    work = _Work(fn, pipeline, operation, on_item, is_async=True)
    return _iterate_async(work, _Source(items), max_concurrency)


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
        if not callable(fn):
            raise TypeError(f"fn must be a function of the item, not {fn!r}")
        if not isinstance(pipeline, Pipeline):
            raise TypeError(f"pipeline must be a Pipeline, not {pipeline!r}")
        self._fn, self._pipeline, self._is_async = fn, pipeline, is_async
        self._name = operation or name_of(fn)
        self.is_left = False
        self._on_item = on_item

    def _bind(self, count: _Count) -> Callable[[Any], Any]:
        fn = self._fn if self._is_async else self._call
        return cast("Callable[[Any], Any]", self._pipeline._bind(self._name, fn, count, is_async=self._is_async))

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
            try:
                self._on_item(outcome)
            except Exception as error:  # noqa: BLE001 - a callback's error must not become the batch's
                log_raised(logger, error, "on_item raised")
        return outcome


_END: Any = object()


class _Source:
    """Draws the items; what their iterator raises is kept, to come out after the outcomes of those drawn before it."""

    def __init__(self, items: Iterable[Any] | AsyncIterable[Any]) -> None:
        self.is_async = isinstance(items, AsyncIterable)
        self._items: Any = aiter(items) if isinstance(items, AsyncIterable) else iter(items)
        self.is_open = True
        self._error: Exception | None = None

    def draw(self) -> Any:
        try:
            return next(self._items)
        except StopIteration:
            self.is_open = False
        except Exception as error:  # noqa: BLE001 - it comes out at the end
            self._broke(error)
        return _END

    async def draw_async(self) -> Any:
        try:
            return await anext(self._items)
        except StopAsyncIteration:
            self.is_open = False
        except Exception as error:  # noqa: BLE001 - it comes out at the end
            self._broke(error)
        return _END

    def _broke(self, error: Exception) -> None:
        self.is_open, self._error = False, error
        if error.__traceback__ is not None:
            error.__traceback__ = error.__traceback__.tb_next  # without the frame that drew, which leads back here

    def finish(self) -> None:
        """Raise what broke off the items, if anything did."""
        error, self._error = self._error, None
        if error is not None:
            try:
                raise error
            finally:
                del error


def _iterate(work: _Work, source: _Source, limit: int) -> Generator[BatchOutcome[Any, Any], None, None]:
    crew = ThreadCrew(work.one, limit)
    try:
        while True:
            # One item for each outcome, so that the crew is kept busy; then outcomes first, as the source may be slow.
            due = True
            while source.is_open and crew.ahead < 2 * limit and (due or not crew.has_outcome()):
                due = False
                if (item := source.draw()) is not _END:
                    crew.add(item)
            if not crew.ahead:
                break
            yield work.told(crew.next_outcome())
    finally:
        work.is_left = True
        crew.disband()
    source.finish()


async def _iterate_async(work: _Work, source: _Source, limit: int) -> AsyncGenerator[BatchOutcome[Any, Any], None]:
    crew = task_crew(work.one_async, limit)
    try:
        if source.is_async:
            crew.feed(_feed(source, crew, 2 * limit))
        while True:
            due = True
            while source.is_open and not source.is_async and crew.ahead < 2 * limit and (due or not crew.has_outcome()):
                due = False
                if (item := source.draw()) is not _END:
                    crew.add(item)
            if not await crew.waited():
                break
            yield work.told(crew.next_outcome())
    finally:
        await crew.disband()
    source.finish()


async def _feed(source: _Source, crew: TaskCrew, most: int) -> None:
    """Draw from an asynchronous source, in a task of its own: however slow it is, it holds back no outcome."""
    while source.is_open:
        await crew.room(most)
        if (item := await source.draw_async()) is not _END:
            crew.add(item)
