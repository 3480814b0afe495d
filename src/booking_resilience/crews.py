"""Crews that work on a batch's items in the background: asyncio's tasks or trio's; see thread_crew.py for threads.

A crew works on `limit` items at a time and keeps the outcomes until they are taken. Each item runs in its own copy of
the context in which the crew was made.
"""

from __future__ import annotations

import abc
import collections
import contextvars
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from booking_resilience import clock
from booking_resilience.thread_crew import SentBack, Task


def task_crew(one: Callable[[int, Any], Awaitable[Any]], limit: int) -> TaskCrew:
    """Return a crew of tasks for the event loop that is running: trio's, or else asyncio's."""
    return _TrioCrew(one, limit) if clock.in_trio() else _AsyncioCrew(one, limit)


class TaskCrew(abc.ABC):
    """One task an item, the next one begun when one has ended: as `ThreadCrew`, but that waiting is asynchronous."""

    def __init__(self, one: Callable[[int, Any], Awaitable[Any]], limit: int, new_event: Callable[[], Any]) -> None:
        self._one, self._limit, self._new_event = one, limit, new_event
        self._event = new_event()
        self._context = contextvars.copy_context()
        self._todo: collections.deque[tuple[int, Any]] = collections.deque()
        self._done: collections.deque[Any] = collections.deque()
        self._running = self._drawn = 0
        self.ahead: int = 0  # items that were added and whose outcomes were not taken
        self._is_fed = self._is_beginning = False

    def add(self, item: Any) -> None:
        """Have an item worked on as soon as the limit lets it."""
        self._todo.append((self._drawn, item))
        self._drawn, self.ahead = self._drawn + 1, self.ahead + 1
        self._begin()

    def has_outcome(self) -> bool:
        """Tell whether an outcome waits to be taken."""
        return bool(self._done)

    async def waited(self) -> bool:
        """Wait for the next outcome; False if none is to come any more."""
        while not self._done:
            if not self.ahead and not self._is_fed:
                return False
            await self._wait()
        return True

    def next_outcome(self) -> Any:
        """Take the outcome that was waited for; a cancellation is returned like one."""
        self.ahead -= 1
        if self._is_fed:
            self._wake()
        return self._done.popleft()

    def feed(self, feeder: Coroutine[Any, Any, None]) -> None:
        """Run what adds the items in a task of its own; until it ends, there may be outcomes to come."""
        self._is_fed = True
        self._spawn(self._feed(feeder), self._context.copy())

    async def _feed(self, feeder: Coroutine[Any, Any, None]) -> None:
        try:
            await feeder
        except BaseException as error:
            self._done.append(error)
            self.ahead += 1
            raise
        finally:
            self._is_fed = False
            self._wake()

    async def room(self, most: int) -> None:
        """Wait until fewer than `most` items are ahead."""
        while self.ahead >= most:
            await self._wait()

    def _begin(self) -> None:
        if self._is_beginning:  # an eager task has ended while it was begun: the loop below goes on with the next
            return
        self._is_beginning = True
        try:
            while self._todo and self._running < self._limit:
                self._running += 1
                self._spawn(self._task(*self._todo.popleft()), self._context.copy())
        finally:
            self._is_beginning = False

    def swap(self, task: Task) -> Task:
        """Return another item to work on first, and keep this one for later; this one if there is no other."""
        if not self._todo:
            return task
        self._todo.append(task)
        return self._todo.popleft()

    def _end(self, outcome: Any) -> None:
        if isinstance(outcome, SentBack):
            self._todo.append(outcome.task)
        else:
            self._done.append(outcome)

    async def _task(self, index: int, item: Any) -> None:
        try:
            self._end(await self._one(index, item))
        except BaseException as error:
            self._done.append(error)
            raise
        finally:
            self._running -= 1
            self._wake()
            self._begin()

    @abc.abstractmethod
    def _spawn(self, task: Coroutine[Any, Any, None], context: contextvars.Context) -> None: ...

    async def _wait(self) -> None:
        await self._event.wait()

    def _wake(self) -> None:
        self._event.set()
        self._event = self._new_event()

    @abc.abstractmethod
    async def disband(self) -> None:
        """Cancel what is under way, and wait until it has ended."""


class _AsyncioCrew(TaskCrew):
    def __init__(self, one: Callable[[int, Any], Awaitable[Any]], limit: int) -> None:
        import asyncio

        super().__init__(one, limit, asyncio.Event)
        self._loop = asyncio.get_running_loop()
        self._tasks: set[Any] = set()

    def _spawn(self, task: Coroutine[Any, Any, None], context: contextvars.Context) -> None:
        started = self._loop.create_task(task, context=context)
        self._tasks.add(started)
        started.add_done_callback(self._ended)

    def _ended(self, task: Any) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # it was handed to the consumer already

    async def disband(self) -> None:
        import asyncio

        self._todo.clear()
        for task in tuple(self._tasks):
            task.cancel()
        again: asyncio.CancelledError | None = None
        while self._tasks:
            try:
                await asyncio.wait(tuple(self._tasks))
            except asyncio.CancelledError as error:  # a second one must not leave tasks behind
                again = error
        self._done.clear()  # the tracebacks of cancellations lead back here
        if again is not None:
            try:
                raise again
            finally:
                del again


class _TrioCrew(TaskCrew):
    """System tasks rather than a nursery: a nursery must not be held open over the `yield` of a generator."""

    def __init__(self, one: Callable[[int, Any], Awaitable[Any]], limit: int) -> None:
        import trio

        super().__init__(one, limit, trio.Event)
        self._trio = trio
        self._scopes: set[Any] = set()
        self._alive = 0

    def _spawn(self, task: Coroutine[Any, Any, None], context: contextvars.Context) -> None:
        scope = self._trio.CancelScope()
        self._scopes.add(scope)  # now: the crew may be disbanded before the task has begun
        self._alive += 1
        self._trio.lowlevel.spawn_system_task(self._run, task, scope, context=context)

    async def _run(self, task: Coroutine[Any, Any, None], scope: Any) -> None:
        with scope:
            try:
                if scope.cancel_called:
                    task.close()
                else:
                    await task
            except self._trio.Cancelled:
                raise
            except BaseException:  # noqa: BLE001, S110 - it was handed to the consumer; here it would end trio itself
                pass
            finally:
                self._scopes.discard(scope)
                self._alive -= 1
                self._wake()

    async def disband(self) -> None:
        self._todo.clear()
        for scope in self._scopes:
            scope.cancel()
        with self._trio.CancelScope(shield=True):
            while self._alive:
                await self._wait()
        self._done.clear()  # the tracebacks of cancellations lead back here
