"""Calls in threads or tasks of their own, so that their callers needn't wait for the end."""

from __future__ import annotations

import contextvars
import os
import threading
import weakref
from collections.abc import Callable
from typing import Any

from booking_resilience.awaitables import not_awaitable
from booking_resilience.callbacks import is_awaitable
from booking_resilience.checks import is_a
from booking_resilience.load.places import Held, around_and_own, give_back_all, held
from booking_resilience.locks import new_lock
from booking_resilience.signals import TaskSignal, ThreadSignal

renewed_by_forks: weakref.WeakSet[Any] = weakref.WeakSet()
"""What begins anew in a forked child, where no thread of its parent runs: its `_forked` is called there."""


class OwnCall:
    """One call in a thread or a task of its own.

    Args:
        call: What to call, without arguments.
        signal: Is woken when the call has ended.

    Attributes:
        is_over: Whether it has ended.
        error: What it raised; None if it returned.
    """

    error: BaseException | None

    def __init__(self, call: Callable[[], Any], signal: ThreadSignal | TaskSignal) -> None:
        self._call: Callable[[], Any] | None = call
        self._signal = signal
        self.is_over = False
        self._value: Any = None
        self.error = None

    def result(self) -> Any:
        """Return what the call returned, or raise what it raised; it is over."""
        error, self.error = self.error, None
        if error is None:
            return self._value
        try:
            raise error
        finally:
            del error  # its traceback leads back to this frame


class ThreadCall(OwnCall):
    """A call in a daemon thread, with the context variables of whoever made it.

    What the calling code holds, the thread keeps until it ends.

    Args:
        abandoned: Holds the calls that nobody waits for any more and that still run.
        taken: Places that it has in place of those of the innermost pipeline with a limit, if it has any.

    Raises:
        RuntimeError: If no thread can be started; the places are given back.
    """

    def __init__(
        self, call: Callable[[], Any], signal: ThreadSignal, abandoned: set[Any], taken: Held | None = None
    ) -> None:
        super().__init__(call, signal)
        shared = held.get() if taken is None else around_and_own(held.get())[0]
        for limit, place in shared:
            limit._share(place)
        self._places = (*shared, *(taken or ()))
        self._abandoned = abandoned
        self._lock = new_lock()
        context = contextvars.copy_context()
        context.run(held.set, self._places)
        try:
            threading.Thread(target=context.run, args=(self._run,), daemon=True).start()
        except RuntimeError:
            give_back_all(self._places)
            raise

    def abandon(self) -> bool:
        """Wait for it no longer; what it returns or raises is dropped. Return False if it has ended by now."""
        with self._lock:
            if not self.is_over:
                self._abandoned.add(self)
            return not self.is_over

    def _run(self) -> None:
        call, self._call = self._call, None
        try:
            if call is not None:
                self._value = call()
        except BaseException as error:  # noqa: BLE001 - it is handed to whoever waits, or dropped
            self.error = error
        finally:
            call = None
            with self._lock:
                self.is_over = True
                if self in self._abandoned:
                    self._abandoned.remove(self)
                    self._value = self.error = None
            give_back_all(self._places)
            self._signal.wake()


class TaskCall(OwnCall):
    """A call in a task of asyncio or trio.

    Args:
        spawn: Makes a task of a coroutine function; whoever abandons the call cancels it.
        taken: As of a `ThreadCall`.
    """

    error: BaseException | None  # said again: type checkers take it from the assignment below else

    def __init__(
        self, call: Callable[[], Any], signal: TaskSignal, spawn: Callable[[Any], object], taken: Held = ()
    ) -> None:
        super().__init__(call, signal)
        self._taken, self._is_abandoned = taken, False
        spawn(self._run)

    def abandon(self) -> None:
        """Drop what it returns or raises."""
        self._is_abandoned = True

    async def _run(self) -> None:
        call, self._call = self._call, None
        try:
            if self._taken:
                held.set((*around_and_own(held.get())[0], *self._taken))
            if call is not None:
                if not is_awaitable(awaitable := call()):
                    raise not_awaitable(call, "Hedge.call_async", "call")
                self._value = await awaitable
        except BaseException as error:
            if not self._is_abandoned:
                self.error = error
            elif not is_a(error, Exception):
                raise
        finally:
            call = None
            self.is_over = True
            give_back_all(self._taken)
            self._signal.wake()


def _after_fork() -> None:
    for counted in tuple(renewed_by_forks):
        counted._forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
