"""Crews that work on a batch's items in the background: threads here, asyncio's tasks or trio's in task_crews.py.

A crew draws the items as it needs them, works on `limit` of them at a time, and keeps the outcomes until they are
taken. Each item runs in its own copy of the context in which the crew was made.
"""

from __future__ import annotations

import contextvars
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from booking_resilience.batch.outcomes import BatchOutcome
from booking_resilience.batch.sources import END, Source
from booking_resilience.events import RetryEvent
from booking_resilience.signals import ThreadSignal

_ANOTHER = 0.005  # seconds that a thread waits for the next item to be drawn, rather than take the same one again


@dataclass(slots=True, eq=False, repr=False)
class WorkItem:
    """An item, and what it went through before it was sent back.

    Attributes:
        index: Its place in the input, from 0.
        value: The item itself.
        made: Attempts made so far.
        last: How its last try ended, if it was sent back: the event to tell, and its outcome if there is no other try.
    """

    index: int
    value: Any
    made: int = 0
    last: tuple[RetryEvent, BatchOutcome[Any, Any]] | None = None


class Crew:
    """What the crews share: the items to do and the outcomes to take.

    Args:
        one: What to do with an item; returns an outcome, or a `WorkItem` that is to be worked on after the others.
        source: Where the items come from.
        limit: How many are worked on at a time, at most.
    """

    def __init__(self, one: Callable[[WorkItem], Any], source: Source, limit: int) -> None:
        self._one, self._source, self._limit = one, source, limit
        self._context = contextvars.copy_context()
        self._todo: queue.SimpleQueue[Any] = queue.SimpleQueue()  # None ends the threads
        self._done: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._drawn = 0
        self._ahead = 0  # items that were drawn and whose outcomes were not taken
        self._stopped = False

    def next_outcome(self) -> Any:
        """Wait for the next outcome and take it; an interrupt or a cancellation is returned like one."""
        outcome = self._done.get()
        self._ahead -= 1
        return outcome

    def swap(self, item: WorkItem) -> WorkItem:
        """Return another item to work on first, and keep this one for later; this one if there is no other."""
        try:
            other: WorkItem | None = self._todo.get_nowait()
        except queue.Empty:
            return item
        self._todo.put(None if other is None else item)
        return other or item

    def _draw(self) -> None:
        """Draw an item for each outcome that was taken; more while no outcome waits, as the source may be slow."""
        due = True
        while self._source.is_open and self._has_room() and (due or self._done.empty()):
            due = False
            if (value := self._source.draw()) is not END:
                self._add(value)

    def _has_room(self) -> bool:
        return self._ahead < 2 * self._limit

    def _add(self, value: Any) -> None:
        self._todo.put(WorkItem(self._drawn, value))
        self._drawn, self._ahead = self._drawn + 1, self._ahead + 1

    def _end(self, outcome: Any) -> None:
        if isinstance(outcome, WorkItem):
            self._todo.put(outcome)
        else:
            self._done.put(outcome)


class ThreadCrew(Crew):
    """Threads, as many as there is work for, up to the limit; arguments as of `Crew`."""

    def __init__(self, one: Callable[[WorkItem], Any], source: Source, limit: int) -> None:
        super().__init__(one, source, limit)
        self._threads: list[threading.Thread] = []

    def has_more(self) -> bool:
        """Draw what is due; tell whether there is an outcome to wait for.

        Raises:
            RuntimeError: If no thread can be started and none is there; with fewer than the limit, those do the work.
        """
        self._draw()
        return self._ahead > 0

    def swap(self, item: WorkItem) -> WorkItem:
        """Do the same as `Crew.swap`, but give the next item a moment to be drawn."""
        if self._todo.empty():
            ThreadSignal().wait(_ANOTHER)  # not `get` with a timeout: that may hang if another thread takes the item
        return super().swap(item)

    def disband(self) -> None:
        """Begin nothing more; wait for the threads if they have nothing to do, leave them to end if they have."""
        self._stopped = True
        self._todo.put(None)
        if not self._ahead:
            for thread in self._threads:
                thread.join()

    def _add(self, value: Any) -> None:
        if len(self._threads) < min(self._limit, self._ahead + 1):
            self._start()
        super()._add(value)

    def _start(self) -> None:
        for daemon in (True, False):  # a subinterpreter may allow no daemons
            try:
                thread = threading.Thread(target=self._work, name=f"batch-{len(self._threads)}", daemon=daemon)
                thread.start()
            except RuntimeError:
                if not daemon and not self._threads:
                    raise
            else:
                self._threads.append(thread)
                return

    def _work(self) -> None:
        while (item := self._todo.get()) is not None and not self._stopped:
            try:
                self._end(self._context.copy().run(self._one, item))
            except BaseException as error:  # noqa: BLE001 - it is raised in the thread that takes the outcomes
                self._done.put(error)
        self._todo.put(None)  # for the next one, also one that an interrupt kept from being listed when it started
