"""Crews of tasks that work on a batch's items in the background: asyncio's or trio's; for threads see crews.py."""

from __future__ import annotations

import abc
import queue
from collections.abc import Callable, Coroutine
from typing import Any

from booking_resilience import clock
from booking_resilience.batch.crews import Crew, WorkItem
from booking_resilience.batch.sources import END, Source


def task_crew(one: Callable[[WorkItem], Any], source: Source, limit: int) -> TaskCrew:
    """Return a crew of tasks for the event loop that is running: trio's, or else asyncio's."""
    return _TrioCrew(one, source, limit) if clock.in_trio() else _AsyncioCrew(one, source, limit)


class TaskCrew(Crew, abc.ABC):
    """One task an item, the next one begun when one has ended; `one` is a coroutine function."""

    _new_event: Callable[[], Any]

    def __init__(self, one: Callable[[WorkItem], Any], source: Source, limit: int) -> None:
        super().__init__(one, source, limit)
        self._event = self._new_event()
        self._under_way: set[Any] = set()  # tasks of asyncio or scopes of trio
        self._running = 0
        self._is_fed = self._is_beginning = False

    async def has_more(self) -> bool:
        """Draw what is due and wait for the next outcome; False if none is to come any more."""
        if not self._source.is_async:
            self._draw()
        while self._done.empty() and (self._ahead or self._is_fed):
            await self._wait()
        return not self._done.empty()

    def next_outcome(self) -> Any:
        """Take the outcome that was waited for."""
        outcome = super().next_outcome()
        if self._is_fed:
            self._wake()
        return outcome

    def feed(self) -> None:
        """Draw from an asynchronous source, in a task of its own: however slow it is, it holds back no outcome."""
        self._is_fed = True
        self._spawn(self._feed())

    async def _feed(self) -> None:
        try:
            while self._source.is_open and not self._stopped:  # a source may swallow its cancellation
                while not self._has_room():
                    await self._wait()
                if (value := await self._source.draw_async()) is not END:
                    self._add(value)
        except BaseException as error:
            self._ahead += 1
            self._done.put(error)
            raise
        finally:
            self._is_fed = False

    def _add(self, value: Any) -> None:
        super()._add(value)
        self._begin()

    def _begin(self) -> None:
        if self._is_beginning:  # an eager task has ended while it was begun: the loop below goes on with the next
            return
        self._is_beginning = True
        try:
            while self._running < self._limit and not (self._stopped or self._todo.empty()):
                self._running += 1
                self._spawn(self._task(self._todo.get_nowait()))
        finally:
            self._is_beginning = False

    async def _task(self, item: WorkItem) -> None:
        try:
            self._end(await self._one(item))
        except BaseException as error:
            self._done.put(error)
            raise
        finally:
            self._running -= 1
            self._begin()

    async def _wait(self) -> None:
        await self._event.wait()

    def _wake(self) -> None:
        self._event.set()
        self._event = self._new_event()

    async def disband(self) -> None:
        """Cancel what is under way, and wait until it has ended."""
        self._stopped = True
        for task in tuple(self._under_way):
            task.cancel()
        try:
            await self._all_ended()
        finally:
            self._done = queue.SimpleQueue()  # the tracebacks of cancellations lead back here

    @abc.abstractmethod
    def _spawn(self, task: Coroutine[Any, Any, None]) -> None:
        """Begin a task, in a context of its own, and wake whoever waits when it has ended."""

    @abc.abstractmethod
    async def _all_ended(self) -> None:
        """Wait until nothing is under way, even if the waiting is cancelled."""


class _AsyncioCrew(TaskCrew):
    def __init__(self, one: Callable[[WorkItem], Any], source: Source, limit: int) -> None:
        import asyncio

        self._loop, self._new_event = asyncio.get_running_loop(), asyncio.Event
        super().__init__(one, source, limit)

    def _spawn(self, task: Coroutine[Any, Any, None]) -> None:
        started = self._loop.create_task(task, context=self._context.copy())
        self._under_way.add(started)
        started.add_done_callback(self._ended)

    def _ended(self, task: Any) -> None:
        self._under_way.discard(task)
        if not task.cancelled():
            task.exception()  # it was handed to the consumer already
        self._wake()

    async def _all_ended(self) -> None:
        import asyncio

        again: asyncio.CancelledError | None = None
        while self._under_way:
            try:
                await self._wait()
            except asyncio.CancelledError as error:  # a second one must not leave tasks behind
                again = error
        if again is not None:
            try:
                raise again
            finally:
                del again


class _TrioCrew(TaskCrew):
    """System tasks rather than a nursery: a nursery must not be held open over the `yield` of a generator."""

    def __init__(self, one: Callable[[WorkItem], Any], source: Source, limit: int) -> None:
        import trio

        self._trio, self._new_event = trio, trio.Event
        super().__init__(one, source, limit)

    def _spawn(self, task: Coroutine[Any, Any, None]) -> None:
        scope = self._trio.CancelScope()
        self._under_way.add(scope)  # now: the crew may be disbanded before the task has begun
        self._trio.lowlevel.spawn_system_task(self._run, task, scope, context=self._context.copy())

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
                self._under_way.discard(scope)
                self._wake()

    async def _all_ended(self) -> None:
        with self._trio.CancelScope(shield=True):
            while self._under_way:
                await self._wait()
