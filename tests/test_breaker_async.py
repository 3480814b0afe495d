"""The circuit breaker in asyncio and trio tasks."""

from __future__ import annotations

import asyncio
import inspect
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio

from booking_resilience.breaker import CircuitBreaker
from booking_resilience.errors import CircuitOpenError
from booking_resilience.events import BreakerState
from booking_resilience.testing.time import VirtualClock, virtual_time

if TYPE_CHECKING:
    from collections.abc import Iterator

CLOSED, OPEN, HALF_OPEN, ISOLATED = BreakerState


@pytest.fixture
def clock() -> Iterator[VirtualClock]:
    """Virtual time for the whole test."""
    with virtual_time() as virtual:
        yield virtual


async def seven() -> int:
    """Succeed."""
    return 7


async def fails() -> None:
    """Fail."""
    raise OSError


def at_the_door(clock: VirtualClock) -> CircuitBreaker:
    """Return a breaker whose cooldown is over."""
    breaker = CircuitBreaker("b", failure_threshold=1)
    breaker.acquire().failure()
    clock.advance(30)
    return breaker


def test_call_async_the_decorator_and_the_guard_count_alike() -> None:
    """Each counts a failure, and each is refused when it is open."""

    async def main() -> None:
        breaker = CircuitBreaker("b", failure_threshold=3)
        decorated, decorated_fails = breaker(seven), breaker(fails)
        assert inspect.iscoroutinefunction(decorated)
        assert await decorated() == await breaker.call_async(seven) == 7
        with pytest.raises(OSError):  # noqa: PT011 - the error has no text
            await decorated_fails()
        with pytest.raises(OSError):  # noqa: PT011 - the error has no text
            await breaker.call_async(fails)
        assert breaker.snapshot().consecutive_failures == 2
        assert await decorated() == 7
        assert breaker.snapshot().consecutive_failures == 0
        with pytest.raises(OSError):  # noqa: PT011 - the error has no text
            await breaker.call_async(fails)
        assert await breaker.call_async(seven) == 7
        assert breaker.snapshot().consecutive_failures == 0
        for _ in range(3):
            with pytest.raises(OSError):  # noqa: PT011 - the error has no text
                async with breaker.guard():
                    await fails()
        for use in (decorated, partial(breaker.call_async, seven), breaker.guard().__aenter__):
            with pytest.raises(CircuitOpenError):
                await use()

    asyncio.run(main())


def test_call_async_refuses_what_cannot_be_awaited(clock: VirtualClock) -> None:
    """A plain function raises `TypeError` naming `call`, and is no verdict, closed or in a trial."""

    async def main(breaker: CircuitBreaker) -> None:
        with pytest.raises(TypeError, match="use call"):
            await breaker.call_async(int)  # type: ignore[arg-type] - that is the point
        assert breaker.snapshot().failures == 0 or breaker.state is HALF_OPEN
        assert await breaker.call_async(seven) == 7
        assert breaker.state is CLOSED

    for breaker in (CircuitBreaker("b"), at_the_door(clock)):
        asyncio.run(main(breaker))


def test_of_fifty_tasks_one_is_the_trial(clock: VirtualClock) -> None:
    """50 tasks at the half-open door: one is admitted, 49 are refused."""
    breaker = at_the_door(clock)

    async def main() -> list[object]:
        async def slow() -> int:
            for _ in range(3):
                await asyncio.sleep(0)
            return 7

        return await asyncio.gather(*(breaker.call_async(slow) for _ in range(50)), return_exceptions=True)

    results = asyncio.run(main())
    assert results.count(7) == 1
    assert sum(isinstance(result, CircuitOpenError) for result in results) == 49
    assert breaker.state is CLOSED


@pytest.mark.parametrize("way", ["call", "decorated", "guard"])
@pytest.mark.parametrize("is_trial", [False, True])
def test_a_cancelled_call_gives_its_permit_back(clock: VirtualClock, way: str, is_trial: bool) -> None:
    """Cancellation by asyncio is no verdict: the next caller gets the trial's place."""
    breaker = at_the_door(clock) if is_trial else CircuitBreaker("b", failure_threshold=1)

    async def main() -> None:
        begun = asyncio.Event()

        async def hang() -> None:
            begun.set()
            await asyncio.Event().wait()

        async def guarded() -> None:
            async with breaker.guard():
                await hang()

        uses = {"call": partial(breaker.call_async, hang), "decorated": breaker(hang), "guard": guarded}
        task = asyncio.ensure_future(uses[way]())
        await begun.wait()
        failures = breaker.snapshot().failures
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert breaker.state is (HALF_OPEN if is_trial else CLOSED)
        assert breaker.snapshot().failures == failures
        assert await breaker.call_async(seven) == 7
        assert breaker.state is CLOSED

    asyncio.run(main())


def test_a_coroutine_that_is_closed_or_never_awaited_holds_no_trial(clock: VirtualClock) -> None:
    """`GeneratorExit` is no verdict, and before its first step a call holds nothing."""
    breaker = at_the_door(clock)

    class Pause:
        def __await__(self) -> Iterator[None]:
            yield

    async def hang() -> None:
        await Pause()

    for protected in (partial(breaker.call_async, hang), breaker(hang)):
        never = protected()
        running = protected()
        running.send(None)
        assert breaker.state is HALF_OPEN
        with pytest.raises(CircuitOpenError):
            breaker.acquire()
        running.close()
        never.close()
        breaker.acquire().release()


def test_a_cancelled_trio_task_gives_its_permit_back(clock: VirtualClock) -> None:
    """Cancellation by trio is no verdict either, and the other ways work under trio."""
    breaker = at_the_door(clock)

    async def main() -> None:
        with trio.move_on_after(0) as scope:
            await breaker.call_async(trio.sleep_forever)
        assert scope.cancelled_caught
        assert breaker.state is HALF_OPEN
        async with trio.open_nursery() as nursery, breaker.guard():
            nursery.cancel_scope.cancel()
            await trio.lowlevel.checkpoint()
        assert breaker.state is HALF_OPEN
        assert await breaker(seven)() == 7
        assert breaker.state is CLOSED

    trio.run(main)


def test_a_hanging_trial_is_given_up_on(clock: VirtualClock) -> None:
    """A task that never ends loses its trial; its late success changes nothing."""
    breaker = at_the_door(clock)

    async def main() -> None:
        go, begun = asyncio.Event(), asyncio.Event()

        async def hang() -> int:
            begun.set()
            await go.wait()
            return 7

        task = asyncio.ensure_future(breaker.call_async(hang))
        await begun.wait()
        clock.advance(60)
        with pytest.raises(CircuitOpenError):
            await breaker.call_async(seven)
        assert breaker.state is OPEN
        go.set()
        assert await task == 7
        assert (breaker.state, breaker.snapshot().stale) == (OPEN, 1)

    asyncio.run(main())
