"""What the tests of retried calls share: scripted functions, frames of the package, asyncio and trio by one name."""

from __future__ import annotations

import asyncio
import gc
import traceback
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import trio

import booking_resilience
from booking_resilience import RetryPolicy

PACKAGE = str(Path(booking_resilience.__file__).parent)
EXACT = RetryPolicy(jitter=0)
AT_ONCE = RetryPolicy(base_delay=0)


class Script:
    """A function that does what it is told, call by call: raises errors, returns values; the last step is repeated."""

    def __init__(self, *steps: Any) -> None:
        self.steps, self.calls = list(steps), 0

    def __call__(self, *_: Any) -> Any:
        step = self.steps[min(self.calls, len(self.steps) - 1)]
        self.calls += 1
        if isinstance(step, BaseException):
            raise step
        return step

    async def later(self, *args: Any) -> Any:
        """Do the same when awaited."""
        return self(*args)


class Loop(Protocol):
    """An event loop, by what the tests need of it."""

    cancelled: type[BaseException]

    def run(self, main: Callable[[], Awaitable[Any]]) -> Any:
        """Run the coroutine function to its end; a hang fails."""

    async def hang(self) -> Any:
        """Wait for ever."""

    async def hang_in_tasks(self) -> Any:
        """Wait for two tasks that wait for ever."""

    async def pass_on(self) -> None:
        """Let other tasks run."""

    async def cancel_when(self, fn: Callable[[], Awaitable[Any]], ready: Callable[[], bool]) -> None:
        """Run the coroutine function in a task, and cancel it as soon as `ready()` is true."""


class Asyncio:
    """asyncio."""

    cancelled: type[BaseException] = asyncio.CancelledError

    def run(self, main: Callable[[], Awaitable[Any]]) -> Any:
        async def bounded() -> Any:
            async with asyncio.timeout(60):
                return await main()

        return asyncio.run(bounded())

    async def hang(self) -> Any:
        await asyncio.get_running_loop().create_future()

    async def hang_in_tasks(self) -> Any:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.hang())
            tasks.create_task(self.hang())

    async def pass_on(self) -> None:
        await asyncio.sleep(0)

    async def cancel_when(self, fn: Callable[[], Awaitable[Any]], ready: Callable[[], bool]) -> None:
        async def work() -> None:
            await fn()

        task = asyncio.create_task(work())
        while not ready():  # noqa: ASYNC110 - what is waited for is state, not an event
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()


class Trio:
    """trio."""

    cancelled: type[BaseException] = trio.Cancelled

    def run(self, main: Callable[[], Awaitable[Any]]) -> Any:
        async def bounded() -> Any:
            with trio.fail_after(60):
                return await main()

        return trio.run(bounded)

    async def hang(self) -> Any:
        await trio.sleep_forever()

    async def hang_in_tasks(self) -> Any:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.hang)
            nursery.start_soon(self.hang)

    async def pass_on(self) -> None:
        await trio.lowlevel.checkpoint()

    async def cancel_when(self, fn: Callable[[], Awaitable[Any]], ready: Callable[[], bool]) -> None:
        ended = []

        async def work(scope: trio.CancelScope) -> None:
            with scope:
                await fn()
            ended.append(scope.cancelled_caught)

        async with trio.open_nursery() as nursery:
            scope = trio.CancelScope()
            nursery.start_soon(work, scope)
            while not ready():
                await trio.lowlevel.checkpoint()
            scope.cancel()
        assert ended == [True]


LOOPS: list[Loop] = [Asyncio(), Trio()]


def ours(error: BaseException) -> int:
    """Return how many frames of the package stand in the error's traceback."""
    return sum(frame.filename.startswith(PACKAGE) for frame in traceback.extract_tb(error.__traceback__))


def theirs(error: BaseException) -> list[str]:
    """Return the names of the functions in the error's traceback that are not the package's."""
    return [frame.name for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(PACKAGE)]


@contextmanager
def no_cycles() -> Iterator[None]:
    """Fail if the block leaves objects behind that only the cycle collector finds."""
    gc.collect()
    gc.disable()
    try:
        yield
        assert gc.collect() == 0
    finally:
        gc.enable()
