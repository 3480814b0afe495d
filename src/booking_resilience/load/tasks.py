"""Two asynchronous calls of which the first success counts, under asyncio and trio."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from booking_resilience import clock
from booking_resilience.awaitables import not_awaitable
from booking_resilience.callbacks import is_awaitable
from booking_resilience.load.places import Held, give_back_all, held

Admit: TypeAlias = Callable[[], Held | None]
"""Returns the places that a second call holds; None if there can't be one."""


async def race(call: Callable[[], Awaitable[Any]], delay: float | None, admit: Admit) -> Any:
    """Make the call, and once more if it takes longer than `delay` and may; return what succeeds first.

    The other is cancelled. If both fail, the first one's error comes out.
    """
    return await (_race_in_trio if clock.in_trio() else _race_in_asyncio)(call, delay, admit)


async def _made(call: Callable[[], Awaitable[Any]], places: Held | None = None) -> Any:
    """Make a call, in a task of its own; with places that it alone holds, if they are given."""
    if places is not None:
        held.set(places)
    try:
        awaitable = call()
        if not is_awaitable(awaitable):
            raise not_awaitable(call, "Hedge.call_async", "call")
        return await awaitable
    finally:
        give_back_all(places or ())


async def _race_in_asyncio(call: Callable[[], Awaitable[Any]], delay: float | None, admit: Admit) -> Any:
    import asyncio

    racers = [asyncio.ensure_future(_made(call))]
    try:
        if delay is not None:
            await asyncio.wait(racers, timeout=delay)
            if not racers[0].done() and (places := admit()) is not None:
                racers.append(asyncio.ensure_future(_made(call, places)))
        while not any(racer.done() and _has_succeeded(racer) for racer in racers):
            running = [racer for racer in racers if not racer.done()]
            if not running:
                break
            await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            running.clear()
        winner = next((index for index, racer in enumerate(racers) if racer.done() and _has_succeeded(racer)), 0)
        return racers[winner].result()
    finally:
        _drop(racers)


def _drop(racers: list[Any]) -> None:
    """Cancel the tasks, and forget them: their errors' tracebacks lead to the frame that holds the list."""
    for racer in racers:
        racer.add_done_callback(_has_succeeded)  # which looks at what a loser raised, so that nobody is told of it
        racer.cancel()
    racers.clear()


def _has_succeeded(racer: Any) -> bool:
    return not racer.cancelled() and racer.exception() is None


async def _race_in_trio(call: Callable[[], Awaitable[Any]], delay: float | None, admit: Admit) -> Any:
    import trio

    results: list[Any] = []
    errors: dict[int, BaseException] = {}
    news = trio.Event()

    async def run(number: int, places: Held | None = None) -> None:
        try:
            results.append(await _made(call, places))
        except trio.Cancelled:
            raise
        except BaseException as error:  # noqa: BLE001 - it comes out below, outside of the nursery
            errors[number] = error
        news.set()

    async with trio.open_nursery() as nursery:
        racers = 1
        nursery.start_soon(run, 0)
        if delay is not None:
            with trio.move_on_after(delay):
                await news.wait()
            if not news.is_set() and (places := admit()) is not None:
                racers = 2
                nursery.start_soon(run, 1, places)
        while not results and len(errors) < racers:
            await news.wait()
            news = trio.Event()
        nursery.cancel_scope.cancel()
    if results:
        return results[0]
    try:
        raise errors[0]
    finally:
        errors.clear()
