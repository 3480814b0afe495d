"""Two asynchronous calls of which the first success counts, under asyncio and trio."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias, TypeVar

from booking_resilience import clock
from booking_resilience.load.limit import Held, give_back_all

T = TypeVar("T")

Admit: TypeAlias = Callable[[], Held | None]
"""Returns the places that a second call holds; None if there can't be one."""


async def race(call: Callable[[], Awaitable[T]], delay: float | None, admit: Admit) -> T:
    """Make the call, and once more if it takes longer than `delay` and may; return what succeeds first.

    The other is cancelled. If both fail, the first one's error comes out.
    """
    return await (_race_in_trio if clock.in_trio() else _race_in_asyncio)(call, delay, admit)


async def _holding(call: Callable[[], Awaitable[T]], held: Held) -> T:
    try:
        return await call()
    finally:
        give_back_all(held)


async def _race_in_asyncio(call: Callable[[], Awaitable[T]], delay: float | None, admit: Admit) -> T:
    import asyncio

    first = asyncio.ensure_future(_holding(call, ()))
    racers = [first]
    try:
        if delay is not None:
            await asyncio.wait(racers, timeout=delay)
            if not first.done() and (held := admit()) is not None:
                racers.append(asyncio.ensure_future(_holding(call, held)))
        running = set(racers)
        while running:
            ended, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for racer in ended:
                if not racer.cancelled() and racer.exception() is None:
                    return racer.result()
        return first.result()
    finally:
        for racer in racers:
            racer.add_done_callback(_observe)
            racer.cancel()
        racers.clear()


def _observe(racer: Any) -> None:
    """Look at what a loser raised, so that nobody is told of it."""
    if not racer.cancelled():
        racer.exception()


async def _race_in_trio(call: Callable[[], Awaitable[T]], delay: float | None, admit: Admit) -> T:
    import trio

    results: list[T] = []
    errors: dict[int, Exception] = {}
    news = trio.Event()

    async def run(number: int, held: Held) -> None:
        try:
            results.append(await _holding(call, held))
        except Exception as error:  # noqa: BLE001 - it comes out below, outside of the nursery
            errors[number] = error
        news.set()

    async with trio.open_nursery() as nursery:
        racers = 1
        nursery.start_soon(run, 0, ())
        if delay is not None:
            with trio.move_on_after(delay):
                await news.wait()
            if not news.is_set() and (held := admit()) is not None:
                racers = 2
                nursery.start_soon(run, 1, held)
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
