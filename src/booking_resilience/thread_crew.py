"""A crew of threads that works on a batch's items in the background; those of tasks are in crews.py."""

from __future__ import annotations

import contextvars
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeAlias

from booking_resilience.signals import ThreadSignal

_ANOTHER = 0.005  # seconds that a thread waits for the next item to be drawn, rather than take the same one again

Task: TypeAlias = tuple[int, Any]
"""An item, after its place in the input."""


class SentBack:
    """What working on an item returns in place of an outcome, if it is to be worked on again after the others."""

    __slots__ = ("task",)

    def __init__(self, task: Task) -> None:
        self.task: Task = task


class ThreadCrew:
    """Threads, as many as there is work for, up to `limit`.

    Args:
        one: What to do with an item, given its index and itself; returns its outcome.
        limit: Threads at most.
    """

    def __init__(self, one: Callable[[int, Any], Any], limit: int) -> None:
        self._one, self._limit = one, limit
        self._context = contextvars.copy_context()
        self._todo: queue.SimpleQueue[tuple[int, Any] | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._stopped = False
        self._drawn = 0
        self.ahead: int = 0  # items that were added and whose outcomes were not taken

    def add(self, item: Any) -> None:
        """Have an item worked on as soon as a thread is free.

        Raises:
            RuntimeError: If no thread can be started and none is there; with fewer than the limit, those do the work.
        """
        if len(self._threads) < min(self._limit, self.ahead + 1):
            self._start()
        self._todo.put((self._drawn, item))
        self._drawn, self.ahead = self._drawn + 1, self.ahead + 1

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

    def has_outcome(self) -> bool:
        """Tell whether an outcome waits to be taken."""
        return not self._done.empty()

    def next_outcome(self) -> Any:
        """Wait for the next outcome; an interrupt is returned like one."""
        outcome = self._done.get()
        self.ahead -= 1
        return outcome

    def disband(self) -> None:
        """Begin nothing more; wait for the threads if they have nothing to do, leave them to end if they have."""
        self._stopped = True
        for _ in self._threads:
            self._todo.put(None)
        if not self.ahead:
            for thread in self._threads:
                thread.join()

    def swap(self, task: Task) -> Task:
        """Return another item to work on first, and keep this one for later; this one if there is no other."""
        if self._todo.empty():
            ThreadSignal().wait(_ANOTHER)  # not `get` with a timeout: that may hang if another thread takes the item
        try:
            other = self._todo.get_nowait()
        except queue.Empty:
            return task
        self._todo.put(task if other is not None else None)
        return other or task

    def _work(self) -> None:
        while (task := self._todo.get()) is not None and not self._stopped:
            try:
                self._end(self._context.copy().run(self._one, *task))
            except BaseException as error:  # noqa: BLE001 - it is raised in the thread that takes the outcomes
                self._done.put(error)

    def _end(self, outcome: Any) -> None:
        if isinstance(outcome, SentBack):
            self._todo.put(outcome.task)
        else:
            self._done.put(outcome)
