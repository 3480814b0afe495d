"""Many items, each by itself: retried by itself, failing by itself, a few at a time, drawn from the input as needed."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Generator, Iterable
from typing import Any, TypeVar

from booking_resilience.batch.crews import ThreadCrew
from booking_resilience.batch.outcomes import BatchOutcome, BatchResult
from booking_resilience.batch.sources import Source
from booking_resilience.batch.task_crews import task_crew
from booking_resilience.batch.work import Work
from booking_resilience.pipeline import Pipeline

Item = TypeVar("Item")
Value = TypeVar("Value")

_DEFAULT = Pipeline()


def iter_batch(
    fn: Callable[[Item], Value],
    items: Iterable[Item],
    *,
    pipeline: Pipeline = _DEFAULT,
    operation: str | None = None,
    max_concurrency: int = 8,
    on_item: Callable[[BatchOutcome[Item, Value]], object] | None = None,
    max_open_wait: float = 300.0,
) -> Generator[BatchOutcome[Item, Value], None, None]:
    """Call `fn` for each item in threads, and yield the outcomes as they finish.

    Items are drawn as outcomes are taken, so the input may be endless: at most `2 * max_concurrency` items are ahead
    of what was yielded. Leaving early (`break`, `close()`, an interrupt) starts no new items or attempts and doesn't
    wait: a call under way can't be interrupted, and its thread, a daemon, ends after it.

    Args:
        fn: What to do with an item.
        items: The items; drawn in the thread that iterates.
        pipeline: How each call is made; its breaker and budget are shared by all items.
        operation: Its name in events, logs and records; by default the function's own.
        max_concurrency: Calls under way at a time, at most; 1 or more.
        on_item: Told of each outcome, in the thread that iterates; what it raises is logged.
        max_open_wait: Seconds without a success for which items wait while the breaker is open or a limit is full,
            0 or more; then they fail, as all do with 0. One at a time tries whether it works again. An item that has
            made all its attempts doesn't wait, and none does with a fallback or while the breaker is isolated.

    Raises:
        TypeError: If an argument is of the wrong type, such as a coroutine function for threads.
        ValueError: If `max_concurrency` or `max_open_wait` is out of its range.
        Exception: What the iterator of the items raises, after the outcomes of the items drawn before it; and at once
            what `fn` raises if that is no `Exception` (an interrupt, an exit).

    >>> sorted(outcome.value for outcome in iter_batch(len, ["a", "bc"]))
    [1, 2]
    """
    return _iterate(Work(fn, pipeline, operation, max_concurrency, on_item, max_open_wait), Source(items))


def run_batch(
    fn: Callable[[Item], Value],
    items: Iterable[Item],
    *,
    pipeline: Pipeline = _DEFAULT,
    operation: str | None = None,
    max_concurrency: int = 8,
    on_item: Callable[[BatchOutcome[Item, Value]], object] | None = None,
    max_open_wait: float = 300.0,
) -> BatchResult[Item, Value]:
    """Call `fn` for each item in threads, and return all outcomes in the order of the input.

    Arguments and errors as for `iter_batch`.

    >>> run_batch(len, ["a", "bc"]).values()
    [1, 2]
    """
    work = Work(fn, pipeline, operation, max_concurrency, on_item, max_open_wait)
    return _in_order(list(_iterate(work, Source(items))))


def iter_batch_async(
    fn: Callable[[Item], Awaitable[Value]],
    items: Iterable[Item] | AsyncIterable[Item],
    *,
    pipeline: Pipeline = _DEFAULT,
    operation: str | None = None,
    max_concurrency: int = 8,
    on_item: Callable[[BatchOutcome[Item, Value]], object] | None = None,
    max_open_wait: float = 300.0,
) -> AsyncGenerator[BatchOutcome[Item, Value], None]:
    """Do the same as `iter_batch` in tasks, not threads, under asyncio or trio; the items may come asynchronously.

    Arguments and errors as for `iter_batch`.

    Leaving early cancels what is under way; `contextlib.aclosing` makes sure of it where the loop may break.
    """
    work = Work(fn, pipeline, operation, max_concurrency, on_item, max_open_wait, is_async=True)
    return _iterate_async(work, Source(items, may_wait=True))


async def run_batch_async(
    fn: Callable[[Item], Awaitable[Value]],
    items: Iterable[Item] | AsyncIterable[Item],
    *,
    pipeline: Pipeline = _DEFAULT,
    operation: str | None = None,
    max_concurrency: int = 8,
    on_item: Callable[[BatchOutcome[Item, Value]], object] | None = None,
    max_open_wait: float = 300.0,
) -> BatchResult[Item, Value]:
    """Do the same as `run_batch` in tasks instead of threads, under asyncio or trio; arguments as for `iter_batch`."""
    work = Work(fn, pipeline, operation, max_concurrency, on_item, max_open_wait, is_async=True)
    return _in_order([outcome async for outcome in _iterate_async(work, Source(items, may_wait=True))])


def _in_order(outcomes: list[BatchOutcome[Item, Value]]) -> BatchResult[Item, Value]:
    return BatchResult(tuple(sorted(outcomes, key=lambda outcome: outcome.index)))


def _iterate(work: Work, source: Source) -> Generator[BatchOutcome[Any, Any], None, None]:
    crew = ThreadCrew(work.one, source, work.limit)
    try:
        work.begin(crew)
        while crew.has_more():
            yield work.told(crew.next_outcome())
    finally:
        try:
            work.leave()
        finally:
            try:
                crew.disband()
            finally:
                source.close()
    source.finish()


async def _iterate_async(work: Work, source: Source) -> AsyncGenerator[BatchOutcome[Any, Any], None]:
    crew = task_crew(work.one_async, source, work.limit)
    try:
        work.begin(crew)
        if source.is_async:
            crew.feed()
        while await crew.has_more():
            yield work.told(crew.next_outcome())
    finally:
        try:
            work.leave()
        finally:
            try:
                await crew.disband()
            finally:
                await source.aclose()
    source.finish()
